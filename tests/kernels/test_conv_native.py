"""conv: the native kernels against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.stages import run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.extents import value
from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    Stage,
    TileOp,
    View,
    dense,
)
from fusec.kernels.conv.encode import PIECE
from fusec.kernels.gemm.pack import pack, unpack
from fusec.passes.lower.panels import panel_width

Pair = tuple[int, int]


@dataclass
class Case:
    """A convolution of random numbers, channels last unless `planes`."""

    x: tuple[int, int, int, int]
    """Images, channels, height, width."""
    columns: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    transposed: bool = False
    extra: Pair = (0, 0)
    bias: bool = True
    planes: bool = False
    depthwise: bool = False
    gap: int = 0
    """Floats between the pixels of the output."""
    arrays: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([*self.x, self.columns, *self.kernel])
        c, g = self.x[1], self.groups
        shape = (c, self.columns // g) if self.transposed else (self.columns, c // g)
        self.arrays = [
            rng.standard_normal(s, dtype=np.float32)
            for s in (self.x, (*shape, *self.kernel), (self.columns,))
        ]

    def torch(self, dtype: torch.dtype) -> torch.Tensor:
        x, w, b = (torch.from_numpy(a).to(dtype) for a in self.arrays)
        result: torch.Tensor = torch.ops.aten.convolution(
            x, w, b if self.bias else None, self.stride, self.padding, self.dilation,
            self.transposed, self.extra, self.groups,
        )  # fmt: skip
        return result

    def layout(self) -> Layout:
        (c, n), g = (self.x[1] // self.groups, self.columns // self.groups), self.groups
        taps = self.kernel[0] * self.kernel[1]
        order: tuple[int, ...] = (0, 3, 4, 1, 2) if self.transposed else (0, 3, 4, 2, 1)
        split = (g, c, n, *self.kernel) if self.transposed else (g, n, c, *self.kernel)
        if self.depthwise:
            c, n, g, split, order = 1, self.columns, 1, (), (2, 3, 1, 0)
        return Layout(
            kind=LayoutKind.PANELS, order=order, groups=g, k=taps * c, n=n, nr=panel_width(n),
            split=split,
        )  # fmt: skip

    def stage(self, out: torch.Size) -> tuple[Stage, list[Buffer], list[np.ndarray]]:
        n, c, h, w = self.x
        layout = self.layout()
        x = self.arrays[0] if self.planes else self.arrays[0].transpose(0, 2, 3, 1).copy()
        packed = pack(layout, self.arrays[1])
        assert (unpack(layout, self.arrays[1].shape, packed) == self.arrays[1]).all()
        step = self.columns + self.gap
        size = out[0] * out[2] * out[3] * step
        flats = [x.reshape(-1), packed, np.full(size + 1, np.nan, np.float32), self.arrays[2]]
        kinds = (BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.ARENA, BufferKind.WEIGHT)
        buffers = [
            Buffer(kind=kind, dtype="float32", elements=flat.size, index=0)
            for kind, flat in zip(kinds, flats, strict=True)
        ]
        strides = (c * h * w, w, 1, h * w) if self.planes else (c * h * w, w * c, c, 1)
        y_shape = (out[0], out[2], out[3], self.columns)
        y_strides = (out[2] * out[3] * step, out[3] * step, step, 1)
        reads = [View(0, "float32", (n, h, w, c), strides, 0), dense(1, "float32", (packed.size,))]
        attrs = {
            "kernel": self.kernel, "stride": self.stride, "padding": self.padding,
            "dilation": self.dilation, "groups": self.groups, "transposed": self.transposed,
            "depthwise": self.depthwise, "nr": layout.nr, "packed": True,
        }  # fmt: skip
        stage = Stage(
            op=TileOp.CONV,
            reads=(*reads, *((dense(3, "float32", (self.columns,)),) if self.bias else ())),
            writes=(View(2, "float32", y_shape, y_strides, 0),),
            attrs=tuple(sorted(attrs.items())),
            point=None,
            extern=None,
            rows=(0,),
        )
        return stage, buffers, flats

    def check(self) -> np.ndarray:
        plain, truth = self.torch(torch.float32), self.torch(torch.float64)
        n, c, h, w = plain.shape
        stage, buffers, flats = self.stage(plain.shape)

        def result() -> np.ndarray:
            grid = flats[2][:-1].reshape(n, h, w, c + self.gap)
            assert np.isnan(grid[..., c:]).all(), "wrote between the pixels"
            assert np.isnan(flats[2][-1]), "wrote behind the last pixel"
            return grid[..., :c].transpose(0, 3, 1, 2).copy()

        run_reference(stage, flats)
        assert_no_worse(result(), plain, truth, where="reference")
        flats[2][:] = np.nan
        encoded = run_native(stage, buffers, flats)
        whole = result()
        assert_no_worse(whole, plain, truth, where="native")
        flats[2][:] = np.nan
        rows, panels = value(encoded.items, {}), value(encoded.items2, {})
        cuts = [(i, i + 1, j, j + 1) for j in range(panels) for i in reversed(range(rows))]
        run_native(stage, buffers, flats, cuts)
        assert whole.tobytes() == result().tobytes(), "another cut gave other bits"
        return whole


def _pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=60, deadline=None)
@given(
    size=_pairs(1, 12),
    images=st.integers(1, 2),
    c=st.sampled_from([1, 3, 5, 16, 20, 31]),
    n=st.sampled_from([1, 2, 7, 16, 24, 33, 60]),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    kernel=_pairs(1, 4),
    stride=_pairs(1, 3),
    padding=_pairs(0, 3),
    dilation=_pairs(1, 2),
    transposed=st.booleans(),
    planes=st.booleans(),
    bias=st.booleans(),
    gap=st.integers(0, 2),
)
def test_it_is_as_near_to_float64_as_torch(
    size: Pair, images: int, c: int, n: int, groups: int, kernel: Pair, stride: Pair,
    padding: Pair, dilation: Pair, transposed: bool, planes: bool, bias: bool, gap: int,
) -> None:  # fmt: skip
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if transposed:
        padding = (min(padding[0], reach[0] // 2), min(padding[1], reach[1] // 2))
        size = (size[0] + padding[0], size[1] + padding[1])
    else:
        needed = [max(1, r - 2 * p) for r, p in zip(reach, padding, strict=True)]
        size = (max(size[0], needed[0]), max(size[1], needed[1]))
    Case(
        (images, c * groups, *size), n * groups, kernel, stride, padding, dilation, groups,
        transposed, bias=bias, planes=planes, gap=gap,
    ).check()  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    size=_pairs(1, 12),
    c=st.sampled_from([2, 7, 16, 40, 64, 100, 130]),
    kernel=_pairs(1, 5),
    stride=_pairs(1, 2),
    padding=_pairs(0, 2),
    dilation=_pairs(1, 2),
    bias=st.booleans(),
)
def test_depthwise_is_as_near_to_float64_as_torch(
    size: Pair, c: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, bias: bool
) -> None:
    reach = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = (max(size[0], reach[0]), max(size[1], reach[1]))
    Case(
        (2, c, *size), c, kernel, stride, padding, dilation, c, bias=bias, depthwise=True
    ).check()  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 1, 1, 700), 258, (1, 256), (1, 128)),
        Case((1, 3, 5, 2 * PIECE + 9), 16, (3, 3), padding=(1, 1)),
        Case((1, 16, 1, PIECE + 1), 8, (1, 3), (1, 3), transposed=True, groups=2),
        Case((1, 24, 5, 6), 24, (2, 2), (2, 2), transposed=True),
        Case((1, 6, 4, 5), 4, (3, 4), (2, 3), (1, 2), transposed=True, extra=(1, 1)),
        Case((1, 300, 3, 3), 70, (3, 3), padding=(1, 1)),
        Case((1, 20, 3, 2 * PIECE + 3), 20, (3, 3), padding=(1, 1), groups=20, depthwise=True),
        Case((1, 600, 2, 101), 40, (3, 3), padding=(1, 1)),
        Case((1, 7, 40, 3), 7, (16, 16), padding=(8, 8), groups=7, depthwise=True),
    ],
    ids=[
        "stft",
        "long_rows",
        "long_transposed",
        "unpool",
        "extra",
        "many_channels",
        "long_depthwise",
        "small_pieces",
        "256_taps",
    ],
)
def test_shapes_with_borders_of_their_own(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_nan_stays_with_the_pixels_that_see_it(depthwise: bool) -> None:
    case = Case((1, 20, 9, 9), 20, (3, 3), padding=(1, 1), groups=20 if depthwise else 1,
                depthwise=depthwise)  # fmt: skip
    clean = case.check()
    case.arrays[0][0, 3, 4, 4] = np.nan
    plain = case.torch(torch.float32)
    stage, buffers, flats = case.stage(plain.shape)
    run_native(stage, buffers, flats)
    got = flats[2][:-1].reshape(9, 9, 20).transpose(2, 0, 1)
    expected = np.isnan(plain.numpy()[0])
    assert expected.any()
    assert (np.isnan(got) == expected).all()
    assert (got[~expected] == clean[0][~expected]).all()
