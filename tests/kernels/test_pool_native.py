"""pool: the native kernels against their reference; one result whatever the cut."""

from __future__ import annotations

import numpy as np
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.stages import run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.extents import value
from fusec.ir.stage import Buffer, BufferKind, Stage, TileOp, View, dense

Pair = tuple[int, int]


def _stage(x: tuple[int, ...], y: tuple[int, ...], gap: int, **attrs: object) -> Stage:
    _, h, w, c = y
    step = c + gap
    return Stage(
        op=TileOp.POOL,
        reads=(dense(0, "float32", x),),
        writes=(View(1, "float32", y, (h * w * step, w * step, step, 1), 0),),
        attrs=tuple(sorted(attrs.items())),  # type: ignore[arg-type]
        point=None,
        extern=None,
        rows=(0,),
    )


def _check(stage: Stage, x: np.ndarray, gap: int) -> None:
    n, h, w, c = (int(str(e)) for e in stage.writes[0].shape)
    flats = [x.reshape(-1), np.full(n * h * w * (c + gap) + 1, np.nan, np.float32)]
    buffers = [
        Buffer(kind=kind, dtype="float32", elements=flat.size, index=-1)
        for kind, flat in zip((BufferKind.INPUT, BufferKind.ARENA), flats, strict=True)
    ]

    def result() -> np.ndarray:
        grid = flats[1][:-1].reshape(n, h, w, c + gap)
        assert np.isnan(flats[1][-1]), "wrote behind the last pixel"
        assert np.isnan(grid[..., c:]).all(), "wrote between the pixels"
        return grid[..., :c].copy()

    run_reference(stage, flats)
    reference = result()
    flats[1][:] = np.nan
    encoded = run_native(stage, buffers, flats)
    whole = result()
    assert_no_worse(whole, reference, reference.astype(np.float64))
    flats[1][:] = np.nan
    rows, blocks = value(encoded.items, {}), value(encoded.items2, {})
    cuts = [(i, i + 1, j, j + 1) for j in range(blocks) for i in reversed(range(rows))]
    run_native(stage, buffers, flats, cuts)
    assert whole.tobytes() == result().tobytes(), "another cut gave other bits"


def _pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=40, deadline=None)
@given(
    size=_pairs(1, 9),
    c=st.sampled_from([1, 3, 16, 40, 64, 85, 130]),
    kernel=_pairs(1, 4),
    stride=_pairs(1, 3),
    dilation=_pairs(1, 2),
    padding=_pairs(0, 2),
    mode=st.sampled_from(["max", "avg"]),
    include=st.booleans(),
    nan=st.booleans(),
    gap=st.integers(0, 2),
)
def test_windows(
    size: Pair, c: int, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair, mode: str,
    include: bool, nan: bool, gap: int,
) -> None:  # fmt: skip
    dilation = (1, 1) if mode == "avg" else dilation
    padding = (min(padding[0], kernel[0] // 2), min(padding[1], kernel[1] // 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = (max(size[0], reach[0]), max(size[1], reach[1]))
    out = [
        (s + 2 * p - r) // t + 1 for s, p, r, t in zip(size, padding, reach, stride, strict=True)
    ]
    x = np.random.default_rng(c).standard_normal((2, *size, c), dtype=np.float32)
    if nan:
        x[0, 0, 0, 0] = np.nan
    stage = _stage(
        x.shape, (2, *out, c), gap, mode=mode, kernel=kernel, stride=stride, padding=padding,
        dilation=dilation, include_pad=include, divisor=0,
    )  # fmt: skip
    _check(stage, x, gap)


@settings(max_examples=30, deadline=None)
@given(
    size=_pairs(1, 9),
    out=st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 7, 300])),
    c=st.sampled_from([1, 16, 40, 85]),
    mode=st.sampled_from(
        ["adaptive_max", "adaptive_avg", "nearest", "nearest_exact", "bilinear"]
    ),
    corners=st.booleans(),
)  # fmt: skip
def test_windows_by_size(size: Pair, out: Pair, c: int, mode: str, corners: bool) -> None:
    x = np.random.default_rng(c).standard_normal((1, *size, c), dtype=np.float32)
    stage = _stage(
        x.shape, (1, *out, c), 0, mode=mode, align_corners=corners and mode == "bilinear",
        scales=(0.0, 0.0),
    )  # fmt: skip
    _check(stage, x, 0)
