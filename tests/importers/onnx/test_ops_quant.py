"""Quantised operators against ONNX Runtime."""

import numpy as np
import pytest
import torch
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"


def _bytes(rng, shape, dtype=np.uint8):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _agree(op, inputs, *, within=0, export=True, **options):
    """Compare with ONNX Runtime; `within` is in units of a quantised result."""
    model = node_model(op, inputs, **options)
    wanted = run_runtime(model, inputs)
    results = [run_fusec(model, inputs)]
    if export:
        results.append(run_exported(model, inputs))
    for got in results:
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            if theirs.dtype.kind == "f":
                scale = np.abs(theirs).max() + 1e-6
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * scale)
            else:
                far = np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max(initial=0)
                assert far <= within, f"{op}: {far} apart"
    return wanted


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantize_and_dequantize(rng, dtype, axis):
    x = _floats(rng, 3, 4, 5) * 40
    count = () if axis is None else (x.shape[axis],)
    scale = rng.uniform(0.1, 2, count).astype(np.float32)
    zero = _bytes(rng, count, dtype)
    attributes = {} if axis is None else {"axis": axis}
    (levels,) = _agree("QuantizeLinear", [x, scale, zero], opset=21, attributes=attributes)
    _agree("DequantizeLinear", [levels, scale, zero], opset=21, attributes=attributes)


def test_quantize_ties_go_to_even_and_infinities_saturate():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, np.inf, -np.inf, 1e30], np.float32)
    _agree("QuantizeLinear", [x, np.float32(1), np.int8(3)], opset=13)


