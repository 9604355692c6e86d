"""The pointwise machine against NumPy: every step, odd shapes, strange strides, cuts."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.stages import run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.stage import Buffer, BufferKind, PointProgram, PointStep, Stage, TileOp, View, dense
from fusec.kernels.library import address
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, point_words
from fusec.kernels.pointwise.steps import CLASS_OF, STEPS

DTYPE = {"f32": "float32", "f64": "float64", "i64": "int64", "i32": "int32", "b8": "bool"}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -3e38, 0.5, 1.5, 2.5, -1.5]
CLOSE = {
    "exp": 1, "exp2": 1, "expm1": 2, "log": 1, "log2": 2, "log10": 2, "log1p": 2, "tanh": 3,
    "sigmoid": 3, "erf": 2, "sin": 2, "cos": 2, "silu": 3, "mish": 4, "softplus": 3, "selu": 3,
    "elu": 3, "celu": 4, "pow": 1, "hardswish": 3, "hardsigmoid": 2, "rsqrt": 2, "leaky_relu": 1,
}  # fmt: skip
"""Units in the last place."""


def data(rng, dtype, shape):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("float16", "bfloat16"):
        return rng.standard_normal(shape).astype(np.float16).view(numpy_dtype(dtype))
    if numpy_dtype(dtype).kind in "iu":
        return rng.integers(-100 if dtype != "uint8" else 0, 100, shape).astype(dtype)
    return (rng.standard_normal(shape) * 3).astype(dtype)


def stage_of(program, views, writes):
    return Stage(
        op=TileOp.POINTWISE,
        reads=(),
        writes=tuple(writes),
        attrs=(),
        point=program,
        extern=None,
        rows=(0,),
    )


def f32(op, *args):
    return PointStep(f"{op}_f32", args, "float32", None)


def arena(dtype, n):
    return Buffer(kind=BufferKind.ARENA, dtype=dtype, elements=n, index=-1)


def both(stage, buffers, flats, cuts=None):
    """Give the flats of a native and of a reference run."""
    native, plain = [f.copy() for f in flats], [f.copy() for f in flats]
    run_native(stage, buffers, native, cuts)
    run_reference(stage, plain)
    return native, plain


def assert_close(name, got, wanted, args):
    op = name.rpartition("_")[0]
    if got.dtype != np.float32 or op not in CLOSE | dict.fromkeys(("gelu", "gelu_tanh"), 0):
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        return
    kind = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~kind], wanted[~kind], err_msg=name)
    got, wanted = got[kind], wanted[kind]
    unit = np.spacing(np.maximum(np.abs(wanted), np.float32(1e-38)))
    if op.startswith("gelu"):  # small results are differences of large ones there
        unit = np.maximum(unit, np.spacing(np.float32(0.25)))
    off = np.abs(got.astype(np.float64) - wanted) / unit
    worst = off.argmax()
    assert off[worst] <= CLOSE.get(op, 2), (name, off[worst], [a[kind][worst] for a in args])


@pytest.mark.parametrize("name", [n for n in STEPS if not n.startswith("const_")])
def test_every_step(name):
    rng = np.random.default_rng(len(name))
    kind = STEPS[name]
    n = 3000
    given = []
    for i, cls in enumerate(kind.operands):
        values = data(rng, DTYPE[cls], n)
        if cls in ("f32", "f64"):
            values *= rng.choice([0.01, 1, 1, 5], n).astype(values.dtype)
            values[: 13 * 13] = (
                np.roll(np.tile(SPECIAL, len(SPECIAL)), 0)
                if i == 0
                else (np.repeat(SPECIAL, len(SPECIAL)))
            )
        given.append(values)
    if "_of_" in name and kind.result in ("i64", "i32") and kind.operands[0][0] == "f":
        given[0][: 13 * 13] = 7.9
    if name in ("sin_f32", "cos_f32"):
        given[0][np.abs(given[0]) > 1e15] = 1e6
    if name == "celu_f32":
        given[1] = np.clip(np.abs(given[1]), 0.1, 10)
    if name.startswith("floor_divide_i"):
        given[1][given[1] == 0] = -1
    loads = [dense(i, DTYPE[cls], (n,)) for i, cls in enumerate(kind.operands)]
    out = dense(len(loads), DTYPE[kind.result], (n,))
    step = PointStep(name, tuple(range(len(loads))), DTYPE[kind.result], None)
    program = PointProgram(shape=(n,), operands=tuple(loads), steps=(step,), results=(len(loads),))
    buffers = [arena(v.dtype, n) for v in (*loads, out)]
    flats = [*given, np.zeros(n, numpy_dtype(out.dtype))]
    native, plain = both(stage_of(program, loads, [out]), buffers, flats)
    assert_close(name, native[-1], plain[-1], given)


@st.composite
def frames(draw):
    """Draw a shape, and how each of three views lies: dense, broadcast, or turned."""
    rank = draw(st.integers(0, 5))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 5, 16, 17, 33])) for _ in range(rank))
    while np.prod(shape) > 40_000:
        shape = shape[1:]
    layouts = [
        (draw(st.permutations(range(len(shape)))), draw(st.sets(st.sampled_from(range(5)))))
        for _ in range(3)
    ]
    return shape, layouts, draw(st.integers(0, 3))


def placed(slot, dtype, shape, order, repeated, gap):
    """Lay a view out: axes of `order` outermost first, axes of `repeated` not at all."""
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        if axis not in repeated:
            strides[axis] = step
            step = step * shape[axis] + gap
    size = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return View(slot, dtype, shape, tuple(strides), gap), size + 2 * gap


@settings(max_examples=120, deadline=None)
@given(frames(), st.integers(0, 2**31), st.sampled_from(["float32", "float64", "int64", "uint8"]))
def test_any_shape_and_strides(frame, seed, dtype):
    shape, layouts, gap = frame
    rng = np.random.default_rng(seed)
    cls = CLASS_OF[dtype]
    a, na = placed(0, dtype, shape, *layouts[0], gap)
    b, nb = placed(1, "float32", shape, *layouts[1], 0)
    out, nout = placed(2, dtype, shape, layouts[2][0], set(), gap)
    second, nsecond = placed(3, "bool", shape, layouts[2][0], set(), 0)
    steps = (
        PointStep(f"f32_of_{cls}", (0,), "float32", None)
        if cls != "f32"
        else PointStep("same_f32", (0,), "float32", None),
        PointStep("mul_f32", (2, 1), "float32", None),
        PointStep("gt_f32", (3,), "bool", 0.25),
        PointStep(f"where_{cls}", (4, 0), dtype, 7),
    )
    program = PointProgram(shape=shape, operands=(a, b), steps=steps, results=(5, 4))
    buffers = [arena(v.dtype, n) for v, n in ((a, na), (b, nb), (out, nout), (second, nsecond))]
    flats = [data(rng, buffer.dtype, buffer.elements) for buffer in buffers]
    stage = stage_of(program, [a, b], [out, second])
    native, plain = both(stage, buffers, flats)
    for got, wanted in zip(native, plain, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("shape", [(7, 300), (100, 3), (5000,), (3, 5, 40), (2, 3, 5, 7, 11)])
def test_cuts_and_neighbours_change_nothing(shape):
    rng = np.random.default_rng(5)
    n = int(np.prod(shape))
    x, bias, out = (
        dense(0, "float32", shape),
        dense(1, "float32", shape[-1:]),
        dense(2, "float32", shape),
    )
    bias = View(1, "float32", shape, (*[0] * (len(shape) - 1), 1), 0)
    steps = (
        PointStep("add_f32", (0, 1), "float32", None),
        PointStep("tanh_f32", (2,), "float32", None),
    )
    program = PointProgram(shape=shape, operands=(x, bias), steps=steps, results=(3,))
    buffers = [arena("float32", n), arena("float32", shape[-1]), arena("float32", n)]
    flats = [data(rng, "float32", n), data(rng, "float32", shape[-1]), np.zeros(n, np.float32)]
    stage = stage_of(program, [x, bias], [out])
    whole, _ = both(stage, buffers, flats)
    encoded = run_native(stage, buffers, [f.copy() for f in flats])
    rows, columns = encoded.items, encoded.items2
    at, at2 = rows // 3, columns // 2 + 1
    cuts = [
        (lo, hi, lo2, hi2)
        for lo, hi in ((at, rows), (0, at))
        for lo2, hi2 in ((0, at2), (at2, columns))
        if lo2 < hi2
    ]
    pieces = [f.copy() for f in flats]
    run_native(stage, buffers, pieces, cuts)
    assert pieces[2].tobytes() == whole[2].tobytes()
    flats[0][n // 2] = np.nan
    run_native(stage, buffers, flats)
    changed = flats[2].view(np.int32) != whole[2].view(np.int32)
    assert changed.nonzero()[0].tolist() == [n // 2]


def test_rows_run_on_into_the_next_instance():
    shape, instances = (1, 20), 3
    rng = np.random.default_rng(6)
    weight = Buffer(kind=BufferKind.WEIGHT, dtype="float32", elements=20, index=0)
    buffers = [arena("float32", 20), weight, arena("float32", 20)]
    x, w, out = (dense(i, "float32", shape) for i in range(3))
    program = PointProgram(
        shape=shape, operands=(x, w), steps=(PointStep("mul_f32", (0, 1), "float32", None),),
        results=(2,),
    )  # fmt: skip
    flats = [data(rng, "float32", 60), data(rng, "float32", 20), np.zeros(60, np.float32)]
    stage = stage_of(program, [x, w], [out])
    encoded = run_native(stage, buffers, [f.copy() for f in flats])
    assert encoded.flat
    run_native(stage, buffers, flats, [(0, encoded.items * instances, 0, encoded.items2)])
    np.testing.assert_array_equal(flats[2].reshape(3, 20), flats[0].reshape(3, 20) * flats[1])


@pytest.mark.parametrize("shape", [(6, 50), (1, 300), (40, 16)])
def test_an_epilogue_reads_what_the_stage_made(shape):
    """The machine is called for a rectangle, and result 0 is also operand 0."""
    rng = np.random.default_rng(7)
    n = int(np.prod(shape))
    raw, other = dense(0, "float32", shape), dense(1, "float32", shape)
    steps = (
        PointStep("relu_f32", (0,), "float32", None),
        PointStep("sub_f32", (0, 1), "float32", None),
    )
    program = PointProgram(shape=shape, operands=(None,), steps=steps, results=(1, 2))
    stage = replace(stage_of(program, [], [raw, other]), op=TileOp.GEMM)
    flats = [data(rng, "float32", n), np.zeros(n, np.float32)]
    before = flats[0].reshape(shape).copy()
    words = np.array(point_words(stage), np.int64)
    table = np.array([f.ctypes.data for f in flats], np.int64)
    scratch = np.full(POINT_SCRATCH_BYTES, 0xFF, np.uint8)
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)(address("pointwise_program"))
    rows, columns = shape
    for row, take in ((0, rows // 2), (rows // 2, rows - rows // 2)):
        run(
            words.ctypes.data,
            table.ctypes.data,
            0,
            0,
            row,
            take,
            0,
            columns - 3,
            scratch.ctypes.data,
        )
    wanted = before.copy()
    wanted[:, : columns - 3] = np.maximum(before, 0)[:, : columns - 3]
    np.testing.assert_array_equal(flats[0].reshape(shape), wanted)
    rest = np.zeros(shape, np.float32)
    rest[:, : columns - 3] = (before - np.maximum(before, 0))[:, : columns - 3]
    np.testing.assert_array_equal(flats[1].reshape(shape), rest)
