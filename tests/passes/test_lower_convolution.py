"""Lowering of convolutions: what they become, and that it computes what torch does."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.lowered import check_lowered, lowered_module
from torch import nn

from fusec.importers.torch_capture import Dynamic
from fusec.ir.stage import LayoutKind, TileOp
from fusec.ir.template import Symbol

ONE, CONV, GEMM = {TileOp.CONV}, TileOp.CONV, TileOp.GEMM


@pytest.mark.parametrize(
    ("module", "shape", "expect"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), (1, 3, 9, 8), CONV),
        (nn.Conv2d(20, 8, (3, 2), stride=(2, 1), dilation=(1, 2), bias=False), (2, 20, 9, 8), CONV),
        (nn.Conv2d(12, 18, 3, groups=3), (1, 12, 7, 6), CONV),
        (nn.Conv2d(12, 24, 3, groups=12), (1, 12, 7, 6), CONV),
        (nn.Conv2d(24, 24, 5, padding=2, groups=24), (1, 24, 7, 6), CONV),
        (nn.Conv2d(20, 30, 1), (1, 20, 7, 6), GEMM),
        (nn.Conv2d(20, 30, 1), (1, 20, 17, 20), CONV),
        (nn.Conv2d(20, 30, 1, stride=2), (1, 20, 7, 6), CONV),
        (nn.ConvTranspose2d(20, 7, 2, stride=2), (1, 20, 4, 6), CONV),
        (nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, groups=2), (2, 6, 4, 6), CONV),
        (nn.Conv1d(1, 40, 64, stride=16, bias=False), (1, 1, 300), GEMM),
        (nn.Conv1d(9, 40, 3, padding=1), (2, 9, 30), CONV),
        (nn.Conv1d(20, 7, 1, stride=2), (1, 20, 201), CONV),
        (nn.Conv2d(20, 7, 1, stride=(1, 3)), (1, 20, 1, 200), CONV),
        (nn.ConvTranspose1d(9, 5, 4, stride=2), (1, 9, 30), CONV),
    ],
)  # fmt: skip
def test_each_kind(module: nn.Module, shape: tuple[int, ...], expect: TileOp) -> None:
    check_lowered(module, torch.randn(*shape), expect={expect})


class _Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c = nn.Conv2d(8, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Chain three kinds."""
        result: torch.Tensor = self.c(self.b(self.a(x)))
        return result


def test_extents_may_vary_and_chains_copy_only_at_the_end() -> None:
    dynamic: Dynamic = {0: {2: Symbol("h", 4, None), 3: Symbol("w", 4, None)}}
    made = check_lowered(
        _Chain(), torch.randn(1, 3, 12, 14), expect=ONE, dynamic=dynamic,
        others=[[torch.randn(1, 3, 7, 33)]],
    )  # fmt: skip
    assert made.ops() == [CONV, CONV, CONV, TileOp.COPY]
    assert {layout.kind for layout in made.lowered.layouts[::2]} == {LayoutKind.PANELS}


def test_a_line_that_varies_is_thinned_out_once() -> None:
    check_lowered(
        nn.Conv1d(20, 7, 1, stride=2), torch.randn(1, 20, 30), expect=ONE,
        dynamic={0: {2: Symbol("n", 3, None)}}, others=[[torch.randn(1, 20, 9)]],
    )  # fmt: skip


class _Shared(nn.Module):
    """A kernel that two rows want in two layouts stays plain."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 5, 2, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convolve there and back."""
        there = nn.functional.conv2d(x, self.kernel)
        return there, nn.functional.conv_transpose2d(there, self.kernel)


class _Given(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Convolve with a kernel that is computed."""
        return nn.functional.conv2d(x, w, groups=2)


def test_a_kernel_need_not_be_packed() -> None:
    made = check_lowered(_Shared(), torch.randn(1, 5, 6, 7), expect=ONE)
    assert made.lowered.layouts[0].kind is LayoutKind.PLAIN
    check_lowered(_Given(), torch.randn(1, 6, 6, 7), torch.randn(10, 3, 3, 2), expect=ONE)


@pytest.mark.parametrize(
    "module",
    [nn.ConvTranspose3d(2, 3, 2), nn.Conv2d(2, 3, 2).double()],
    ids=["three_axes", "float64"],
)
def test_others_run_through_torch(module: nn.Module) -> None:
    dtype = next(module.parameters()).dtype
    shape = (1, 2, 4, 5, 6) if isinstance(module, nn.ConvTranspose3d) else (1, 2, 4, 5)
    made = lowered_module(module, torch.randn(*shape, dtype=dtype))
    assert made.ops() == [TileOp.EXTERN, TileOp.COPY]
