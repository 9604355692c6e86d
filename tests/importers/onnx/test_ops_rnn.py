"""Recurrent layers against ONNX Runtime: directions, layouts, lengths, activations, peepholes."""

import numpy as np
import pytest
import torch
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, ROWS, INPUTS, HIDDEN = 5, 3, 4, 6


def _layer(rng, op, directions, *, bias=True):
    gates = GATES[op] * HIDDEN
    weights = [floats(rng, directions, gates, INPUTS), floats(rng, directions, gates, HIDDEN)]
    return [w * 0.4 for w in weights] + [floats(rng, directions, 2 * gates) if bias else None]


def _outputs(op):
    return 3 if op == "LSTM" else 2


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions_and_states(rng, op, direction):
    directions = 2 if direction == "bidirectional" else 1
    layer = _layer(rng, op, directions)
    state = [floats(rng, directions, ROWS, HIDDEN) for _ in range(2 if op == "LSTM" else 1)]
    attributes = {"hidden_size": HIDDEN, "direction": direction}
    options = {"opset": 14, "outputs": _outputs(op), "weights": (1, 2, 3), "atol": 1e-5}
    x = floats(rng, STEPS, ROWS, INPUTS)
    agree(op, [x, *layer], attributes=attributes, export=False, **options)
    agree(op, [x, *layer[:2]], attributes=attributes, export=False, **options)
    agree(op, [x, *layer, None, *state], attributes=attributes, **options)
    lengths = np.array([2, 5, 3], np.int32)
    agree(op, [x, *layer, lengths, *state], attributes=attributes, **options)


@pytest.mark.parametrize("op", ["GRU"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_gru_resets_before_or_after(rng, op, after, direction):
    layer = _layer(rng, op, 2 if direction == "bidirectional" else 1)
    attributes = {"hidden_size": HIDDEN, "direction": direction, "linear_before_reset": after}
    inputs = [floats(rng, STEPS, ROWS, INPUTS), *layer]
    agree(op, inputs, opset=14, outputs=2, attributes=attributes, weights=(1, 2, 3), atol=1e-5)


def test_lstm_peepholes_and_clip(rng):
    # Coupling the forget gate is in no runtime to compare with; the node tests do not have it.
    layer = _layer(rng, "LSTM", 2)
    peepholes = floats(rng, 2, 3 * HIDDEN)
    state = [floats(rng, 2, ROWS, HIDDEN) for _ in range(2)]
    inputs = [floats(rng, STEPS, ROWS, INPUTS), *layer, None, *state, peepholes]
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    options = {"opset": 14, "outputs": 3, "weights": (1, 2, 3, 7), "atol": 1e-5}
    agree("LSTM", inputs, attributes=attributes, **options)
    agree("LSTM", inputs, attributes=attributes | {"clip": 0.7}, **options)


@pytest.mark.parametrize(
    ("op", "names"),
    [
        ("RNN", ["Relu", "Sigmoid"]),
        ("RNN", ["LeakyRelu", "Affine"]),
        ("GRU", ["HardSigmoid", "Relu", "Sigmoid", "Softsign"]),
        ("LSTM", ["HardSigmoid", "Relu", "Tanh", "Sigmoid", "Elu", "Softplus"]),
    ],
)
def test_activations_take_their_own_alpha_and_beta(rng, op, names):
    layer = _layer(rng, op, 2)
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional", "activations": names}
    if names[0] == "LeakyRelu":
        attributes |= {"activation_alpha": [0.3, 0.9], "activation_beta": [0.1]}
    if names[0] == "HardSigmoid":
        alpha = [0.3] + ([0.7] if "Elu" in names else [])
        attributes |= {"activation_alpha": alpha, "activation_beta": [0.4]}
    inputs = [floats(rng, STEPS, ROWS, INPUTS), *layer]
    options = {"opset": 14, "outputs": _outputs(op), "weights": (1, 2, 3), "atol": 1e-5}
    agree(op, inputs, attributes=attributes, **options)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_batch_first_is_the_transpose(rng, op):
    from fusec_testing.onnx_node import run_fusec

    layer = _layer(rng, op, 2)
    state = [floats(rng, 2, ROWS, HIDDEN) for _ in range(2 if op == "LSTM" else 1)]
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    x = floats(rng, STEPS, ROWS, INPUTS)
    inputs = [x, *layer, None, *state]
    plain = run_fusec(
        node_model(op, inputs, opset=14, outputs=_outputs(op), attributes=attributes), inputs
    )
    swapped = [x.transpose(1, 0, 2), *layer, None, *(s.transpose(1, 0, 2) for s in state)]
    attributes["layout"] = 1
    model = node_model(op, swapped, opset=14, outputs=_outputs(op), attributes=attributes)
    turned = run_fusec(model, swapped)
    np.testing.assert_allclose(turned[0], plain[0].transpose(2, 0, 1, 3), rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(turned[1:], plain[1:], strict=True):
        np.testing.assert_allclose(ours, theirs.transpose(1, 0, 2), rtol=1e-6, atol=1e-7)


def test_one_node_per_direction_for_any_length(rng):
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.module import OnnxModule

    layer = _layer(rng, "LSTM", 2)
    x = floats(rng, STEPS, ROWS, INPUTS)
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    model = node_model("LSTM", [x, *layer], opset=14, weights=(1, 2, 3), attributes=attributes)
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "tb", strict=False):
        dim.dim_param = name
    shapes = (({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},),)
    program = torch.export.export(
        OnnxModule(load_model(model)), (torch.from_numpy(x),), dynamic_shapes=shapes, strict=False
    )
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.fusec.rnn.default) == 2
    longer = floats(rng, 9, 2, INPUTS)
    (y,) = program.module()(torch.from_numpy(longer))
    assert y.shape == (9, 2, 2, HIDDEN)
