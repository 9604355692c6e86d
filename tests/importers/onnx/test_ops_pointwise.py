"""Elementwise operators against ONNX Runtime: special values, integers, old opsets."""

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec

EDGES = np.array([np.nan, -np.inf, -1e30, -88.8, -3, -1, -0.5, -0.0, 0, 0.5, 1, 3, 88.8, np.inf])
UNARY = [
    ("Abs", {}),
    ("Acos", {}),
    ("Acosh", {}),
    ("Asin", {}),
    ("Asinh", {}),
    ("Atan", {}),
    ("Atanh", {}),
    ("Ceil", {}),
    ("Celu", {"alpha": 0.7}),
    ("Cos", {}),
    ("Cosh", {}),
    ("Elu", {"alpha": 1.3}),
    ("Erf", {}),
    ("Exp", {}),
    ("Floor", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSwish", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("Log", {}),
    ("Mish", {}),
    ("Neg", {}),
    ("Reciprocal", {}),
    ("Relu", {}),
    ("Round", {}),
    ("Selu", {}),
    ("Selu", {"alpha": 1.5, "gamma": 0.8}),
    ("Shrink", {"lambd": 0.6, "bias": 0.2}),
    ("Sigmoid", {}),
    ("Sin", {}),
    ("Sinh", {}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Sqrt", {}),
    ("Tan", {}),
    ("Tanh", {}),
    ("ThresholdedRelu", {"alpha": 0.4}),
    ("IsNaN", {}),
    ("IsInf", {"detect_negative": 0}),
    ("IsInf", {"detect_positive": 0}),
]
# ONNX Runtime multiplies infinity by zero, or clamps it to a large number, in these.
FINITE_ONLY = {"Cos", "Sin", "Tan", "HardSwish", "Mish", "Erf", "Softsign", "Celu", "Elu", "Selu"}


@pytest.mark.parametrize(("op", "attributes"), UNARY)
def test_unary(rng, op, attributes):
    x = floats(rng, 3, 5) * 2
    opset = 20 if op in ("Mish", "HardSwish", "IsInf") else 13
    agree(op, [x], opset=opset, attributes=attributes, rtol=1e-5, atol=1e-6)
    edges = EDGES[np.isfinite(EDGES)] if op in FINITE_ONLY else EDGES
    edges = np.clip(edges, -5, 5) if op in FINITE_ONLY else edges
    agree(op, [edges.astype(np.float32)], opset=opset, attributes=attributes, export=False)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(rng, approximate):
    agree("Gelu", [floats(rng, 4, 5)], opset=20, attributes={"approximate": approximate})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((4, 1, 3), (2, 1)), ((), (3,)), ((0, 3), (1,))]
)
def test_binary_broadcasts(rng, op, shapes):
    a, b = (np.abs(floats(rng, *shape)).astype(np.float32) + 0.1 for shape in shapes)
    agree(op, [a, b], opset=13, export=shapes == ((4, 1, 3), (2, 1)))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, np.uint8, np.uint32, np.uint64])
def test_integer_arithmetic(rng, dtype):
    signed = np.issubdtype(dtype, np.signedinteger)
    a = rng.integers(-20 if signed else 0, 20, (4, 6)).astype(dtype)
    b = rng.integers(1, 5, (6,)).astype(dtype)
    b = b * rng.choice([-1, 1], 6).astype(dtype) if signed else b
    for op in ("Add", "Sub", "Mul", "Div"):
        agree(op, [a, b], opset=14, export=False)
    agree("Mod", [a, b], opset=13)
    agree("Mod", [a, b], opset=13, attributes={"fmod": 1}, export=False)


def test_integer_division_truncates(rng):
    a, b = np.array([-7, 7, -7, 7], np.int64), np.array([2, -2, -2, 2], np.int64)
    (y,) = agree("Div", [a, b], opset=14)
    np.testing.assert_array_equal(y, [-3, -3, 3, 3])


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_variadic(rng, op):
    inputs = [floats(rng, 2, 3), floats(rng, 3), floats(rng, 2, 1)]
    agree(op, inputs, opset=13)
    agree(op, inputs[:1], opset=13, export=False)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_pass_nan(op):
    a, b = np.array([np.nan, 1, 2], np.float32), np.array([0, np.nan, 3], np.float32)
    (y,) = run_fusec(node_model(op, [a, b], opset=13), [a, b])
    assert np.isnan(y[:2]).all() and y[2] in (2, 3)


def test_clip(rng):
    x = floats(rng, 3, 4)
    agree("Clip", [x], opset=6 + 1, attributes={"min": -0.5, "max": 0.25})
    low, high = np.float32(-0.5), np.float32(0.25)
    agree("Clip", [x, low, high], opset=13)
    agree("Clip", [x, low, high], opset=13, weights=(1, 2))
    agree("Clip", [x, None, high], opset=13, weights=(2,))
    agree("Clip", [x, low], opset=13, weights=(1,))
    agree("Clip", [x, high, low], opset=13, export=False)
    agree("Clip", [np.arange(9, dtype=np.int8), np.int8(2), np.int8(5)], opset=13)


@pytest.mark.parametrize("shape", [(1,), (3,), (3, 1, 1), (4, 5), (1, 3, 1, 1)])
def test_prelu(rng, shape):
    x = floats(rng, 2, 3, 4, 5)
    if shape == (3,):
        x = floats(rng, 4, 3)
    agree("PRelu", [x, floats(rng, *shape)], opset=16, weights=(1,))


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0])
@pytest.mark.parametrize("weights", [(), (1,)])
def test_pow_keeps_the_type_of_the_base(rng, exponent, weights):
    x = np.abs(floats(rng, 5)) + 0.5
    agree("Pow", [x, np.float32(exponent)], opset=13, weights=weights)
    agree("Pow", [x, np.array([exponent])], opset=13, weights=weights, export=False)
    if exponent in (2.0, 3.0):
        agree("Pow", [x, np.int64(exponent)], opset=13, weights=weights, export=False)
        agree("Pow", [np.arange(4), np.float32(exponent)], opset=13, weights=weights)


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparisons(rng, op):
    a, b = rng.integers(0, 3, (4, 5)).astype(np.float32), np.array([0, 1, 2, 1, np.nan], np.float32)
    agree(op, [a, b], opset=16)
    agree(op, [a, np.float32(1)], opset=16, weights=(1,))
    agree(op, [np.float32(1), a], opset=16, weights=(0,))
    agree(op, [a.astype(np.int64), np.int64(1)], opset=16, weights=(1,), export=False)


def test_uint64_beyond_the_signed_range():
    a = np.array([2**64 - 1, 2**63, 5, 2**63 + 10], np.uint64)
    b = np.array([7, 2**63 + 1, 3, 2**63 + 3], np.uint64)
    for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Less", "Greater", "Equal"):
        (y,) = run_fusec(node_model(op, [a, b], opset=13), [a, b])
        twin = {
            "Div": np.floor_divide,
            "Max": np.maximum,
            "Min": np.minimum,
            "Sub": np.subtract,
            "Mul": np.multiply,
        }.get(op) or getattr(np, op.lower())
        np.testing.assert_array_equal(y, twin(a, b), op)
