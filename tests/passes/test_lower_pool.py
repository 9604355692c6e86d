"""Lowering of pooling and resizing, through references and natively, against torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusec_testing.lowered import check_lowered, lowered_module
from torch import nn
from torch.nn import functional as f

from fusec.importers.torch_capture import Dynamic
from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

POOL = {TileOp.POOL}


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call it."""
        return self.function(x)


@pytest.mark.parametrize(
    "module",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.MaxPool2d((3, 2), stride=1, dilation=(2, 3), padding=(1, 1)),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d((2, 3), divisor_override=5),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveMaxPool2d((3, 4)),
        Call(lambda x: f.interpolate(x, scale_factor=2.0, mode="nearest")),
        Call(lambda x: f.interpolate(x, size=(5, 17), mode="nearest")),
        Call(lambda x: f.interpolate(x, size=(5, 17), mode="nearest-exact")),
        Call(lambda x: f.interpolate(x, size=(17, 5), mode="bilinear")),
        Call(lambda x: f.interpolate(x, size=(17, 5), mode="bilinear", align_corners=True)),
        Call(lambda x: f.interpolate(x, scale_factor=1.37, mode="bilinear")),
        Call(lambda x: f.interpolate(x, scale_factor=0.61, mode="nearest")),
    ],
)
@pytest.mark.parametrize("channels", [3, 85])
def test_each_kind_of_2d(module: nn.Module, channels: int) -> None:
    check_lowered(module, torch.randn(2, channels, 11, 9), expect=POOL)


@pytest.mark.parametrize(
    "module",
    [
        nn.MaxPool1d(3, stride=2, padding=1),
        nn.AvgPool1d(4, stride=3, padding=2),
        nn.AdaptiveAvgPool1d(4),
        nn.AdaptiveMaxPool1d(4),
        Call(lambda x: f.interpolate(x, size=23, mode="nearest")),
        Call(lambda x: f.interpolate(x, size=23, mode="linear")),
    ],
)
def test_each_kind_of_1d(module: nn.Module) -> None:
    check_lowered(module, torch.randn(2, 7, 14), expect=POOL)


def test_extents_may_vary() -> None:
    dynamic: Dynamic = {0: {2: Symbol("h", 4, None), 3: Symbol("w", 4, None)}}
    others = [[torch.randn(1, 5, 19, 300)]]
    module = Call(lambda x: f.interpolate(f.max_pool2d(x, 3, 1, 1), scale_factor=2.0))
    check_lowered(module, torch.randn(1, 5, 8, 10), expect=POOL, dynamic=dynamic, others=others)


def test_maxima_and_means_pass_nan_on() -> None:
    x = torch.randn(1, 20, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    x[0, 4, 2, 2] = torch.inf
    for module in (nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(4)):
        check_lowered(module, x, expect=POOL)


@pytest.mark.parametrize(
    "module",
    [nn.MaxPool2d(2, return_indices=True), nn.AdaptiveMaxPool2d(2, return_indices=True)],
)
def test_indices_that_are_used_run_through_torch(module: nn.Module) -> None:
    made = lowered_module(module, torch.randn(1, 2, 4, 4), n_outputs=2)
    assert TileOp.EXTERN in made.ops()
