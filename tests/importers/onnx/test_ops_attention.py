"""Attention operators against ONNX Runtime and against loops in float64."""

import itertools

import numpy as np
import pytest
import torch
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_exported, run_fusec

BATCH, HEADS, STEPS, KEYS, SIZE = 2, 4, 3, 5, 8


def _qkv(rng, kv_heads=HEADS, keys=KEYS):
    q = floats(rng, BATCH, HEADS, STEPS, SIZE)
    return [q, floats(rng, BATCH, kv_heads, keys, SIZE), floats(rng, BATCH, kv_heads, keys, 6)]


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention(rng, causal, kv_heads, mask):
    inputs = _qkv(rng, kv_heads)
    if mask is not None:
        keep = rng.integers(0, 2, (STEPS, KEYS)).astype(bool)
        keep[:, 0] = True
        inputs.append(keep if mask == "bool" else np.where(keep, 0.3, -2).astype(np.float32))
    for scale in ({}, {"scale": 0.3}):
        attributes = {"is_causal": causal} | scale
        agree("Attention", inputs, opset=23, attributes=attributes, export=not scale, atol=1e-5)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_attention_shows_scores(rng, mode):
    q, k, v = _qkv(rng)
    mask = floats(rng, STEPS, KEYS)
    attributes = {"softcap": 2.0, "qk_matmul_output_mode": mode}
    model = node_model("Attention", [q, k, v, mask], opset=24, outputs=4, attributes=attributes)
    for run in (run_fusec, run_exported):
        scores = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 1, 3, 2) / SIZE**0.5
        stages = [scores]
        stages.append(2 * np.tanh(scores / 2))
        stages.append(stages[1] + mask)
        exps = np.exp(stages[2] - stages[2].max(-1, keepdims=True))
        stages.append(exps / exps.sum(-1, keepdims=True))
        y, _, _, shown = run(model, [q, k, v, mask])
        np.testing.assert_allclose(shown, stages[mode], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(y, stages[3] @ v, rtol=1e-5, atol=1e-5)


def test_attention_packed_with_cache(rng):
    q = floats(rng, BATCH, STEPS, HEADS * SIZE)
    k, v = floats(rng, BATCH, STEPS, 2 * SIZE), floats(rng, BATCH, STEPS, 2 * SIZE)
    past = [floats(rng, BATCH, 2, 4, SIZE) for _ in range(2)]
    attributes = {"q_num_heads": HEADS, "kv_num_heads": 2, "is_causal": 1}
    inputs = [q, k, v, None, *past]
    agree("Attention", inputs, opset=23, outputs=3, attributes=attributes, atol=1e-5)


def test_a_row_that_sees_nothing_is_zero(rng):
    inputs = _qkv(rng)
    keep = np.ones((STEPS, KEYS), bool)
    keep[1] = False
    for outputs in (1, 4):
        model = node_model("Attention", [*inputs, keep], opset=23, outputs=outputs)
        y = run_fusec(model, [*inputs, keep])[0]
        assert (y[:, :, 1] == 0).all() and np.isfinite(y).all()


@pytest.mark.parametrize(("left", "right"), [(1, 0), (-1, 1), (2, -1), (0, 0)])
def test_window_and_padding(rng, left, right):
    q, k, v = _qkv(rng, keys=6)
    valid = np.array([6, 4], np.int64)
    attributes = {"left_window_size": left, "right_window_size": right}
    inputs = [q, k, v, None, None, None, valid]
    (y,) = run_fusec(node_model("Attention", inputs, opset=25, attributes=attributes), inputs)
    for row, head, step in itertools.product(range(BATCH), range(HEADS), range(STEPS)):
        place = step + valid[row] - STEPS
        low = place - left if left >= 0 else 0
        high = place + right if right >= 0 else 6
        seen = [j for j in range(valid[row]) if low <= j <= high]
        scores = k[row, head, seen].astype(np.float64) @ q[row, head, step] / SIZE**0.5
        weights = np.exp(scores - scores.max())
        wanted = weights / weights.sum() @ v[row, head, seen]
        np.testing.assert_allclose(y[row, head, step], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 4])
def test_rotary(rng, interleaved, part):
    half = (part or SIZE) // 2
    tables = [floats(rng, 10, half), floats(rng, 10, half)]
    positions = rng.integers(0, 10, (BATCH, STEPS))
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": part, "num_heads": HEADS}
    x = floats(rng, BATCH, HEADS, STEPS, SIZE)
    agree("RotaryEmbedding", [x, *tables, positions], opset=23, attributes=attributes)
    packed = floats(rng, BATCH, STEPS, HEADS * SIZE)
    agree("RotaryEmbedding", [packed, *tables, positions], opset=23, attributes=attributes)


def _recurrence(rule, q, k, v, state, decay, beta):
    """Run the update rule step by step; all arrays [B, H, T, ...] in float64."""
    outputs = []
    for t in range(q.shape[2]):
        if "gated" in rule:
            state = state * np.exp(decay[:, :, t])[..., None]
        value = v[:, :, t]
        if "delta" in rule:
            known = np.einsum("bhdm,bhd->bhm", state, k[:, :, t])
            value = beta[:, :, t] * (value - known)
        state = state + k[:, :, t, :, None] * value[:, :, None, :]
        outputs.append(np.einsum("bhd,bhdm->bhm", q[:, :, t], state))
    return np.stack(outputs, 2), state


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_linear_attention(rng, rule, per_key, steps):
    heads, size = 2, 4
    q, k, v = (floats(rng, BATCH, steps, heads * size) for _ in range(3))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    past = floats(rng, BATCH, heads, size, size)
    decay = -np.abs(floats(rng, BATCH, steps, heads * (size if per_key else 1)))
    beta = rng.uniform(0, 1, (BATCH, steps, heads)).astype(np.float32)
    inputs = [q, k, v, past, decay if "gated" in rule else None, beta if "delta" in rule else None]
    attributes = {"update_rule": rule, "q_num_heads": heads, "kv_num_heads": heads, "scale": 1.0}
    model = node_model("LinearAttention", inputs, opset=27, outputs=2, attributes=attributes)

    def split(x):
        return x.astype(np.float64).reshape(BATCH, steps, heads, -1).transpose(0, 2, 1, 3)

    wanted, state = _recurrence(
        rule, split(q), split(k), split(v), past.astype(np.float64), split(decay), split(beta)
    )
    for run in (run_fusec, run_exported):
        y, present = run(model, inputs)
        np.testing.assert_allclose(split(y), wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(present, state, rtol=1e-4, atol=1e-5)


def test_plain_attention_stays_one_operator(rng):
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.module import OnnxModule

    inputs = _qkv(rng)
    model = node_model("Attention", inputs, opset=23)
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    program = torch.export.export(OnnxModule(load_model(model)), tensors, strict=False)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls == [torch.ops.aten.scaled_dot_product_attention.default]
