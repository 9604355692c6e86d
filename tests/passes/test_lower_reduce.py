"""Lowered reductions against torch, through references and natively."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import Function
from fusec_testing.lowered import check_lowered

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

REDUCE = {TileOp.REDUCE}
AXES = [(0,), (1,), (2,), (3,), (2, 3), (1, 2), (1, 3), (0, 3), (1, 2, 3), (0, 1, 2, 3)]


def _check(function, *inputs: torch.Tensor, copies: int | None = None, **more) -> None:
    made = check_lowered(Function(function), *inputs, expect=REDUCE, **more)
    assert copies is None or made.ops().count(TileOp.COPY) == copies


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "logsumexp"])
@pytest.mark.parametrize("axes", AXES)
def test_every_choice_of_axes(name: str, axes: tuple[int, ...]) -> None:
    function = getattr(torch, name)
    _check(lambda x: function(x, axes), torch.randn(2, 6, 5, 7))
    turned = torch.randn(2, 5, 7, 6)
    _check(lambda x: function(x.permute(0, 3, 1, 2), axes, keepdim=True), turned)


def test_pooling_channels_last_reads_them_in_place() -> None:
    for keepdim in (False, True):
        _check(
            lambda x, k=keepdim: x.permute(0, 3, 1, 2).mean((2, 3), keepdim=k),
            torch.randn(1, 5, 7, 24), copies=1,
        )  # fmt: skip
    _check(lambda x: x[:, 1:4, 2:6].permute(0, 3, 1, 2).mean((2, 3)),
           torch.randn(1, 5, 7, 24), copies=1)  # fmt: skip
    _check(lambda x: x.mean((2, 3)), torch.randn(1, 24, 5, 7), copies=1)
    _check(lambda x: x[:, :, 1:4, 2:6].mean((2, 3)), torch.randn(1, 24, 5, 7), copies=1)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "amax", "amin", "prod", "max", "min", "argmax", "argmin", "std"]
)
def test_everything_at_once(name: str) -> None:
    _check(lambda x: getattr(torch, name)(x), torch.randn(3, 5, 4))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_axis(axis: int) -> None:
    x = torch.randn(3, 5, 4)
    _check(lambda x: x.prod(axis), x)
    _check(lambda x: x.argmax(axis), x)
    _check(lambda x: x.argmin(axis, keepdim=True), x)
    _check(lambda x: tuple(x.max(axis)), x)
    _check(lambda x: tuple(x.min(axis, keepdim=True)), x)
    _check(lambda x: x.cumsum(axis), x)


def test_moments() -> None:
    x = torch.randn(3, 5, 4)
    _check(lambda x: torch.var_mean(x, 1), x)
    _check(lambda x: torch.std_mean(x, (1, 2)), x)
    _check(lambda x: torch.var_mean(x, (1, 2), correction=0), x)
    _check(lambda x: x.var(1, unbiased=False), x)
    _check(lambda x: x.std(1), x)
    _check(lambda x: torch.std(x, (0, 2), correction=2), x)


@pytest.mark.parametrize("order", [1, 2, torch.inf])
def test_norms(order: float) -> None:
    _check(lambda x: torch.linalg.vector_norm(x, order, 1), torch.randn(3, 5, 4))
    _check(lambda x: x.norm(p=order, dim=-1, keepdim=True), torch.randn(3, 5, 4))
    _check(lambda x: torch.linalg.vector_norm(x, order), torch.randn(3, 5, 4))


@pytest.mark.parametrize("name", ["sum", "amax", "amin", "prod", "any", "all", "cumsum"])
def test_integers(name: str) -> None:
    x = torch.randint(-2, 3, (3, 5, 4))
    function = getattr(torch, name)
    _check(lambda x: function(x, 1), x)
    if name not in ("amax", "amin"):
        _check(lambda x: function(x, 1), x > 0)
        _check(lambda x: function(x, -1), x.int())
    if name in ("sum", "any", "all"):
        _check(lambda x: function(x), x)


def test_symbolic_extents() -> None:
    both = {0: {2: Symbol("s0", 2, None), 3: Symbol("s1", 2, None)}}
    others = [(torch.randn(1, 6, a, b),) for a, b in ((2, 3), (30, 17))]
    for function in (
        lambda x: x.mean((2, 3)),
        lambda x: x.amax((1, 3)),
        lambda x: x.sum(2),
        lambda x: x.argmax(1),
    ):
        _check(function, torch.randn(1, 6, 5, 4), dynamic=both, others=others)
    last = {0: {1: Symbol("s0", 2, None), 2: Symbol("s1", 2, None)}}
    others = [(torch.randn(1, a, b, 6),) for a, b in ((2, 3), (30, 17))]
    _check(
        lambda x: x.permute(0, 3, 1, 2).mean((2, 3)), torch.randn(1, 5, 4, 6),
        dynamic=last, others=others, copies=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.double().sum(1),
        lambda x: x.sum(1, dtype=torch.float64),
        lambda x: torch.linalg.vector_norm(x, 3, 1),
    ],
)
def test_what_it_does_not_do_is_left_to_torch(function) -> None:
    with pytest.raises(AssertionError, match="extern"):
        _check(function, torch.randn(3, 4))
