"""Operators of com.microsoft that ONNX Runtime's optimiser writes, against ONNX Runtime."""

import numpy as np
import pytest
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime

MS = "com.microsoft"


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _agree(op, inputs, attributes=None, *, outputs=1, export=True, weights=(), domain=MS, skip=()):
    model = node_model(
        op, inputs, domain=domain, outputs=outputs, attributes=attributes, weights=weights
    )
    for i in skip:
        model.graph.node[0].output[i] = ""
    for i in sorted(skip, reverse=True):
        del model.graph.output[i]
    wanted = run_runtime(model, inputs)
    results = [run_fusec(model, inputs)]
    if export:
        results.append(run_exported(model, inputs))
    for got in results:
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("trans", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.3}])
def test_fused_matmul(rng, trans):
    a = _floats(rng, 2, 4, 3) if "transA" in trans else _floats(rng, 2, 3, 4)
    b = _floats(rng, 2, 5, 4) if "transB" in trans else _floats(rng, 2, 4, 5)
    _agree("FusedMatMul", [a, b], trans, export=not trans)


def test_fused_matmul_batch_in_the_middle(rng):
    _agree(
        "FusedMatMul", [_floats(rng, 3, 2, 4), _floats(rng, 2, 4, 5)], {"transBatchA": 1},
        export=False,
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "Clip"])
def test_fused_conv(rng, activation):
    parameters = {
        "LeakyRelu": {"activation_params": [0.1]},
        "HardSigmoid": {"activation_params": [0.25, 0.4]},
        "Clip": {"activation_params": [-0.5, 1.5]},
    }.get(activation, {})
    inputs = [_floats(rng, 1, 3, 6, 6), _floats(rng, 4, 3, 3, 3), _floats(rng, 4)]
    attributes = {"activation": activation, "pads": [1] * 4} | parameters
    _agree("FusedConv", inputs, attributes, export=activation == "Relu")


def test_fused_gemm(rng):
    inputs = [_floats(rng, 3, 4), _floats(rng, 4, 5), _floats(rng, 5)]
    _agree("FusedGemm", inputs, {"activation": "LeakyRelu", "activation_alpha": 0.2})


def test_activations(rng):
    x, bias = _floats(rng, 2, 3, 8), _floats(rng, 8)
    _agree("Gelu", [x], export=False)
    _agree("BiasGelu", [x, bias])
    _agree("FastGelu", [x, bias], export=False)
    _agree("FastGelu", [x], export=False)
    _agree("QuickGelu", [x], export=False)


