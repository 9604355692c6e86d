"""Copies against NumPy: every size of element, turned, repeated and reversed views, cuts."""

import numpy as np
import pytest
from fusec_testing.stages import run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.stage import Buffer, BufferKind, Stage, TileOp, View, dense


def copy_of(source, target, attrs=()):
    return Stage(
        op=TileOp.COPY, reads=(source,) if source else (), writes=(target,), attrs=attrs,
        point=None, extern=None, rows=(0,),
    )  # fmt: skip


def arena(view, n):
    return Buffer(kind=BufferKind.ARENA, dtype=view.dtype, elements=n, index=-1)


def noise(rng, dtype, n):
    return rng.integers(0, 255, n * numpy_dtype(dtype).itemsize, np.uint8).view(numpy_dtype(dtype))


def check(stage, buffers, flats, cuts=None):
    native, plain = [f.copy() for f in flats], [f.copy() for f in flats]
    encoded = run_native(stage, buffers, native, cuts)
    run_reference(stage, plain)
    assert [f.tobytes() for f in native] == [f.tobytes() for f in plain]
    return encoded


@st.composite
def moves(draw):
    rank = draw(st.integers(0, 5))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 16, 17, 35])) for _ in range(rank))
    while np.prod(shape) > 40_000:
        shape = shape[1:]
    order = draw(st.permutations(range(len(shape))))
    target = draw(st.permutations(range(len(shape))))
    repeated = draw(st.sets(st.sampled_from(range(5)), max_size=2))
    reversed_ = draw(st.sets(st.sampled_from(range(5)), max_size=1))
    return shape, order, target, repeated, reversed_


@settings(max_examples=150, deadline=None)
@given(moves(), st.sampled_from(["bool", "float16", "float32", "int64", "complex128"]))
def test_any_view_to_any_view(move, dtype):
    shape, order, target_order, repeated, reversed_ = move
    strides, step, offset = [0] * len(shape), 1, 2
    for axis in reversed(order):
        if axis not in repeated:
            strides[axis] = step
            step *= shape[axis]
    for axis in reversed_ & set(range(len(shape))):
        offset += (shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    source = View(0, dtype, shape, tuple(strides), offset)
    strides, step_ = [0] * len(shape), 1
    for axis in reversed(target_order):
        strides[axis] = step_
        step_ *= shape[axis]
    target = View(1, dtype, shape, tuple(strides), 3)
    buffers = [arena(source, step + 4), arena(target, step_ + 5)]
    rng = np.random.default_rng(len(shape))
    check(copy_of(source, target), buffers, [noise(rng, dtype, b.elements) for b in buffers])


@pytest.mark.parametrize("dtype", ["bool", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 3, 1, 2), (2, 0, 1, 3), (3, 2, 1, 0)])
def test_permutations_in_cuts(order, dtype):
    extents = (2, 33, 20, 37)
    made = dense(0, dtype, extents)
    source = View(
        0, dtype, tuple(extents[i] for i in order), tuple(made.strides[i] for i in order), 0
    )
    target = dense(1, dtype, source.shape)
    n = int(np.prod(extents))
    buffers = [arena(source, n), arena(target, n)]
    flats = [noise(np.random.default_rng(1), dtype, n) for _ in range(2)]
    encoded = check(copy_of(source, target), buffers, flats)
    rows, columns = encoded.items, encoded.items2
    cuts = [
        (lo, hi, lo2, hi2)
        for lo, hi in ((rows // 3, rows), (0, rows // 3))
        for lo2, hi2 in ((0, 1), (1, columns))
        if lo2 < hi2
    ]
    check(copy_of(source, target), buffers, flats, cuts)


@pytest.mark.parametrize(
    ("dtype", "start", "step"), [("int64", -3, 2), ("int32", 5, -1), ("float32", 0.5, 0.1)]
)
def test_numbers(dtype, start, step):
    target = dense(0, dtype, (1000,))
    stage = copy_of(None, target, (("form", "arange"), ("start", start), ("step", step)))
    check(stage, [arena(target, 1000)], [np.zeros(1000, dtype)], [(0, 7, 0, 1), (7, 1000, 0, 1)])
