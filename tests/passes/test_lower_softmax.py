"""Lowered softmax against torch, through references and natively."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import Function
from fusec_testing.lowered import check_lowered

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

SOFTMAX = {TileOp.SOFTMAX}


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_every_axis(function, axis: int) -> None:
    check_lowered(Function(lambda x: function(x, axis)), torch.randn(3, 7, 33), expect=SOFTMAX)


def test_channels_last_are_not_copied() -> None:
    module = Function(lambda x: x.permute(0, 3, 1, 2).softmax(1))
    made = check_lowered(module, torch.randn(1, 5, 6, 21), expect=SOFTMAX)
    assert made.ops() == [TileOp.SOFTMAX, TileOp.COPY]


def test_symbolic_extents() -> None:
    square = {0: {1: Symbol("s0", 2, None)}}
    others = [(torch.randn(2, n, 3),) for n in (2, 40)]
    for axis in (1, 2):
        module = Function(lambda x, axis=axis: x.softmax(axis))
        given = torch.randn(2, 5, 3)
        check_lowered(module, given, expect=SOFTMAX, dynamic=square, others=others)


def test_another_dtype_is_left_to_torch() -> None:
    with pytest.raises(AssertionError, match="extern"):
        check_lowered(Function(lambda x: x.softmax(1)), torch.randn(3, 4).double(), expect=SOFTMAX)
