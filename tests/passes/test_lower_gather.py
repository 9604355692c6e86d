"""Lowered look-ups against torch, through references and natively."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import Function
from fusec_testing.lowered import LoweredModule, check_lowered
from torch import nn

from fusec.ir.errors import KernelError
from fusec.ir.stage import LayoutKind, TileOp
from fusec.ir.template import Symbol

GATHER = {TileOp.GATHER}
INDEX = torch.tensor([[3, 0, 10], [5, 5, 1]])


def _check(function, *inputs: torch.Tensor, **more) -> LoweredModule:
    module = function if isinstance(function, nn.Module) else Function(function)
    return check_lowered(module, *inputs, **{"expect": GATHER, **more})


def test_embeddings() -> None:
    made = _check(nn.Embedding(11, 7), INDEX)
    assert made.ops() == [TileOp.GATHER, TileOp.COPY]
    with pytest.raises(KernelError):
        made.run(INDEX + 1, native=True)
    with pytest.raises(KernelError):
        made.run(INDEX + 1, native=False)


@pytest.mark.parametrize("shape", [(11, 7), (11,), (11, 3, 2)])
def test_negative_indices_count_from_the_end(shape: tuple[int, ...]) -> None:
    _check(lambda x, i: x[i], torch.randn(shape), INDEX - 6)


@pytest.mark.parametrize(
    "x", [torch.randn(5, 11, 3), torch.randint(0, 9, (5, 11)), torch.rand(5, 11) > 0.5]
)
def test_other_axes_and_dtypes(x: torch.Tensor) -> None:
    _check(lambda x, i: x[:, i], x, INDEX)
    _check(lambda x, i: x.index_select(1, i), x, INDEX[0])
    _check(lambda x, i: x.transpose(0, 1)[i], x, INDEX)


def test_elements_by_their_own_index() -> None:
    x = torch.randn(5, 11, 3)
    _check(lambda x, i: x.gather(1, i), x, torch.randint(0, 11, (4, 6, 2)))
    _check(lambda x, i: x.gather(-1, i), x, torch.randint(0, 3, (5, 11, 2)))
    _check(lambda x, i: torch.take_along_dim(x, i, 1), x, torch.randint(0, 11, (5, 2, 3)))
    made = _check(lambda x, i: x.transpose(0, 1).gather(0, i), x, torch.randint(0, 11, (2, 5, 3)))
    with pytest.raises(KernelError):
        made.run(x, torch.full((2, 5, 3), -1), native=True)


class _Tied(nn.Module):
    """An embedding whose table is the output's weight, as language models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Look tokens up and score them against the table."""
        return nn.functional.linear(self.table(tokens), self.table.weight)


def test_a_tied_table_is_packed_once_and_read_in_panels() -> None:
    made = _check(_Tied(), INDEX, expect={TileOp.GATHER, TileOp.GEMM})
    assert [layout.kind for layout in made.lowered.layouts] == [LayoutKind.PANELS]


def test_any_number_of_tokens() -> None:
    tokens = {0: {1: Symbol("s0", 2, None)}}
    others = [(torch.randint(0, 11, (1, n)),) for n in (2, 40)]
    _check(nn.Embedding(11, 7), INDEX[:1], dynamic=tokens, others=others)
