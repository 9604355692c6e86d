"""Pools against ONNX Runtime: ceil mode, paddings, dilations, indices, regions."""

import itertools

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec

PADS = [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 2, 1]]


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool(rng, pads, ceil, dilation):
    x = floats(rng, 2, 3, 9, 8)
    attributes = {
        "kernel_shape": [3, 3],
        "strides": [2, 3],
        "pads": pads,
        "ceil_mode": ceil,
        "dilations": [dilation] * 2,
    }
    agree("MaxPool", [x], opset=12, attributes=attributes, outputs=2, export=ceil == 1)
    agree("MaxPool", [x], opset=12, attributes=attributes, export=False)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_indices(rng, order, rank):
    x = floats(rng, 2, 2, *[7, 6, 5][:rank])
    attributes = {"kernel_shape": [2] * rank, "pads": [1] * 2 * rank, "storage_order": order}
    agree("MaxPool", [x], attributes=attributes, outputs=2)


@pytest.mark.parametrize("auto_pad", ["VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_auto_pad(rng, op, auto_pad):
    for kernel, stride in itertools.product([2, 3], [1, 2]):
        x = floats(rng, 1, 2, 7, 8)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "auto_pad": auto_pad}
        agree(op, [x], opset=11, attributes=attributes, export=kernel == 3)


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(rng, pads, ceil, include):
    x = floats(rng, 2, 3, 9, 8)
    for dilation in (1, 2):
        attributes = {
            "kernel_shape": [3, 3],
            "strides": [2, 3],
            "pads": pads,
            "ceil_mode": ceil,
            "count_include_pad": include,
            "dilations": [dilation] * 2,
        }
        agree("AveragePool", [x], opset=19, attributes=attributes, export=dilation == 1)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
def test_ceil_mode_drops_windows_that_start_in_the_padding(rng, op, size):
    x = floats(rng, 1, 1, size)
    attributes = {"kernel_shape": [3], "strides": [2], "pads": [1, 1], "ceil_mode": 1}
    agree(op, [x], opset=19, attributes=attributes, export=False)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_lp_pools(rng, order):
    x = floats(rng, 2, 3, 7, 8)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "p": order}
    agree("LpPool", [x], attributes=attributes)
    agree("GlobalLpPool", [x], attributes={"p": order})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_global_pools(rng, op, shape):
    agree(op, [floats(rng, *shape)])


def test_integer_max_pool(rng):
    x = rng.integers(-128, 128, (1, 2, 6, 6)).astype(np.int8)
    attributes = {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "strides": [2, 2]}
    agree("MaxPool", [x], opset=12, attributes=attributes)


def test_max_pool_passes_nan(rng):
    x = floats(rng, 1, 1, 6)
    x[0, 0, 2] = np.nan
    model = node_model("MaxPool", [x], attributes={"kernel_shape": [2], "pads": [1, 2]})
    (y,) = run_fusec(model, [x])
    assert np.isnan(y[0, 0, 2:4]).all() and np.isnan(y).sum() == 2


def test_max_unpool(rng):
    x = floats(rng, 2, 2, 6, 6)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    pooled, indices = agree("MaxPool", [x], attributes=attributes, outputs=2)
    agree("MaxUnpool", [pooled, indices], attributes=attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_roi_align(rng, mode, ratio, transform):
    x = floats(rng, 2, 3, 10, 12)
    corner = rng.uniform(-1, 8, (5, 2))
    rois = np.concatenate([corner, corner + rng.uniform(0.2, 6, (5, 2))], 1).astype(np.float32)
    images = np.array([0, 1, 1, 0, 0], np.int64)
    attributes = {
        "mode": mode,
        "output_height": 3,
        "output_width": 2,
        "sampling_ratio": ratio,
        "spatial_scale": 0.9,
        "coordinate_transformation_mode": transform,
    }
    agree("RoiAlign", [x, rois, images], opset=16, attributes=attributes, export=ratio > 0)


def test_max_roi_pool(rng):
    x = floats(rng, 2, 3, 10, 12)
    rois = np.array([[0, 1, 2, 7, 8], [1, 0, 0, 11, 9], [1, 5, 5, 5, 5], [0, 3, 1, 9, 3]])
    attributes = {"pooled_shape": [3, 2], "spatial_scale": 0.8}
    agree("MaxRoiPool", [x, rois.astype(np.float32)], attributes=attributes)
