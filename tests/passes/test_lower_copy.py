"""Operators that only move elements become copies and fills, and move them where torch does."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from fusec_testing.lowered import check_lowered, lowered_module
from torch import nn

from fusec.importers.torch_capture import Dynamic
from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol


class Calls(nn.Module):
    """Functions of the same inputs as a module."""

    def __init__(self, *functions: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(f(*inputs) for f in self.functions)


X, Y = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
IMAGE = torch.randn(1, 8, 5, 6)


def test_parts_put_together() -> None:
    module = Calls(
        lambda x, y: torch.cat([x, y], 1),
        lambda x, y: torch.cat([y.transpose(1, 2), x.transpose(1, 2)], -1),
        lambda x, y: torch.stack([x, x + 1], 1),
        lambda x, y: torch.stack([x[0], x[1]], -1),
        lambda x, y: torch.cat([torch.zeros(0), x[0, 0]]),
        lambda x, y: torch.cat([x > 0, y > 0], 1),
    )
    check_lowered(module, X, Y, expect={TileOp.POINTWISE})


def test_elements_elsewhere() -> None:
    module = Calls(
        lambda x: x.flip(1),
        lambda x: x.flip(0, 2) + 1,
        lambda x: torch.roll(x, (1, -2), (1, 2)),
        lambda x: torch.roll(x, 0, 1),
        lambda x: x.repeat(2, 1, 3),
        lambda x: x.repeat(2, 1, 1, 1),
        lambda x: torch.tile(x, (2,)),
        lambda x: x.permute(2, 0, 1).contiguous(),
        lambda x: x.permute(2, 1, 0).reshape(6, 8),
    )
    check_lowered(module, X, expect={TileOp.POINTWISE})


def test_padding() -> None:
    module = Calls(
        lambda x: F.pad(x, (1, 2)),
        lambda x: F.pad(x, (1, 0, 0, 2), value=0.5),
        lambda x: F.pad(x, (0, 1, 2, 3, 1, 0), value=float("-inf")),
        lambda x: F.pad(x, (-1, 2, 1, -2)),
        lambda x: F.pad(x, (-1, -2)),
        lambda x: F.pad(x > 0, (1, 1), value=True),
    )
    check_lowered(module, IMAGE, expect={TileOp.POINTWISE})


def test_pixel_shuffle() -> None:
    made = lowered_module(nn.PixelShuffle(2), IMAGE)
    assert set(made.ops()) == {TileOp.COPY}
    for native in (False, True):
        (got,) = made.run(IMAGE, native=native)
        assert torch.equal(torch.from_numpy(got), F.pixel_shuffle(IMAGE, 2))


def test_numbers_and_constants_of_shapes_that_vary() -> None:
    module = Calls(
        lambda x: torch.arange(x.shape[1]) * 2,
        lambda x: torch.arange(3, x.shape[1] + 5, dtype=torch.float32) + x[0, 0],
        lambda x: torch.arange(x.shape[1], dtype=torch.int32) - 1,
        lambda x: torch.full_like(x, 0.3),
        lambda x: torch.zeros(x.shape[1], dtype=torch.bool),
        lambda x: torch.cat([x, x.new_ones(2, 1)], 1),
        lambda x: F.pad(x, (2, 1), value=7.0),
        lambda x: torch.arange(x.shape[1]) % x.shape[1] >= x.shape[1] - 2,
    )
    dynamic: Dynamic = {0: {1: Symbol("n", 3, None)}}
    others = [(torch.randn(2, n),) for n in (3, 40)]
    check_lowered(
        module, torch.randn(2, 9), expect={TileOp.POINTWISE}, dynamic=dynamic, others=others
    )
