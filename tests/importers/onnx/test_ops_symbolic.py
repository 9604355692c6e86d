"""Operators traced with sizes left open, run at other sizes, against ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch
from fusec_testing.onnx_agree import floats
from fusec_testing.onnx_node import node_model, run_runtime

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule

AUTO = torch.export.Dim.AUTO


def _any_size(model, examples, others, axes, *, atol=1e-5):
    """Trace at the sizes of `examples` with `axes` open; compare at those of `others`."""
    for value, open_axes in zip(model.graph.input, axes, strict=True):
        for axis in open_axes:
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    tensors = tuple(torch.from_numpy(x) for x in examples)
    shapes = (tuple(dict.fromkeys(open_axes, AUTO) for open_axes in axes),)
    program = torch.export.export(
        OnnxModule(load_model(model)), tensors, dynamic_shapes=shapes, strict=False
    )
    inputs = [value for value in program.graph.nodes if value.op == "placeholder"][-len(axes) :]
    for node, open_axes in zip(inputs, axes, strict=True):
        fixed = [axis for axis in open_axes if isinstance(node.meta["val"].shape[axis], int)]
        assert not fixed, f"tracing fixed axes {fixed} of {node}"
    for feed in (examples, others):
        wanted = run_runtime(model, feed)
        got = program.module()(*(torch.from_numpy(x) for x in feed))
        for ours, theirs in zip(got, wanted, strict=True):
            assert tuple(ours.shape) == theirs.shape
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=atol)


def _ints(*values):
    return np.array(values, np.int64)


IMAGE = [
    ("Conv", {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, ["w"]),
    ("Conv", {"pads": [1, 0, 1, 2]}, ["w"]),
    ("ConvTranspose", {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, ["w"]),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 0, 0, 1]}, ["w"]),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, []),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, []),
    ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "strides": [1, 2]}, []),
    ("GlobalAveragePool", {}, []),
    ("InstanceNormalization", {}, [floats(np.random.default_rng(0), 4)] * 2),
    ("Resize", {"mode": "nearest"}, [None, np.array([1, 1, 2, 2], np.float32)]),
    ("Resize", {"mode": "linear"}, [None, np.array([1, 1, 0.5, 1.5], np.float32)]),
    ("Resize", {"mode": "cubic"}, [None, None, _ints(3, 4, 7, 11)]),
    ("DepthToSpace", {"blocksize": 2}, []),
    ("Pad", {"mode": "reflect"}, [_ints(0, 0, 1, 2, 0, 0, 2, 1)]),
    ("Pad", {"mode": "wrap"}, [_ints(0, 0, 1, 2, 0, 0, 2, 1)]),
    ("Slice", {}, [_ints(-1, 1), _ints(-(2**62), 2**62), _ints(3, 2), _ints(-2, 1)]),
    ("Slice", {}, [_ints(-3), _ints(-1), _ints(-1)]),
    ("Flatten", {"axis": 2}, []),
    ("Reshape", {}, [_ints(0, 4, -1)]),
    ("Transpose", {"perm": [0, 2, 3, 1]}, []),
    ("ReduceMean", {"axes": [2, 3]}, []),
    ("Softmax", {"axis": 2}, []),
    ("Gather", {"axis": 3}, [_ints(-1, 0)]),
    ("Tile", {}, [_ints(1, 2, 1, 3)]),
    ("CumSum", {}, [np.array(2)]),
    ("Hardmax", {"axis": 1}, []),
]


@pytest.mark.parametrize(("op", "attributes", "rest"), IMAGE)
def test_images_of_any_size(rng, op, attributes, rest):
    opset = 19 if attributes.get("mode") == "wrap" else 13
    rest = [floats(rng, 4, 4, 3, 3) if isinstance(item, str) else item for item in rest]
    inputs = [floats(rng, 3, 4, 6, 8), *rest]
    weights = tuple(range(1, len(inputs)))
    model = node_model(op, inputs, opset=opset, attributes=attributes, weights=weights)
    sizes = op != "Resize" or rest[-1].dtype != np.int64
    open_axes = [0, 2, 3] if sizes else [2, 3]
    other = floats(rng, 5 if sizes else 3, 4, 9, 7)
    _any_size(model, inputs[:1], [other], [open_axes])


def _model(text):
    model = onnx.parser.parse_model(text)
    model.ir_version = 8
    return model


def test_shape_arithmetic_before_reshape(rng):
    model = _model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[b, t, 12] x0) => (float[n, h, m, d] y)
        <int64[1] four = {4}, int64[1] rest = {-1}, int64 zero = {0}, int64 one = {1}> {
          s = Shape(x0)
          b = Gather(s, zero)
          t = Gather(s, one)
          zeros = Constant<value_ints = [0]>()
          bu = Unsqueeze(b, zeros)
          tu = Unsqueeze(t, zeros)
          target = Concat<axis = 0>(bu, tu, four, rest)
          r = Reshape(x0, target)
          y = Transpose<perm = [0, 2, 1, 3]>(r)
        }"""
    )
    _any_size(model, [floats(rng, 2, 5, 12)], [floats(rng, 4, 3, 12)], [[0, 1]])


