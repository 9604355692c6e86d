"""Gather, scatter and friends against ONNX Runtime."""

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec


@pytest.mark.parametrize("indices", [2, -1, [0, 2], [1, 2, 3], [-1, 0, 0], [[0, 1], [-2, 3]], []])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("weights", [(), (1,)])
def test_gather(rng, indices, axis, weights):
    inputs = [floats(rng, 4, 5, 6), np.array(indices, np.int64)]
    agree("Gather", inputs, opset=13, attributes={"axis": axis}, weights=weights, export=axis == 1)


def test_gather_of_two_known_values():
    inputs = [np.array([5, 6, 7]), np.array([-1, 0])]
    (y,) = run_fusec(node_model("Gather", inputs, weights=(0, 1)), inputs)
    np.testing.assert_array_equal(y, [7, 5])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements(rng, axis):
    x = floats(rng, 3, 4)
    at = rng.integers(-2, 3, (2, 4)).astype(np.int64)
    agree("GatherElements", [x, at], opset=13, attributes={"axis": axis})
    at = np.stack([rng.permutation(3) for _ in range(4)], 1)[:2]
    agree("ScatterElements", [x, at, floats(rng, 2, 4)], opset=13, attributes={"axis": 0})
    agree("Scatter", [x, at, floats(rng, 2, 4)], opset=9, attributes={"axis": 0}, export=False)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_reductions(rng, reduction):
    x, at = floats(rng, 4, 3), np.array([[0, 2, 3], [0, -2, 1]])
    attributes = {} if reduction == "none" else {"reduction": reduction}
    if reduction == "none":
        at = np.array([[0, 2, 3], [1, -1, 0]])
    inputs = [x, at, floats(rng, 2, 3)]
    agree("ScatterElements", inputs, opset=18, attributes=attributes)
    at = np.array([[0], [3]]) if reduction == "none" else np.array([[0], [0]])
    agree("ScatterND", [x, at, floats(rng, 2, 3)], opset=18, attributes=attributes)
    at = np.array([[[0, 1]], [[-1, 2]]])
    agree("ScatterND", [x, at, floats(rng, 2, 1)], opset=18, attributes=attributes)


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(rng, batch):
    x = floats(rng, 2, 3, 4)
    at = np.array([[[0], [1]], [[1], [-1]]])
    agree("GatherND", [x, at], opset=13, attributes={"batch_dims": batch})
    if batch == 0:
        agree("GatherND", [x, np.array([[1, -1], [0, 2]])], opset=13)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("depth", [4, [4]])
def test_one_hot(rng, axis, depth):
    inputs = [np.array([[0, 3], [-1, 7]]), np.array(depth), np.array([-1, 2], np.float32)]
    agree("OneHot", inputs, opset=11, attributes={"axis": axis}, weights=(1,))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_top_k_prefers_the_lower_index(rng, largest, axis):
    x = rng.integers(0, 4, (5, 6)).astype(np.float32)
    attributes = {"axis": axis, "largest": largest}
    agree("TopK", [x, np.array([3])], opset=11, outputs=2, attributes=attributes, weights=(1,))
    if largest:
        agree(
            "TopK", [x, np.array([3])], opset=10, outputs=2, attributes={"axis": axis}, weights=(1,)
        )


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_running_sum(rng, reverse, exclusive):
    attributes = {"reverse": reverse, "exclusive": exclusive}
    for dtype in (np.float32, np.int32):
        x = rng.integers(-5, 5, (3, 4)).astype(dtype)
        agree("CumSum", [x, np.array(-1)], opset=14, attributes=attributes, weights=(1,))


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(rng, axis, ordered):
    x = rng.integers(0, 3, (5, 3)).astype(np.float32)
    attributes = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    agree("Unique", [x], outputs=4, attributes=attributes, export=False)


def test_data_dependent_shapes(rng):
    x = rng.integers(0, 2, (3, 4)).astype(np.float32)
    agree("NonZero", [x], opset=13)
    keep = np.array([True, False, True])
    agree("Compress", [x, keep], opset=11, attributes={"axis": 0})
    agree("Compress", [x, keep], opset=11, weights=(1,))


def test_reverse_sequence(rng):
    x, lengths = floats(rng, 5, 3, 2), np.array([5, 1, 3])
    agree("ReverseSequence", [x, lengths], attributes={"time_axis": 0, "batch_axis": 1})
    x = floats(rng, 3, 5)
    agree("ReverseSequence", [x, lengths], attributes={"time_axis": 1, "batch_axis": 0})
