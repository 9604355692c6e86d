"""Casts between all element types, against ONNX Runtime, ml_dtypes and written-out values."""

import ml_dtypes
import numpy as np
import pytest
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime
from onnx import TensorProto

FLOATS = np.array(
    [1.5, -2.25, 0.0, -0.0, np.nan, np.inf, -np.inf, 1e-5, 448, 463, 465, -700, 57344, 7e4, 0.1],
    np.float32,
)
FLOAT8 = {
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
}


def _cast(x, to, opset=25, export=False, **attributes):
    model = node_model("Cast", [x], opset=opset, attributes={"to": to} | attributes)
    (value,) = run_exported(model, [x]) if export else run_fusec(model, [x])
    return value


@pytest.mark.parametrize("to", [*range(2, 8), 9, 10, 12, 13])
@pytest.mark.parametrize("source", [np.float32, np.int64, np.uint8, np.bool_])
def test_common_types(source, to):
    x = np.array([0, 1, 2, 100, 255], np.int64).astype(source)
    model = node_model("Cast", [x], opset=13, attributes={"to": int(to)})
    (ours,), (theirs,) = run_fusec(model, [x]), run_runtime(model, [x])
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_integers_keep_their_low_bits():
    x = np.array([-1, 300, 70000, 2**40 + 7], np.int64)
    for to in (TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32):
        model = node_model("Cast", [x], opset=13, attributes={"to": to})
        np.testing.assert_array_equal(run_fusec(model, [x])[0], run_runtime(model, [x])[0])


@pytest.mark.parametrize("to", FLOAT8)
@pytest.mark.parametrize("export", [False, True])
def test_float8_without_saturation_is_ml_dtypes(to, export):
    ours = _cast(FLOATS, to, saturate=0, export=export)
    wanted = FLOATS.astype(FLOAT8[to])
    np.testing.assert_array_equal(ours.astype(np.float32), wanted.astype(np.float32))


@pytest.mark.parametrize("to", FLOAT8)
def test_float8_with_saturation_stops_at_the_greatest_value(to):
    greatest = float(ml_dtypes.finfo(FLOAT8[to]).max)
    ours = _cast(FLOATS, to).astype(np.float32)
    wanted = np.clip(FLOATS, -greatest, greatest).astype(FLOAT8[to]).astype(np.float32)
    np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("up", [1, 2, 2, 4, 4]), ("down", [1, 1, 1, 2, 2]), ("nearest", [1, 1, 2, 2, 4])],
)
@pytest.mark.parametrize("export", [False, True])
def test_e8m0_rounding(mode, wanted, export):
    x = np.array([1, 1.25, 1.5, 2.5, 3.5], np.float32)
    ours = _cast(x, TensorProto.FLOAT8E8M0, round_mode=mode, export=export)
    np.testing.assert_array_equal(ours.astype(np.float32), wanted)


def test_narrow_integers_wrap_and_widen():
    x = np.array([-9, -8, 7, 8, 17, 3], np.int32)
    signed = _cast(x, TensorProto.INT4)
    assert signed.dtype == ml_dtypes.int4
    np.testing.assert_array_equal(signed.astype(np.int32), [7, -8, 7, -8, 1, 3])
    np.testing.assert_array_equal(_cast(x, TensorProto.UINT2).astype(np.int32), [3, 0, 3, 0, 1, 3])
    np.testing.assert_array_equal(_cast(signed, TensorProto.FLOAT), [7, -8, 7, -8, 1, 3])


def test_traced_narrow_types_travel_in_containers():
    x = np.array([-9, -8, 7, 8, 17, 3], np.int32)
    np.testing.assert_array_equal(
        _cast(x, TensorProto.INT4, export=True), np.array([7, -8, 7, -8, 1, 3], np.int8)
    )
    x = np.linspace(-7, 7, 57, dtype=np.float32)
    for to, kind in (
        (TensorProto.FLOAT4E2M1, ml_dtypes.float4_e2m1fn),
        (TensorProto.FLOAT6E2M3, ml_dtypes.float6_e2m3fn),
    ):
        wanted = x.astype(kind).astype(np.float32)
        np.testing.assert_array_equal(_cast(x, to, opset=28, export=True), wanted)
        eager = _cast(x, to, opset=28)
        assert eager.dtype == kind
        np.testing.assert_array_equal(eager.astype(np.float32), wanted)


@pytest.mark.parametrize(
    ("x", "to"),
    [
        (np.array([1.5, 1e10, 3.14159265, np.nan, np.inf, -np.inf, 1e-5, 1e5], np.float32), 8),
        (np.array([1.5, 1e10, 3.14159265358979, 1e-5, 1e20]), 8),
        (np.array([1, -2, 3], np.int64), 8),
        (np.array([True, False]), 8),
        (np.array(["1.5", "-2", "1e3", "INF", "-INF", "NaN", "+inf"], dtype=object), 1),
        (np.array(["15", "-2", "100"], dtype=object), 7),
    ],
)
def test_text(x, to):
    model = node_model("Cast", [x], opset=13, attributes={"to": to})
    np.testing.assert_array_equal(run_fusec(model, [x])[0], run_runtime(model, [x])[0])


def test_cast_like_and_bit_cast():
    x = np.array([1.0, -2.5], np.float32)
    model = node_model("CastLike", [x, np.zeros(1, np.int64)], opset=19)
    (like,) = run_fusec(model, [x, np.zeros(1, np.int64)])
    assert like.dtype == np.int64 and like.tolist() == [1, -2]
    model = node_model("BitCast", [x], opset=26, attributes={"to": TensorProto.INT32})
    np.testing.assert_array_equal(run_fusec(model, [x])[0], x.view(np.int32))
    np.testing.assert_array_equal(run_exported(model, [x])[0], x.view(np.int32))
    nibbles = np.array([-1, 7, -8], ml_dtypes.int4)
    model = node_model("BitCast", [nibbles], opset=26, attributes={"to": TensorProto.UINT4})
    assert run_fusec(model, [nibbles])[0].astype(np.int32).tolist() == [15, 7, 8]
