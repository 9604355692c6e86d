"""Grouped copies in Triton's interpreter: every size of element, turned and repeated views."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import check_grouped, interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import of
from fusec.ir.stage import Buffer, BufferKind, Stage, TileOp, View, dense
from fusec.kernels.copy.grouped import grouped

interpreter()

BLOCKS = {"BLOCK_M": 32, "BLOCK_N": 32}


def copy_of(source: View | None, target: View, attrs: tuple = ()) -> Stage:
    return Stage(
        op=TileOp.COPY, reads=(source,) if source else (), writes=(target,), attrs=attrs,
        point=None, extern=None, rows=(0,),
    )  # fmt: skip


def arena(view: View, n: object) -> Buffer:
    return Buffer(kind=BufferKind.ARENA, dtype=view.dtype, elements=n, index=-1)  # type: ignore[arg-type]


@st.composite
def moves(draw: st.DrawFn) -> tuple:
    rank = draw(st.integers(0, 5))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 16, 17])) for _ in range(rank))
    while np.prod(shape) > 3000:
        shape = shape[1:]
    order = draw(st.permutations(range(len(shape))))
    target = draw(st.permutations(range(len(shape))))
    repeated = draw(st.sets(st.sampled_from(range(5)), max_size=2))
    reversed_ = draw(st.sets(st.sampled_from(range(5)), max_size=1))
    return shape, order, target, repeated, reversed_


@settings(max_examples=25, deadline=None)
@given(moves(), st.sampled_from(["uint8", "float16", "float32", "int64"]))
def test_any_view_to_any_view(move: tuple, dtype: str) -> None:
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
    to, size = [0] * len(shape), 1
    for axis in reversed(target_order):
        to[axis] = size
        size *= shape[axis]
    target = View(1, dtype, shape, tuple(to), 1)
    rng = np.random.default_rng(7)
    wide = numpy_dtype(dtype).itemsize
    flats = [
        rng.integers(0, 255, n * wide, np.uint8).view(numpy_dtype(dtype))
        for n in (step + 4, size + 2)
    ]
    buffers = [arena(source, step + 4), arena(target, size + 2)]
    got, wanted = check_grouped(copy_of(source, target), buffers, flats, BLOCKS)
    assert [f.tobytes() for f in got] == [f.tobytes() for f in wanted]


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32"])
def test_rows_of_numbers(dtype: str) -> None:
    n = of("n")
    start = 0.25 if dtype == "float32" else n * 2
    step = 0.1 if dtype == "float32" else -3
    target = dense(0, dtype, (n,))
    stage = copy_of(None, target, (("form", "arange"), ("start", start), ("step", step)))
    flats = [np.zeros(77, dtype)]
    got, wanted = check_grouped(
        stage, [arena(target, n)], flats, {"BLOCK_M": 1, "BLOCK_N": 16}, symbols={"n": 77}
    )
    np.testing.assert_array_equal(got[0], wanted[0])


def test_elements_of_16_bytes_have_no_grouped_kernel() -> None:
    views = [dense(i, "complex128", (3,)) for i in range(2)]
    assert grouped(copy_of(*views), [arena(v, 3) for v in views]) is None
