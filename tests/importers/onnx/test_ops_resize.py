"""Resize and Upsample against ONNX Runtime, over modes, coordinate rules and opsets."""

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats

TRANSFORMS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def _scales(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("transform", [*TRANSFORMS, "tf_half_pixel_for_nn"])
def test_nearest(rng, transform, nearest):
    x = floats(rng, 1, 2, 5, 26)
    attributes = {"coordinate_transformation_mode": transform, "nearest_mode": nearest}
    for scales in (_scales(1, 1, 2, 3), _scales(1, 1, 0.6, 63 / 26), _scales(1, 1, 0.5, 0.7)):
        inputs = [x, np.zeros(0, np.float32), scales]
        agree("Resize", inputs, opset=11, attributes=attributes, weights=(2,), export=False)
    sizes = np.array([1, 2, 3, 63], np.int64)
    agree("Resize", [x, None, None, sizes], opset=13, attributes=attributes, weights=(3,))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_mixing(rng, mode, transform):
    x = floats(rng, 1, 2, 5, 6)
    attributes = {"coordinate_transformation_mode": transform, "mode": mode}
    for scales in (_scales(1, 1, 2, 3), _scales(1, 1, 0.6, 1.7), _scales(1, 1, 0.2, 0.5)):
        inputs = [x, None, scales]
        agree("Resize", inputs, opset=13, attributes=attributes, weights=(2,), export=False)
    for sizes in ([1, 2, 7, 3], [1, 2, 1, 12]):
        inputs = [x, None, None, np.array(sizes, np.int64)]
        agree("Resize", inputs, opset=13, attributes=attributes, weights=(3,))


@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_to_one_pixel(rng, mode, transform):
    x = floats(rng, 1, 1, 4, 4)
    attributes = {"coordinate_transformation_mode": transform, "mode": mode}
    sizes = np.array([1, 1, 1, 1], np.int64)
    agree("Resize", [x, None, None, sizes], opset=13, attributes=attributes, weights=(3,))


@pytest.mark.parametrize("coefficient", [-0.5, -0.75])
@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic_variants(rng, coefficient, exclude):
    x = floats(rng, 1, 1, 6, 7)
    attributes = {"mode": "cubic", "cubic_coeff_a": coefficient, "exclude_outside": exclude}
    for scales in (_scales(1, 1, 2, 1.5), _scales(1, 1, 0.5, 0.8)):
        agree("Resize", [x, None, scales], attributes=attributes, weights=(2,), export=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_crop_and_resize(rng, mode):
    x = floats(rng, 1, 1, 6, 7)
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 0.9, 1.3], np.float32)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    sizes = np.array([1, 1, 4, 9], np.int64)
    agree("Resize", [x, roi, None, sizes], attributes=attributes, weights=(1, 3))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(rng, mode):
    x = floats(rng, 1, 1, 9, 8)
    attributes = {"mode": mode, "antialias": 1}
    for scales in (_scales(1, 1, 0.5, 0.4), _scales(1, 1, 2, 0.6)):
        agree("Resize", [x, None, scales], opset=18, attributes=attributes, weights=(2,))


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_aspect_ratio_and_axes(rng, policy):
    x = floats(rng, 1, 2, 6, 8)
    attributes = {"keep_aspect_ratio_policy": policy, "axes": [2, 3], "mode": "linear"}
    sizes = np.array([9, 10], np.int64)
    agree("Resize", [x, None, None, sizes], opset=19, attributes=attributes, weights=(3,))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 1.7, 0.6, 0.5])
def test_before_opset_11(rng, mode, scale):
    x = floats(rng, 1, 1, 5, 8)
    scales = _scales(1, 1, scale, scale)
    agree("Resize", [x, scales], opset=10, attributes={"mode": mode}, weights=(1,))
    if scale >= 1:
        agree("Upsample", [x, scales], opset=9, attributes={"mode": mode}, weights=(1,))
        attributes = {"mode": mode, "scales": [1.0, 1.0, scale, scale]}
        agree("Upsample", [x], opset=7, attributes=attributes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers(rng, dtype):
    x = rng.integers(0, 100, (1, 1, 4, 5)).astype(dtype)
    agree("Resize", [x, None, _scales(1, 1, 2, 2)], opset=13, weights=(2,))


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(rng, mode, padding, corners):
    x, grid = floats(rng, 2, 3, 5, 6), (floats(rng, 2, 4, 3, 2) * 1.2)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    agree("GridSample", [x, grid], opset=20, attributes=attributes, atol=2e-5)
    if mode != "cubic":
        x, grid = floats(rng, 1, 2, 4, 5, 3), (floats(rng, 1, 3, 2, 4, 3) * 1.2)
        agree("GridSample", [x, grid], opset=20, attributes=attributes, atol=2e-5, export=False)
