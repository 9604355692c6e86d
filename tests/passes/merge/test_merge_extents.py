"""Extents that vary stay variable in merged programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fusec_testing.merge_models import Encoder, Tagger, tokens
from fusec_testing.merged import Merged
from fusec_testing.programs import program_from
from torch import nn

from fusec.ir.template import Symbol
from fusec.passes.merge import merge, merge_uniform


class Folded(nn.Module):
    """Reshapes by its input's extents."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(4, 6, 3, padding=1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give [B, T*2] of [B, 4, T]."""
        y = self.head(self.body(x).transpose(1, 2))
        return y.reshape(x.shape[0], 2 * x.shape[2])


@pytest.mark.parametrize(
    ("make", "example", "io"),
    [
        (Encoder, tokens(3, 7), "stacked"),
        (Tagger, tokens(3, 7), "named"),
        (Folded, torch.ones(3, 4, 7), "stacked"),
        (Folded, torch.ones(3, 4, 7), "named"),
    ],
)
def test_batch_and_length(make: Any, example: torch.Tensor, io: Any) -> None:
    long = example.dim() - 1
    dynamic = {0: {0: Symbol("b", 2, 16), long: Symbol("t", 2, 64)}}
    merged = Merged([make() for _ in range(3)], example, io=io, dynamic=dynamic)
    assert [symbol.name for symbol in merged.program.symbols] == ["s0", "s1"]
    assert {symbol.max for symbol in merged.program.symbols} == {16, 64}
    for batch, length in ((3, 7), (2, 2), (5, 11)):
        shape = [batch, *example.shape[1:-1], length]
        inputs = [torch.randn(shape) for _ in range(3)]
        if not example.is_floating_point():
            inputs = [tokens(*shape) for _ in range(3)]
        merged.check([[x] for x in inputs])


def test_axes_that_vary_in_one_member_only() -> None:
    """The members have symbols of their own and do not force each other's extents."""
    model = [nn.Sequential(nn.Linear(8, 4), nn.ReLU()) for _ in range(2)]
    dynamic = {0: {0: Symbol("b", 2, 16)}}
    programs = [
        program_from(model[0], torch.randn(3, 8), dynamic=dynamic),
        program_from(model[1], torch.randn(2, 3, 8), dynamic=dynamic),
    ]
    program, _ = merge(programs, io="named", names=["a", "b"])
    assert [symbol.name for symbol in program.symbols] == ["s0", "s1"]
    x, y = torch.randn(5, 8), torch.randn(7, 3, 8)
    out = program.graph(x, y, *program.weights.values())
    torch.testing.assert_close(out, (model[0](x), model[1](y)))


def test_uniform_merge_of_a_program_with_symbols() -> None:
    dynamic = {0: {0: Symbol("b", 2, 16), 2: Symbol("t", 2, 64)}}
    models = [Folded() for _ in range(3)]
    programs = [program_from(m, torch.ones(3, 4, 7), dynamic=dynamic) for m in models]
    module, _ = merge_uniform(programs[0], 3, values=True)
    weights = [torch.stack(w) for w in zip(*(p.weights.values() for p in programs), strict=True)]
    x = torch.randn(3, 5, 4, 9)
    with torch.no_grad():
        out = module(x, *weights)[0]
        torch.testing.assert_close(
            out, torch.stack([m(row) for m, row in zip(models, x, strict=True)])
        )
