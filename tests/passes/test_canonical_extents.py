"""Reshapes, expands and slices with several symbolic extents settle in one spelling."""

import pytest
import torch
from torch import nn

from fusec.importers.torch_capture import capture, program_of
from fusec.ir.template import RowsKind, Symbol
from fusec.passes.canonicalise import canonicalise


class Fn(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


T, U = Symbol("t", 1, None), Symbol("u", 1, None)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: (x[:, :, None] + y[:, None]).reshape(x.shape[1], 1, y.shape[1]),
        lambda x, y: x[0, :, None].expand(x.shape[1], y.shape[1] + 1),
        lambda x, y: x[:, : y.shape[1] - 1],
    ],
    ids=["reshape", "expand", "slice"],
)
def test_extents_settle(function):
    x, y = torch.randn(1, 9), torch.randn(1, 5)
    captured = capture(Fn(function), (x, y), dynamic={0: {1: T}, 1: {1: U}})
    program = program_of(
        captured, input_axes=(0, 0), output_axes=(None,), rows=RowsKind.WHOLE_REQUEST
    )
    got = canonicalise(program)[0].graph(x, y)[0]
    torch.testing.assert_close(got, function(x, y))
