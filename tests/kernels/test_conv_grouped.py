"""Grouped convolutions in Triton's interpreter: groups, strides, transposed, company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import check_grouped, interpreter

from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    PointProgram,
    PointStep,
    Stage,
    TileOp,
    View,
    dense,
)
from fusec.kernels.gemm.pack import pack
from fusec.passes.lower.panels import panel_width

interpreter()

Pair = tuple[int, int]
GAP = 3
"""Between the pixels of the output."""


def check(
    x_shape: tuple[int, ...], columns: int, kernel: Pair, *, stride: Pair = (1, 1),
    padding: Pair = (0, 0), dilation: Pair = (1, 1), groups: int = 1, transposed: bool = False,
    extra: Pair = (0, 0), bias: bool = True, planes: bool = False, depthwise: bool = False,
    packed: bool = True, relu: bool = False, dtype: str = "float32", block_k: int = 16,
) -> None:  # fmt: skip
    rng = np.random.default_rng([*x_shape, columns, *kernel])
    n, c, h, w = x_shape
    shape = (c, columns // groups) if transposed else (columns, c // groups)
    arrays = [rng.standard_normal(s).astype(dtype) for s in (x_shape, (*shape, *kernel), columns)]

    def plain(wide: bool) -> torch.Tensor:
        tx, tw, tb = (torch.from_numpy(a).double() if wide else torch.from_numpy(a) for a in arrays)
        y = torch.ops.aten.convolution(
            tx, tw, tb if bias else None, stride, padding, dilation, transposed, extra, groups
        )
        return y.relu() if relu else y

    taps, each, out_each = kernel[0] * kernel[1], c // groups, columns // groups
    order: tuple[int, ...] = (0, 3, 4, 1, 2) if transposed else (0, 3, 4, 2, 1)
    split = (groups, each, out_each, *kernel) if transposed else (groups, out_each, each, *kernel)
    parts = groups
    if depthwise:
        each, out_each, parts, split, order = 1, columns, 1, (), (2, 3, 1, 0)
    nr = panel_width(out_each)
    if packed:
        layout = Layout(
            kind=LayoutKind.PANELS, order=order, groups=parts, k=taps * each, n=out_each, nr=nr,
            split=split,
        )  # fmt: skip
        weight = pack(layout, arrays[1])
    else:
        weight = np.ascontiguousarray(arrays[1].reshape(split).transpose(order)).reshape(-1)
    truth = plain(True)
    _, _, oh, ow = truth.shape
    step = columns + GAP
    x = arrays[0] if planes else arrays[0].transpose(0, 2, 3, 1).copy()
    flats = [x.reshape(-1), weight, np.full(n * oh * ow * step, np.nan, dtype), arrays[2]]
    kinds = (BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.ARENA, BufferKind.WEIGHT)
    buffers = [
        Buffer(kind=kind, dtype=dtype, elements=flat.size, index=0)
        for kind, flat in zip(kinds, flats, strict=True)
    ]
    strides = (c * h * w, w, 1, h * w) if planes else (c * h * w, w * c, c, 1)
    y_view = View(2, dtype, (n, oh, ow, columns), (oh * ow * step, ow * step, step, 1), 0)
    reads = [View(0, dtype, (n, h, w, c), strides, 0), dense(1, dtype, (weight.size,))]
    attrs = {
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation,
        "groups": groups, "transposed": transposed, "depthwise": depthwise, "nr": nr,
        "packed": packed,
    }  # fmt: skip
    point = PointProgram(
        shape=y_view.shape, operands=(None,), results=(1,),
        steps=(PointStep("relu_f32", (0,), dtype, None),),
    )  # fmt: skip
    stage = Stage(
        op=TileOp.CONV, reads=(*reads, *((dense(3, dtype, (columns,)),) if bias else ())),
        writes=(y_view,), attrs=tuple(sorted(attrs.items())), point=point if relu else None,
        extern=None, rows=(0,),
    )  # fmt: skip
    got, _ = check_grouped(stage, buffers, flats, {"BLOCK_K": block_k})
    grid = got[2].reshape(n, oh, ow, step)
    assert np.isnan(grid[..., columns:]).all(), "wrote between the pixels"
    assert_no_worse(grid[..., :columns].transpose(0, 3, 1, 2), plain(False), truth)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_plain(dtype: str) -> None:
    check((2, 3, 7, 9), 17, (3, 3), padding=(1, 1), dtype=dtype)
    check((1, 1, 1, 1), 1, (1, 1), dtype=dtype)


def test_strides_dilation_and_a_relu() -> None:
    check((1, 5, 11, 6), 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 3), relu=True)


def test_whole_blocks_of_channels_in_chunks() -> None:
    check((1, 32, 4, 5), 33, (3, 3), padding=(1, 1), bias=False)
    check((1, 48, 3, 3), 5, (3, 3), padding=(1, 1), block_k=32)


def test_channels_in_planes_and_one_dimension() -> None:
    check((1, 3, 6, 5), 8, (3, 3), planes=True)
    check((2, 7, 1, 29), 8, (1, 5), padding=(0, 2))


@pytest.mark.parametrize("packed", [True, False])
def test_groups(packed: bool) -> None:
    check((1, 6, 5, 4), 9, (3, 1), groups=3, packed=packed)


@pytest.mark.parametrize("packed", [True, False])
def test_transposed(packed: bool) -> None:
    check(
        (1, 4, 5, 6), 6, (3, 2), stride=(2, 3), padding=(1, 0), extra=(1, 1), transposed=True,
        groups=2, packed=packed,
    )  # fmt: skip


def test_depthwise() -> None:
    check((2, 37, 6, 7), 37, (3, 3), padding=(1, 1), groups=37, depthwise=True, relu=True)
    check((1, 5, 1, 20), 5, (1, 7), stride=(1, 2), groups=5, depthwise=True, bias=False)
