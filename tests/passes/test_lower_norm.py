"""Lowered norms against the modules they come from, through references and natively."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function
from fusec_testing.lowered import check_lowered
from torch import nn

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

NORM = {TileOp.NORM}


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.LayerNorm(33), (1, 7, 33)),
        (nn.LayerNorm((5, 7)), (1, 3, 5, 7)),
        (nn.LayerNorm(33, elementwise_affine=False), (1, 7, 33)),
        (nn.LayerNorm(33, bias=False), (1, 7, 33)),
        (nn.LayerNorm(1), (1, 7, 1)),
        (nn.RMSNorm(48), (1, 7, 48)),
        (nn.RMSNorm(48, eps=1e-3), (1, 7, 48)),
        (nn.GroupNorm(4, 12), (1, 12, 5, 9)),
        (nn.GroupNorm(4, 12), (1, 12)),
        (nn.GroupNorm(3, 12), (2, 12, 5)),
        (nn.InstanceNorm2d(6, affine=True), (1, 6, 5, 9)),
        (nn.InstanceNorm1d(6), (1, 6, 50)),
    ],
)
def test_modules(module: nn.Module, shape: tuple[int, ...]) -> None:
    check_lowered(module, torch.randn(shape), expect=NORM)


def test_rows_that_do_not_lie_as_such_are_copied() -> None:
    module = Function(lambda x: F.layer_norm(x.transpose(1, 2), (7,)))
    made = check_lowered(module, torch.randn(1, 7, 33), expect=NORM)
    assert made.ops().count(TileOp.COPY) == 2


@pytest.mark.parametrize("groups", [1, 8, 64])
def test_channels_last_stay_where_they_are(groups: int) -> None:
    module = Function(
        lambda x, w, b: F.group_norm(x.permute(0, 3, 1, 2), groups, w, b).permute(0, 2, 3, 1),
        torch.randn(64), torch.randn(64),
    )  # fmt: skip
    made = check_lowered(module, torch.randn(1, 5, 9, 64), expect=NORM)
    assert made.ops() == [TileOp.NORM, TileOp.COPY]


def test_any_number_of_rows() -> None:
    tokens = {0: {1: Symbol("s0", 2, None)}}
    others = [(torch.randn(1, n, 20),) for n in (2, 31)]
    module = nn.LayerNorm(20)
    check_lowered(module, torch.randn(1, 5, 20), expect=NORM, dynamic=tokens, others=others)


def test_any_extent_of_space() -> None:
    space = {0: {2: Symbol("s0", 2, None)}}
    others = [(torch.randn(1, 12, n),) for n in (2, 70)]
    module = nn.GroupNorm(3, 12)
    check_lowered(module, torch.randn(1, 12, 5), expect=NORM, dynamic=space, others=others)
    last = Function(lambda x: F.group_norm(x.transpose(1, 2), 3))
    length = {0: {1: Symbol("s0", 2, None)}}
    others = [(torch.randn(1, n, 12),) for n in (2, 70)]
    check_lowered(last, torch.randn(1, 5, 12), expect=NORM, dynamic=length, others=others)


def test_other_dtypes_are_left_to_torch() -> None:
    module = Function(lambda x: F.layer_norm(x, (8,)))
    with pytest.raises(AssertionError, match="extern"):
        check_lowered(module, torch.randn(1, 3, 8).double(), expect=NORM)