@pytest.mark.parametrize("length", [4, 5, 7])
def test_blocked(rng, length):
    x = _floats(rng, 2, length, 3) * 20
    scale = rng.uniform(0.1, 1, (2, -(-length // 3), 3)).astype(np.float32)
    zero = _bytes(rng, scale.shape)
    attributes = {"axis": 1, "block_size": 3}
    (levels,) = _agree("QuantizeLinear", [x, scale, zero], opset=21, attributes=attributes)
    _agree("DequantizeLinear", [levels, scale, zero], opset=21, attributes=attributes)


def test_dequantize_int32_is_exact_beyond_24_bits():
    x = np.array([2**24 + 1, -(2**24) - 3, 2**31 - 1], np.int32)
    _agree("DequantizeLinear", [x, np.float32(0.5)], opset=13)


@pytest.mark.parametrize("x", [[0.0, 0.0], [-1.0, 4.0, 0.3], [2.0, 3.0], [-2.0, -3.0, -0.01]])
def test_dynamic_quantize(x):
    _agree("DynamicQuantizeLinear", [np.array(x, np.float32)], opset=11, outputs=3)


@pytest.mark.parametrize("terms", [3, 300])
@pytest.mark.parametrize("signed", [False, True])
def test_matmul_integer(rng, terms, signed):
    a, b = _bytes(rng, (2, 5, terms)), _bytes(rng, (terms, 4), np.int8 if signed else np.uint8)
    b_zero = _bytes(rng, (4,), b.dtype)
    _agree("MatMulInteger", [a, b, _bytes(rng, ()), b_zero], opset=10, weights=(1, 3))


def test_matmul_integer_worst_case_is_exact():
    a = np.full((1, 3000), 255, np.uint8)
    b = np.full((3000, 2), 255, np.uint8)
    (wanted,) = _agree("MatMulInteger", [a, b], opset=10)
    assert wanted[0, 0] == 3000 * 255 * 255


@pytest.mark.parametrize("group", [1, 2])
def test_conv_integer(rng, group):
    x, w = _bytes(rng, (2, 4, 9, 7)), _bytes(rng, (6, 4 // group, 3, 3))
    inputs = [x, w, _bytes(rng, ()), _bytes(rng, ())]
    attributes = {"group": group, "pads": [1, 0, 2, 1], "strides": [2, 1]}
    _agree("ConvInteger", inputs, opset=10, attributes=attributes, weights=(1, 3))


@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_conv(rng, per_channel):
    count = (6,) if per_channel else ()
    inputs = [
        _bytes(rng, (1, 3, 8, 8)), np.float32(0.02), np.uint8(128),
        _bytes(rng, (6, 3, 3, 3), np.int8), rng.uniform(0.01, 0.03, count).astype(np.float32),
        np.zeros(count, np.int8), np.float32(0.05), np.uint8(110),
        rng.integers(-2000, 2000, 6).astype(np.int32),
    ]  # fmt: skip
    weights = tuple(range(1, 9))
    _agree("QLinearConv", inputs, opset=10, within=1, weights=weights, attributes={"pads": [1] * 4})


def test_qlinear_matmul(rng):
    inputs = [
        _bytes(rng, (5, 30)), np.float32(0.02), np.uint8(120),
        _bytes(rng, (30, 7), np.int8), rng.uniform(0.01, 0.03, 7).astype(np.float32),
        np.zeros(7, np.int8), np.float32(0.4), np.uint8(100),
    ]  # fmt: skip
    _agree("QLinearMatMul", inputs, opset=10, within=1, weights=tuple(range(1, 8)))


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_qlinear_binary(rng, op):
    inputs = [
        _bytes(rng, (2, 3, 8)), np.float32(0.02), np.uint8(120),
        _bytes(rng, (3, 8)), np.float32(0.03), np.uint8(7), np.float32(0.05), np.uint8(90),
    ]  # fmt: skip
    _agree(op, inputs, domain=MS, within=1)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.2}),
        ("QLinearSoftmax", {"axis": -1, "opset": 13}),
        ("QLinearSoftmax", {"axis": 1, "opset": 12}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearGlobalAveragePool", {"channels_last": 1}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ],
)
def test_qlinear_unary(rng, op, attributes):
    scale = 1 / 256 if "Softmax" in op or "Sigmoid" in op else 0.03
    zero = np.uint8(0 if "Softmax" in op else 3)
    inputs = [_bytes(rng, (2, 3, 6, 4)), np.float32(0.02), np.uint8(120), np.float32(scale), zero]
    _agree(op, inputs, domain=MS, within=1, attributes=attributes, weights=(1, 2, 3, 4))


def test_qlinear_concat(rng):
    inputs = [
        np.float32(0.04), np.uint8(9),
        _bytes(rng, (2, 3)), np.float32(0.02), np.uint8(120),
        _bytes(rng, (2, 5)), np.float32(0.03), np.uint8(100),
    ]  # fmt: skip
    _agree("QLinearConcat", inputs, domain=MS, within=1, attributes={"axis": 1})


@pytest.mark.parametrize("quantised", [False, True])
def test_qgemm(rng, quantised):
    inputs = [
        _bytes(rng, (4, 10)), np.float32(0.02), np.uint8(120),
        _bytes(rng, (6, 10), np.int8), rng.uniform(0.01, 0.03, 6).astype(np.float32),
        np.zeros(6, np.int8), rng.integers(-500, 500, 6).astype(np.int32),
    ]  # fmt: skip
    inputs += [np.float32(0.1), np.uint8(77)] if quantised else []
    _agree(
        "QGemm", inputs, domain=MS, within=1, attributes={"transB": 1},
        weights=tuple(range(1, len(inputs))),
    )  # fmt: skip


def test_matmul_integer_to_float(rng):
    inputs = [
        _bytes(rng, (2, 4, 10)), _bytes(rng, (10, 6), np.int8), np.float32(0.02),
        rng.uniform(0.01, 0.03, 6).astype(np.float32), np.uint8(120), np.zeros(6, np.int8),
        _floats(rng, 6),
    ]  # fmt: skip
    _agree("MatMulIntegerToFloat", inputs, domain=MS, weights=(1, 2, 3, 4, 5, 6))


def test_dynamic_quantize_matmul(rng):
    inputs = [
        _floats(rng, 3, 4, 10), _bytes(rng, (10, 6), np.int8), np.array([0.02], np.float32),
        np.array([3], np.int8), _floats(rng, 6),
    ]  # fmt: skip
    _agree("DynamicQuantizeMatMul", inputs, domain=MS, weights=(1, 2, 3))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantize_lstm(rng, direction, per_channel):
    time, batch, size, hidden = 5, 1, 6, 4
    dirs = 2 if direction == "bidirectional" else 1
    count = (dirs, 4 * hidden) if per_channel else (dirs,)
    inputs = [
        _floats(rng, time, batch, size),
        _bytes(rng, (dirs, size, 4 * hidden), np.int8),
        _bytes(rng, (dirs, hidden, 4 * hidden), np.int8),
        _floats(rng, dirs, 8 * hidden), None,
        _floats(rng, dirs, batch, hidden), _floats(rng, dirs, batch, hidden),
        _floats(rng, dirs, 3 * hidden),
        rng.uniform(0.005, 0.01, count).astype(np.float32), np.zeros(count, np.int8),
        rng.uniform(0.005, 0.01, count).astype(np.float32), np.zeros(count, np.int8),
    ]  # fmt: skip
    attributes = {"direction": direction, "hidden_size": hidden}
    weights = (1, 2, 3, 7, 8, 9, 10, 11)
    _agree(
        "DynamicQuantizeLSTM", inputs, domain=MS, outputs=3, weights=weights,
        attributes=attributes,
    )  # fmt: skip


def test_four_bit_weights_are_weights(rng):
    """Models that differ in 4-bit weights only have one raw structure."""
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.structure import structure

    def model(kind):
        values = rng.integers(-8, 8, (32, 6))
        weight = helper.make_tensor("w", kind, values.shape, (values & 15).ravel().tolist())
        scale = rng.uniform(0.01, 0.1, (2, 6)).astype(np.float32)
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=16),
            helper.make_node("MatMul", ["x0", "d"], ["y"]),
        ]
        x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 32])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])
        graph = helper.make_graph(
            nodes, "g", [x], [y], [weight, numpy_helper.from_array(scale, "s")]
        )
        opsets = [helper.make_opsetid("", 21)]
        signed = values if kind == TensorProto.INT4 else values & 15
        return helper.make_model(graph, opset_imports=opsets), signed * np.repeat(scale, 16, 0)

    (first, dense), (second, _), (third, _) = (
        model(kind) for kind in (TensorProto.INT4, TensorProto.INT4, TensorProto.UINT4)
    )
    keys = [structure(load_model(m)).key for m in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]
    weight = structure(load_model(first)).weights[0].tensor()
    assert weight.dtype == torch.int8
    x = _floats(rng, 1, 32)
    for run in (run_fusec, run_exported):
        (y,) = run(first, [x])
        np.testing.assert_allclose(y, x @ dense, rtol=1e-5, atol=1e-5)
