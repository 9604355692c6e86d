"""Several index tensors become one: same elements, and out of range stays an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusec_testing.canonical import Function, checked, operators
from torch import nn

import fusec
from fusec.ir.template import Symbol

aten = torch.ops.aten
X = torch.randn(3, 4, 5)
ROW, COLUMN = torch.tensor([[0, -1], [2, 1]]), torch.tensor([3, -4])

SEVERAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "leading": lambda x: x[ROW, COLUMN],
    "inner": lambda x: x[:, ROW, COLUMN],
    "apart": lambda x: x[ROW, :, COLUMN],
    "all": lambda x: x[ROW, COLUMN, COLUMN.int()],
    "ranges": lambda x: x[torch.arange(3), torch.tensor([1, -1, 0])],
    "a range too short": lambda x: x[torch.arange(2), torch.tensor([1, -1])],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_finds_the_same_elements(name: str) -> None:
    program, _ = checked(Function(SEVERAL[name]), X)
    assert "index" in operators(program)
    (at,) = [n for n in program.graph.graph.nodes if n.target is aten.index.Tensor]
    assert len([i for i in at.args[1] if i is not None]) == 1


def test_ranges_need_no_checks() -> None:
    square = X[:, :, :3].contiguous()
    program, _ = checked(Function(lambda x: x[torch.arange(3), :, torch.arange(3)]), square)
    assert "where" not in str(program.graph.graph)


def test_axes_that_vary() -> None:
    function = Function(lambda x: x[:, x.shape[1] - 1 + 0 * ROW, COLUMN])
    checked(function, X, dynamic={0: {1: Symbol("n", 2, 9)}}, others=[(torch.randn(3, 7, 5),)])


class LastToken(nn.Module):
    """Pools at a place that the input names, as text encoders do."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Look one row up per sample."""
        return x[torch.arange(x.shape[0]), at]


def test_out_of_range_is_an_error_not_the_next_row() -> None:
    plan = fusec.compile(
        {"a": LastToken(), "b": LastToken()},
        examples={"*": (X[:1], torch.zeros(1, dtype=torch.int64))},
    )
    (got,) = plan.run({"a": (X, torch.tensor([3, -4, 0]))})["a"].values()
    assert torch.equal(got, X[torch.arange(3), torch.tensor([3, 0, 0])])
    for wrong in (4, -5, 2**62):
        with pytest.raises(fusec.KernelError):
            plan.run({"a": (X, torch.tensor([0, 0, wrong]))})
