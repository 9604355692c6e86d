"""Grouped pointwise stages in Triton's interpreter: every step, odd shapes, strange strides."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import check_grouped, interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import of
from fusec.ir.stage import Buffer, BufferKind, PointProgram, PointStep, Stage, TileOp, View, dense
from fusec.kernels.pointwise.steps import STEPS

interpreter()

DTYPE = {"f32": "float32", "f64": "float64", "i64": "int64", "i32": "int32", "b8": "bool"}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -3e38, 0.5, 1.5, 2.5, -1.5]
CLOSE = {
    "exp": 2, "exp2": 2, "expm1": 3, "log": 2, "log2": 2, "log10": 2, "log1p": 3, "tanh": 4,
    "sigmoid": 3, "erf": 3, "sin": 2, "cos": 2, "silu": 4, "mish": 5, "softplus": 4, "selu": 4,
    "elu": 4, "celu": 5, "pow": 1, "hardswish": 3, "hardsigmoid": 2, "rsqrt": 2, "leaky_relu": 1,
    "gelu": 4, "gelu_tanh": 4,
}  # fmt: skip
"""Units in the last place; one more than on a card, as the interpreter rounds products of sums."""


def data(rng: np.random.Generator, dtype: str, n: int) -> np.ndarray:
    if dtype == "bool":
        return rng.integers(0, 2, n).astype(bool)
    if dtype in ("float16", "bfloat16"):
        return rng.standard_normal(n).astype(np.float16).view(numpy_dtype(dtype))
    if numpy_dtype(dtype).kind in "iu":
        return rng.integers(-100 if dtype != "uint8" else 0, 100, n).astype(dtype)
    return (rng.standard_normal(n) * 3).astype(dtype)


def arena(dtype: str, n: int) -> Buffer:
    return Buffer(kind=BufferKind.ARENA, dtype=dtype, elements=n, index=-1)


def stage_of(program: PointProgram, writes: list[View]) -> Stage:
    return Stage(
        op=TileOp.POINTWISE, reads=(), writes=tuple(writes), attrs=(), point=program,
        extern=None, rows=(0,),
    )  # fmt: skip


def assert_close(name: str, got: np.ndarray, wanted: np.ndarray) -> None:
    op = name.rpartition("_")[0]
    if got.dtype != np.float32 or op not in CLOSE:
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        return
    plain = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~plain], wanted[~plain], err_msg=name)
    got, wanted = got[plain], wanted[plain]
    unit = np.spacing(np.maximum(np.abs(wanted), np.float32(1e-38)))
    if op.startswith("gelu"):  # small results are differences of large ones there
        unit = np.maximum(unit, np.spacing(np.float32(0.25)))
    off = np.abs(got.astype(np.float64) - wanted) / unit
    assert off.max() <= CLOSE[op], (name, off.max(), got[off.argmax()], wanted[off.argmax()])


@pytest.mark.parametrize("name", list(STEPS))
def test_every_step(name: str) -> None:
    rng = np.random.default_rng(len(name))
    kind = STEPS[name]
    n = 400
    given = []
    for i, cls in enumerate(kind.operands):
        values = data(rng, DTYPE[cls], n)
        if cls in ("f32", "f64"):
            values *= rng.choice([0.01, 1, 1, 5], n).astype(values.dtype)
            special = np.repeat(SPECIAL, 13) if i else np.tile(SPECIAL, 13)
            values[: 13 * 13] = special
        given.append(values)
    op = name.rpartition("_")[0]
    if "_of_" in name and kind.result in ("i64", "i32") and kind.operands[0][0] == "f":
        given[0][: 13 * 13] = 7.9
    if op in ("sin", "cos"):
        given[0][np.abs(given[0]) > 1e15] = 1e6
    if op == "celu":
        given[1] = np.clip(np.abs(given[1]), 0.1, 10)
    if op in ("fmod", "remainder", "floor_divide") and kind.result == "f32":
        # The interpreter has no fused product and sum: quotients as those of doubles are exact.
        for values in given:
            values[np.isfinite(values) & (np.abs(values) > 1e6)] = 77.5
            values[np.isfinite(values) & (np.abs(values) < 1e-6)] = 0.25
    if name.startswith(("floor_divide_i", "remainder_i", "fmod_i")):
        given[1][given[1] == 0] = -1
    if op == "const":
        given = [np.full(n, 3, given[0].dtype)]
    loads = [dense(i, DTYPE[cls], (n,)) for i, cls in enumerate(kind.operands)]
    out = dense(len(loads), DTYPE[kind.result], (n,))
    step = PointStep(name, tuple(range(len(loads))), DTYPE[kind.result], None)
    program = PointProgram(shape=(n,), operands=tuple(loads), steps=(step,), results=(len(loads),))
    buffers = [arena(v.dtype, n) for v in (*loads, out)]
    flats = [*given, np.zeros(n, numpy_dtype(out.dtype))]
    got, wanted = check_grouped(
        stage_of(program, [out]), buffers, flats, {"BLOCK_M": 1, "BLOCK_N": 512}
    )
    assert_close(name, got[-1], wanted[-1])


@st.composite
def frames(draw: st.DrawFn) -> tuple:
    """Draw a shape, and how each of three views lies: dense, broadcast, or turned."""
    rank = draw(st.integers(0, 5))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 5, 16, 17])) for _ in range(rank))
    while np.prod(shape) > 3000:
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


@settings(max_examples=25, deadline=None)
@given(frames(), st.integers(0, 2**31), st.sampled_from(["float32", "float64", "int64", "uint8"]))
def test_any_shape_and_strides(frame: tuple, seed: int, dtype: str) -> None:
    shape, layouts, gap = frame
    rng = np.random.default_rng(seed)
    cls = {"float32": "f32", "float64": "f64", "int64": "i64", "uint8": "i32"}[dtype]
    a, na = placed(0, dtype, shape, *layouts[0], gap)
    b, nb = placed(1, "float32", shape, *layouts[1], 0)
    out, nout = placed(2, dtype, shape, layouts[2][0], set(), gap)
    second, nsecond = placed(3, "bool", shape, layouts[2][0], set(), 0)
    cast = "same_f32" if cls == "f32" else f"f32_of_{cls}"
    steps = (
        PointStep(cast, (0,), "float32", None),
        PointStep("mul_f32", (2, 1), "float32", None),
        PointStep("gt_f32", (3,), "bool", 0.25),
        PointStep(f"where_{cls}", (4, 0), dtype, 7),
    )
    program = PointProgram(shape=shape, operands=(a, b), steps=steps, results=(5, 4))
    sizes = ((a, na), (b, nb), (out, nout), (second, nsecond))
    buffers = [arena(v.dtype, n) for v, n in sizes]
    flats = [data(rng, buffer.dtype, buffer.elements) for buffer in buffers]
    blocks = {"BLOCK_M": 32, "BLOCK_N": 32}
    got, wanted = check_grouped(stage_of(program, [out, second]), buffers, flats, blocks)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int16", "int8"])
def test_narrow_dtypes_and_symbols(dtype: str) -> None:
    rng = np.random.default_rng(4)
    rows = of("rows")
    floats = dtype in ("float16", "bfloat16")
    cls = "f32" if floats else "i32"
    narrow = {"float16": "round_f16", "bfloat16": "round_bf16", "int16": "wrap_i16"}
    steps = (
        PointStep(f"mul_{cls}", (0, 0), dtype, None),
        PointStep(f"add_{cls}", (1,), dtype, rows),
        PointStep(f"{narrow.get(dtype, 'wrap_i8')}_{cls}", (2,), dtype, None),
    )
    view, out = dense(0, dtype, (rows, 13)), dense(1, dtype, (rows, 13))
    program = PointProgram(shape=(rows, 13), operands=(view,), steps=steps, results=(3,))
    buffers = [arena(dtype, rows * 13)] * 2
    flats = [data(rng, dtype, 7 * 13), np.zeros(7 * 13, numpy_dtype(dtype))]
    got, wanted = check_grouped(stage_of(program, [out]), buffers, flats, symbols={"rows": 7})
    np.testing.assert_array_equal(got[1], wanted[1])


def test_instances_that_follow_are_rows_of_one_line() -> None:
    rng = np.random.default_rng(6)
    weight = Buffer(kind=BufferKind.WEIGHT, dtype="float32", elements=20, index=0)
    buffers = [arena("float32", 20), weight, arena("float32", 20)]
    x, w, out = (dense(i, "float32", (1, 20)) for i in range(3))
    step = PointStep("mul_f32", (0, 1), "float32", None)
    program = PointProgram(shape=(1, 20), operands=(x, w), steps=(step,), results=(2,))
    flats = [data(rng, "float32", 60), data(rng, "float32", 20), np.zeros(60, np.float32)]
    got, _ = check_grouped(stage_of(program, [out]), buffers, flats, count=3)
    np.testing.assert_array_equal(got[2].reshape(3, 20), flats[0].reshape(3, 20) * flats[1])