@pytest.mark.parametrize("inner", [0, 1])
def test_bias_softmax(rng, inner):
    """ONNX Runtime has it on CUDA only, so the truth is written out."""
    x = _floats(rng, 2, 5, 3, 4)
    bias = _floats(rng, 3, 4) if inner else _floats(rng, 2, 1, 3, 4)
    attributes = {"axis": 2, "is_inner_broadcast": inner}
    model = node_model("BiasSoftmax", [x, bias], domain=MS, attributes=attributes)
    (ours,) = run_fusec(model, [x, bias])
    powers = np.exp((x + bias).astype(np.float64))
    np.testing.assert_allclose(ours, powers / powers.sum((2, 3), keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_skip_layer_norm(rng, extra):
    inputs = [_floats(rng, 2, 3, 8) for _ in range(2)] + [_floats(rng, 8) for _ in range(1 + extra)]
    _agree("SkipLayerNormalization", inputs, {"epsilon": 1e-5}, outputs=4, skip=(1, 2))


def test_skip_rms_norm(rng):
    inputs = [_floats(rng, 2, 3, 8), _floats(rng, 2, 3, 8), _floats(rng, 8)]
    _agree("SkipSimplifiedLayerNormalization", inputs, {"epsilon": 1e-5})
    _agree("SimplifiedLayerNormalization", [inputs[0], inputs[2]], {"epsilon": 1e-5}, domain="")


def test_embed_layer_norm(rng):
    ids, segments = rng.integers(0, 9, (2, 4)), rng.integers(0, 2, (2, 4))
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    inputs = [
        ids.astype(np.int32), segments.astype(np.int32), _floats(rng, 9, 8), _floats(rng, 6, 8),
        _floats(rng, 2, 8), _floats(rng, 8), _floats(rng, 8), mask.astype(np.int32),
    ]  # fmt: skip
    _agree("EmbedLayerNormalization", inputs, {"epsilon": 1e-6}, outputs=2, weights=range(2, 7))


@pytest.mark.parametrize("mask", ["none", "lengths", "ends", "rows", "square"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(rng, mask, causal):
    masks = {
        "none": None,
        "lengths": np.array([3, 5], np.int32),
        "ends": np.array([3, 5, 1, 0], np.int32),
        "rows": np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], np.int32),
        "square": rng.integers(0, 2, (2, 5, 5)).astype(np.int32),
    }
    inputs = [_floats(rng, 2, 5, 8), _floats(rng, 8, 24), _floats(rng, 24), masks[mask]]
    attributes = {"num_heads": 2, "unidirectional": causal}
    _agree("Attention", inputs, attributes, weights=(1, 2), export=mask == "rows")


def test_attention_with_past_and_present(rng):
    inputs = [
        _floats(rng, 2, 3, 8), _floats(rng, 8, 24), _floats(rng, 24), None,
        _floats(rng, 2, 2, 2, 4, 4),
    ]  # fmt: skip
    attributes = {"num_heads": 2, "unidirectional": 1}
    _agree("Attention", inputs, attributes, outputs=2, weights=(1, 2))


def test_quantised_attention(rng):
    inputs = [
        rng.integers(0, 256, (2, 5, 8)).astype(np.uint8),
        rng.integers(-128, 128, (8, 24)).astype(np.int8), _floats(rng, 24),
        np.float32(0.02), np.float32(0.01), np.ones((2, 5), np.int32), np.uint8(120), np.int8(0),
    ]  # fmt: skip
    _agree("QAttention", inputs, {"num_heads": 2}, weights=(1, 2, 3, 4, 6, 7))


def test_multi_head_attention(rng):
    q, k, v = _floats(rng, 2, 3, 8), _floats(rng, 2, 5, 8), _floats(rng, 2, 5, 8)
    mask = np.array([[1, 1, 0, 1, 1]] * 2, np.int32)
    _agree("MultiHeadAttention", [q, k, v, _floats(rng, 24), mask], {"num_heads": 2})
    k, v = _floats(rng, 2, 2, 5, 4), _floats(rng, 2, 2, 5, 4)
    _agree("MultiHeadAttention", [q, k, v], {"num_heads": 2}, export=False)


def test_multi_head_attention_packed(rng):
    """ONNX Runtime has packed layouts on CUDA only; they must say what separate inputs say."""
    parts = [_floats(rng, 2, 3, 2, 4) for _ in range(3)]
    flat = [part.reshape(2, 3, 8) for part in parts]
    model = node_model("MultiHeadAttention", flat, domain=MS, attributes={"num_heads": 2})
    (wanted,) = run_runtime(model, flat)
    for inputs in ([flat[0], np.stack(parts[1:], 3)], [np.stack(parts, 3)]):
        model = node_model("MultiHeadAttention", inputs, domain=MS, attributes={"num_heads": 2})
        (ours,) = run_fusec(model, inputs)
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


def test_multi_head_attention_with_past(rng):
    x = [_floats(rng, 2, 1, 8) for _ in range(3)]
    past = [_floats(rng, 2, 2, 4, 4) for _ in range(2)]
    bias = _floats(rng, 1, 2, 1, 5)
    _agree(
        "MultiHeadAttention", [*x, None, None, bias, *past], {"num_heads": 2}, outputs=3
    )  # fmt: skip


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(rng, interleaved):
    angles = rng.uniform(0, 3, (10, 2)).astype(np.float32)
    positions = np.array([[0, 1, 2], [4, 5, 6]])
    attributes = {"interleaved": interleaved}
    tables = [np.cos(angles), np.sin(angles)]
    _agree("RotaryEmbedding", [_floats(rng, 2, 3, 8), positions, *tables], attributes)
    _agree("RotaryEmbedding", [_floats(rng, 2, 2, 3, 4), np.array([3]), *tables], attributes)


@pytest.mark.parametrize(
    ("attributes", "step"),
    [({}, "prompt"), ({}, "decode"), ({"do_rotary": 1}, "decode"),
     ({"local_window_size": 2}, "decode"), ({"softcap": 5.0}, "prompt")],
)  # fmt: skip
def test_group_query_attention(rng, attributes, step):
    heads, groups, size = 4, 2, 16
    rows, past = (4, 0) if step == "prompt" else (1, 5)
    total = rows + past
    angles = rng.uniform(0, 3, (10, size // 2)).astype(np.float32)
    inputs = [
        _floats(rng, 1, rows, heads * size), _floats(rng, 1, rows, groups * size),
        _floats(rng, 1, rows, groups * size), _floats(rng, 1, groups, past, size),
        _floats(rng, 1, groups, past, size), np.full((1,), total - 1, np.int32),
        np.array(total, np.int32),
    ]  # fmt: skip
    if "do_rotary" in attributes:
        inputs += [np.cos(angles), np.sin(angles)]
    attributes = {"num_heads": heads, "kv_num_heads": groups} | attributes
    _agree("GroupQueryAttention", inputs, attributes, outputs=3, export=step == "decode")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_matmul_nbits(rng, bits, zeros):
    terms, rows, block = 40, 6, 16
    blocks = -(-terms // block)
    inputs = [
        _floats(rng, 2, 3, terms),
        rng.integers(0, 256, (rows, blocks, block * bits // 8)).astype(np.uint8),
        rng.uniform(0.01, 0.1, (rows * blocks,)).astype(np.float32),
    ]
    if zeros:
        count = rows * -(-blocks * bits // 8)
        inputs.append(rng.integers(0, 256, count).astype(np.uint8))
    attributes = {"K": terms, "N": rows, "bits": bits, "block_size": block}
    _agree("MatMulNBits", inputs, attributes, weights=range(1, len(inputs)), export=zeros)


def test_gather_block_quantized(rng):
    inputs = [
        rng.integers(0, 256, (7, 16)).astype(np.uint8), np.array([[1, 6], [3, 0]]),
        rng.uniform(0.01, 0.1, (7, 2)).astype(np.float32),
        rng.integers(0, 256, (7, 1)).astype(np.uint8),
    ]  # fmt: skip
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": 16}
    _agree("GatherBlockQuantized", inputs, attributes, weights=(0, 2, 3))


def test_small_ones(rng):
    _agree("Inverse", [_floats(rng, 2, 3, 3)], export=False)
    _agree("CDist", [_floats(rng, 4, 3), _floats(rng, 5, 3)], {"metric": "euclidean"})
    _agree("Trilu", [_floats(rng, 3, 4), np.array(1)], {"upper": 0}, weights=(1,))
    _agree("ExpandDims", [_floats(rng, 3, 4), np.array(-1, np.int32)], weights=(1,))


def test_operators_that_the_standard_took_over(rng):
    _agree("GatherND", [_floats(rng, 3, 4), np.array([[0, 1], [2, 3]])], export=False)
    _agree("Range", [np.float32(1), np.float32(7), np.float32(2)], weights=range(3), export=False)
    _agree("Pad", [_floats(rng, 2, 3), np.array([0, 1, 1, 0]), np.float32(2)], weights=(1, 2))


@pytest.mark.parametrize("last", [0, 1])
def test_quantised_convolution_with_channels_last(rng, last):
    x = rng.integers(0, 256, (1, 3, 6, 5)).astype(np.uint8)
    inputs = [
        np.ascontiguousarray(np.moveaxis(x, 1, 3)) if last else x, np.float32(0.02), np.uint8(100),
        rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), np.float32(0.01), np.int8(0),
        np.float32(0.05), np.uint8(120), rng.integers(-500, 500, 4).astype(np.int32),
    ]  # fmt: skip
    _agree("QLinearConv", inputs, {"channels_last": last}, weights=range(1, 9), export=False)
