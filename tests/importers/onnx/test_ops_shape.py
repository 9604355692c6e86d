"""Shape, slicing and padding operators against ONNX Runtime."""

import itertools

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec


def _ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("shape", "target", "allowzero"),
    [
        ((2, 3, 4), (0, -1), 0),
        ((2, 3, 4), (4, 0, 2), 0),
        ((2, 3, 4), (-1,), 0),
        ((0, 3), (3, 0), 1),
        ((0, 3), (0, 7, 0), 1),
        ((0, 3), (-1, 3), 0),
        ((4,), (2, 2), 0),
        ((), (1, 1), 0),
        ((1,), (), 0),
    ],
)
def test_reshape(rng, shape, target, allowzero):
    inputs = [floats(rng, *shape), _ints(*target)]
    attributes = {"allowzero": allowzero} if allowzero else {}
    agree("Reshape", inputs, opset=14, attributes=attributes, weights=(1,))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 4)])
def test_flatten(rng, axis, shape):
    agree("Flatten", [floats(rng, *shape)], opset=13, attributes={"axis": axis}, export=axis == 1)


def test_squeeze_and_unsqueeze_by_attribute_and_by_input(rng):
    x = floats(rng, 1, 3, 1, 2)
    agree("Squeeze", [x], opset=11, attributes={"axes": [0, 2]})
    agree("Squeeze", [x], opset=13)
    agree("Squeeze", [x, _ints(-2)], opset=13, weights=(1,))
    agree("Unsqueeze", [x], opset=11, attributes={"axes": [-1, 1]})
    agree("Unsqueeze", [x, _ints(5, 0)], opset=13, weights=(1,))


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([-3], [-1], [2], [1]),
        ([0, 1], [2**31, 2**62], [0, 2], [2, 3]),
        ([-1], [-(2**62)], [2], [-1]),
        ([4], [0], [2], [-2]),
        ([100], [1], [2], [-1]),
        ([-2], [-100], [2], [-3]),
        ([3], [1], [1], [1]),
        ([1, 1], [3, 3], None, None),
        ([-100], [100], [0], [1]),
    ],
)
def test_slice(rng, starts, ends, axes, steps):
    x = floats(rng, 3, 4, 7)
    inputs = [x, _ints(*starts), _ints(*ends)]
    if axes is not None:
        inputs += [_ints(*axes), _ints(*steps)]
    agree("Slice", inputs, opset=13, weights=tuple(range(1, len(inputs))))
    (y,) = run_fusec(node_model("Slice", inputs, weights=tuple(range(len(inputs)))), inputs)
    cut = [slice(None)] * 3
    for axis, start, end, step in zip(axes or [0, 1], starts, ends, steps or [1, 1], strict=True):
        cut[axis] = slice(start, end, step)
    np.testing.assert_array_equal(y, x[tuple(cut)])


def test_slice_before_opset_10(rng):
    attributes = {"starts": [1, -3], "ends": [9, -1], "axes": [0, 2]}
    agree("Slice", [floats(rng, 3, 4, 5)], opset=9, attributes=attributes)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("shape", [(6,), (2, 3, 5), (2, 2, 4, 5), (2, 3, 2, 4, 5)])
def test_pad(rng, mode, shape):
    x = floats(rng, *shape)
    begin, end = [0] * len(shape), [0] * len(shape)
    begin[-1], end[-1] = 2, 3
    if len(shape) > 2:
        begin[-2], end[0] = 1, 1
    pads = _ints(*begin, *end)
    inputs = [x, pads] + ([np.float32(1.5)] if mode == "constant" else [])
    weights = tuple(range(1, len(inputs)))
    agree("Pad", inputs, opset=19, attributes={"mode": mode}, weights=weights)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_negative_pads_crop(rng, mode):
    inputs = [floats(rng, 2, 5, 6), _ints(0, -1, 2, 0, -2, -3)]
    agree("Pad", inputs, opset=13, attributes={"mode": mode}, weights=(1,))


def test_pad_before_opset_11_and_by_axes(rng):
    x = floats(rng, 2, 3, 4)
    attributes = {"pads": [0, 1, 2, 1, 0, 1], "value": 0.5}
    agree("Pad", [x], opset=10, attributes=attributes)
    inputs = [x, _ints(1, 2), np.float32(2), _ints(-1)]
    agree("Pad", inputs, opset=18, weights=(1, 2, 3))
    flags = rng.integers(0, 2, (2, 3)).astype(bool)
    agree("Pad", [flags, _ints(1, 0, 0, 2), np.array(True)], opset=18, weights=(1, 2))


def test_concat_and_split(rng):
    parts = [floats(rng, 2, n, 3) for n in (1, 0, 4)]
    agree("Concat", parts, opset=13, attributes={"axis": -2})
    x = floats(rng, 2, 7, 3)
    agree("Split", [x], opset=11, outputs=2, attributes={"axis": 1, "split": [3, 4]})
    agree("Split", [x, _ints(2, 5)], opset=13, outputs=2, attributes={"axis": 1}, weights=(1,))
    agree("Split", [x], opset=18, outputs=3, attributes={"axis": 1, "num_outputs": 3})
    agree("Split", [floats(rng, 6)], opset=13, outputs=3)


@pytest.mark.parametrize("target", [(3, 1, 4), (2, 3, 4), (1,), (4, 2, 3, 1)])
def test_expand(rng, target):
    inputs = [floats(rng, 3, 1), _ints(*target)]
    agree("Expand", inputs, opset=13, weights=(1,))


def test_tile_range_and_fills(rng):
    agree("Tile", [floats(rng, 2, 3), _ints(2, 1)], opset=13, weights=(1,))
    for start, limit, delta in ((0, 10, 3), (10, 0, -4), (5, 5, 1), (5, 1, 1)):
        for dtype in (np.int64, np.float32, np.int16):
            inputs = [np.array(v, dtype) for v in (start, limit, delta)]
            agree("Range", inputs, opset=11, weights=(0, 1, 2), export=False)
    agree("EyeLike", [floats(rng, 3, 4)], attributes={"k": -1, "dtype": 7})
    for upper, k in itertools.product([0, 1], [-1, 0, 2]):
        inputs = [floats(rng, 2, 3, 4), np.array(k)]
        agree("Trilu", inputs, attributes={"upper": upper}, weights=(1,), export=k == 2)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(rng, mode):
    attributes = {"blocksize": 2, "mode": mode}
    agree("DepthToSpace", [floats(rng, 2, 8, 3, 2)], opset=13, attributes=attributes)
    agree("SpaceToDepth", [floats(rng, 2, 3, 4, 6)], opset=13, attributes={"blocksize": 2})


def test_transpose_defaults_to_reversal(rng):
    agree("Transpose", [floats(rng, 2, 3, 4)], opset=13)
    agree("Transpose", [floats(rng, 2, 3, 4)], opset=13, attributes={"perm": [1, 0, 2]})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_where(rng, dtype):
    condition = rng.integers(0, 2, (3, 1)).astype(bool)
    a, b = (rng.integers(0, 5, (4,)).astype(dtype) for _ in range(2))
    agree("Where", [condition, a, b], opset=16, export=dtype == np.float32)
