"""Reductions against ONNX Runtime."""

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats

NAMES = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


@pytest.mark.parametrize("op", NAMES)
def test_axes_by_attribute_and_by_input(rng, op):
    x = np.abs(floats(rng, 2, 3, 4)) + 0.1
    for axes, keep in (([1], 0), ([0, -1], 1), (None, 1), (None, 0)):
        attributes = {"keepdims": keep} | ({} if axes is None else {"axes": axes})
        agree(op, [x], opset=11, attributes=attributes, export=axes == [1])
        given = [] if axes is None else [np.array(axes)]
        agree(op, [x, *given], opset=18, attributes={"keepdims": keep}, weights=(1,), export=False)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMean"])
def test_no_axes_may_mean_no_reduction(rng, op):
    inputs = [floats(rng, 2, 3), np.array([], np.int64)]
    agree(op, inputs, opset=18, attributes={"noop_with_empty_axes": 1}, weights=(1,))


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers(rng, op, dtype):
    x = rng.integers(-4, 5, (3, 4)).astype(dtype)
    agree(op, [x, np.array([1])], opset=18, weights=(1,), export=dtype == np.int32)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceL2", "ReduceSumSquare"])
def test_empty(rng, op):
    agree(op, [floats(rng, 2, 0, 3), np.array([1])], opset=18, weights=(1,))


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_first_or_last_of_equals(rng, op, last):
    x = rng.integers(0, 3, (4, 5)).astype(np.float32)
    for axis, keep in ((0, 1), (-1, 0)):
        attributes = {"axis": axis, "keepdims": keep, "select_last_index": last}
        agree(op, [x], opset=13, attributes=attributes)
