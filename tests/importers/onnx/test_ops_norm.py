"""Normalisations and softmax against ONNX Runtime."""

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_norm(rng, shape, opset):
    x = floats(rng, *shape)
    parameters = [floats(rng, 3), floats(rng, 3), floats(rng, 3), np.abs(floats(rng, 3)) + 0.1]
    weights = (1, 2, 3, 4)
    attributes = {"epsilon": 1e-3}
    agree(
        "BatchNormalization",
        [x, *parameters],
        opset=opset,
        attributes=attributes,
        weights=weights,
        export=opset == 15,
    )


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_norm(rng, axis, outputs):
    x = floats(rng, 3, 4, 5) * 3 + 1
    shape = x.shape[axis:]
    inputs = [x, floats(rng, *shape), floats(rng, *shape)]
    attributes = {"axis": axis, "epsilon": 1e-4}
    agree("LayerNormalization", inputs, attributes=attributes, outputs=outputs, atol=1e-5)
    agree("LayerNormalization", inputs[:2], attributes=attributes, outputs=outputs, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 4, 3, 4), (2, 4, 1)])
def test_instance_norm(rng, shape):
    inputs = [floats(rng, *shape), floats(rng, 4), floats(rng, 4)]
    agree("InstanceNormalization", inputs, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norm(rng, opset):
    x = floats(rng, 2, 6, 3, 4)
    count = 3 if opset == 18 else 6
    inputs = [x, floats(rng, count), floats(rng, count)]
    attributes = {"num_groups": 3}
    agree("GroupNormalization", inputs, opset=opset, attributes=attributes, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(rng, order, axis):
    x = floats(rng, 3, 4, 5)
    agree("LpNormalization", [x], attributes={"p": order, "axis": axis})


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response(rng, size):
    attributes = {"size": size, "alpha": 0.02, "beta": 0.6, "bias": 1.5}
    agree("LRN", [floats(rng, 2, 6, 3, 3)], attributes=attributes, export=size == 3)


@pytest.mark.parametrize("axes", [None, [0, 2, 3], [1], [-1, 1]])
def test_mean_variance(rng, axes):
    attributes = {} if axes is None else {"axes": axes}
    agree("MeanVarianceNormalization", [floats(rng, 2, 3, 4, 5)], attributes=attributes, atol=1e-5)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
def test_softmax_flattens_before_opset_13(rng, op, opset, axis):
    if opset == 7 and axis is not None and axis < 0:
        pytest.skip("negative axes came with opset 11")
    attributes = {} if axis is None else {"axis": axis}
    x = floats(rng, 2, 3, 4)
    agree(op, [x], opset=opset, attributes=attributes, export=opset != 7)


def test_softmax_of_opset_11_sums_to_one_over_all_axes_behind(rng):
    x = floats(rng, 2, 3, 4)
    (y,) = run_fusec(node_model("Softmax", [x], opset=11), [x])
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-6)


def test_hardmax_takes_the_first_of_equals():
    x = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
    agree("Hardmax", [x], opset=13)
