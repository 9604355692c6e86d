"""Sorting operators become sort stages, and give what torch gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusec_testing.canonical import Function
from fusec_testing.lowered import check_lowered

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

X = torch.randn(3, 7, 5)
WHOLE = torch.stack([torch.randperm(7) for _ in range(3)]) * 2**55

CASES: dict[str, tuple[Callable[..., object], torch.Tensor]] = {
    "sort": (lambda x: x.sort(-1), X),
    "sort the largest first": (lambda x: torch.sort(x, 1, descending=True), X),
    "stable sort": (lambda x: torch.sort(x.round(), dim=1, descending=True, stable=True), X),
    "argsort": (lambda x: x.argsort(0), X),
    "stable argsort": (lambda x: torch.argsort(x.round(), dim=-1, descending=True, stable=True), X),
    "msort": (torch.msort, X),
    "topk": (lambda x: x.topk(3, 1), X),
    "topk of the smallest": (lambda x: x.topk(2, -1, largest=False), X),
    "kthvalue": (lambda x: x.kthvalue(3, 1), X),
    "kthvalue kept": (lambda x: x.kthvalue(5, -1, keepdim=True), X),
    "argmax of integers": (lambda x: x.argmax(-1), WHOLE),
    "argmin of 32-bit integers": (lambda x: x.argmin(), (WHOLE >> 55).int()),
    "argmax of truth values": (lambda x: (x > 2**56).int().argmax(1, keepdim=True), WHOLE),
    "max of integers": (lambda x: x.max(1), WHOLE),
}


@pytest.mark.parametrize("name", CASES)
def test_gives_what_torch_gives(name: str) -> None:
    function, x = CASES[name]
    made = check_lowered(Function(function), x, expect={TileOp.REDUCE} | _before(name))
    assert dict(made.stage(TileOp.REDUCE).attrs)["form"] == "sort"


def _before(name: str) -> set[TileOp]:
    """Name what rounds or compares first."""
    return {TileOp.POINTWISE} if "stable" in name or "truth" in name else set()


def test_axis_that_varies() -> None:
    others = [(torch.randn(3, n, 5),) for n in (1, 3, 40)]
    check_lowered(
        Function(lambda x: x.sort(1)), X, expect={TileOp.REDUCE},
        dynamic={0: {1: Symbol("n", 1, 99)}}, others=others,
    )  # fmt: skip
    check_lowered(
        Function(lambda x: x.argmax(1)), WHOLE, expect={TileOp.REDUCE},
        dynamic={0: {1: Symbol("n", 1, 99)}}, others=[(WHOLE[:, :n],) for n in (1, 3)],
    )  # fmt: skip