def test_positions_and_causal_mask(rng):
    model = _model(
        """<ir_version: 8, opset_import: ["" : 14]>
        g (float[b, t, 6] x0) => (float[n, m, k] y)
        <int64 zero = {0}, int64 one = {1}, int64 step = {1}> {
          s = Shape(x0)
          t = Gather(s, one)
          positions = Range(zero, t, step)
          axis = Constant<value_ints = [0]>()
          last = Constant<value_ints = [1]>()
          rows = Unsqueeze(positions, last)
          columns = Unsqueeze(positions, axis)
          seen = GreaterOrEqual(rows, columns)
          xt = Transpose<perm = [0, 2, 1]>(x0)
          scores = MatMul(x0, xt)
          low = Constant<value_float = -1e9>()
          masked = Where(seen, scores, low)
          y = Softmax<axis = -1>(masked)
        }"""
    )
    _any_size(model, [floats(rng, 2, 5, 6)], [floats(rng, 3, 7, 6)], [[0, 1]])


def test_expand_to_a_computed_shape(rng):
    model = _model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[b, t, 6] x0, float[1, 1, 6] x1) => (float[n, m, k] y)
        <int64[1] one = {1}, int64[1] six = {6}, int64 zero = {0}> {
          s = Shape(x0)
          axis = Constant<value_ints = [0]>()
          b0 = Gather(s, zero)
          b = Unsqueeze(b0, axis)
          shape = Concat<axis = 0>(b, one, six)
          ones = ConstantOfShape(shape)
          zeros = Mul(ones, x1)
          expanded = Expand(x1, shape)
          sum = Add(expanded, zeros)
          y = Concat<axis = 1>(sum, x0)
        }"""
    )
    inputs = [floats(rng, 2, 5, 6), floats(rng, 1, 1, 6)]
    others = [floats(rng, 4, 3, 6), floats(rng, 1, 1, 6)]
    _any_size(model, inputs, others, [[0, 1], []])


def test_halves_by_size_arithmetic(rng):
    model = _model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[b, c] x0) => (float[n, m] y)
        <int64 one = {1}, int64[1] zero = {0}, int64 two = {2}, int64[1] axis = {1}> {
          s = Shape(x0)
          c = Gather(s, one)
          half = Div(c, two)
          h = Unsqueeze(half, zero)
          end = Mul(h, two)
          first = Slice(x0, zero, h, axis)
          second = Slice(x0, h, end, axis)
          y = Mul(first, second)
        }"""
    )
    _any_size(model, [floats(rng, 2, 8)], [floats(rng, 3, 13)], [[0, 1]])


def test_scales_from_another_image(rng):
    model = _model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[b, 2, h, w] x0, float[b, 3, p, q] x1) => (float[n, c, k, l] y)
        <int64[1] two = {2}, int64[1] four = {4}, int64[1] zero = {0}> {
          s = Shape(x1)
          spatial = Slice(s, two, four, zero)
          own = Shape(x0)
          head = Slice(own, zero, two, zero)
          sizes = Concat<axis = 0>(head, spatial)
          y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x0, , , sizes)
        }"""
    )
    inputs = [floats(rng, 2, 2, 4, 5), floats(rng, 2, 3, 8, 9)]
    others = [floats(rng, 3, 2, 6, 4), floats(rng, 3, 3, 9, 13)]
    _any_size(model, inputs, others, [[0, 2, 3], [0, 2, 3]])
