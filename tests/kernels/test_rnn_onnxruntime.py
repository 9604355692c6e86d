"""fusec::rnn against ONNX Runtime's LSTM, GRU and RNN with every attribute."""

import numpy as np
import pytest
import torch

import fusec.kernels.rnn.op  # noqa: F401

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

STEPS, ROWS, INPUTS, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Row blocks of ONNX's gate order, put in the operator's order.
ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}


def onnx_layer(op: str, feeds: dict[str, np.ndarray], **attributes):
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    if op == "LSTM":
        names += ["initial_c", "P"]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    node = onnx.helper.make_node(
        op, [n if n in feeds else "" for n in names], outputs, hidden_size=HIDDEN, **attributes
    )
    kinds = {np.dtype("float32"): 1, np.dtype("int32"): 6}
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info(n, kinds[v.dtype], v.shape) for n, v in feeds.items()],
        [onnx.helper.make_tensor_value_info(n, 1, None) for n in outputs],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def reorder(op: str, rows: np.ndarray) -> torch.Tensor:
    blocks = np.split(rows, GATES[op])
    return torch.from_numpy(np.concatenate([blocks[i] for i in ORDER[op]]))


def compare(op: str, *, bias=True, lengths=None, peephole=False, reverse=False, **attributes):
    rng = np.random.default_rng(3)

    def draw(*shape):
        # Small enough that unbounded activations do not grow until rounding is all there is.
        return (0.4 * rng.standard_normal(shape)).astype(np.float32)

    rows = GATES[op] * HIDDEN
    feeds = {
        "X": draw(STEPS, ROWS, INPUTS),
        "W": draw(1, rows, INPUTS),
        "R": draw(1, rows, HIDDEN),
        "initial_h": draw(1, ROWS, HIDDEN),
    }
    if bias:
        feeds["B"] = draw(1, 2 * rows)
    if lengths is not None:
        feeds["sequence_lens"] = np.array(lengths, np.int32)
    if op == "LSTM":
        feeds["initial_c"] = draw(1, ROWS, HIDDEN)
        if peephole:
            feeds["P"] = draw(1, 3 * HIDDEN)
    want = onnx_layer(op, feeds, direction="reverse" if reverse else "forward", **attributes)
    got = torch.ops.fusec.rnn(
        torch.from_numpy(feeds["X"]),
        reorder(op, feeds["W"][0]),
        reorder(op, feeds["R"][0]),
        torch.stack([reorder(op, b) for b in np.split(feeds["B"][0], 2)]) if bias else None,
        torch.from_numpy(feeds["initial_h"][0]),
        torch.from_numpy(feeds["initial_c"][0]) if op == "LSTM" else None,
        torch.from_numpy(feeds["P"][0]) if peephole else None,
        torch.tensor(lengths) if lengths is not None else None,
        mode=op.lower(),
        reverse=reverse,
        activations=[a.lower() for a in attributes.get("activations", [])],
        alpha=attributes.get("activation_alpha", []),
        beta=attributes.get("activation_beta", []),
        clip=attributes.get("clip"),
        reset_after=bool(attributes.get("linear_before_reset", 0)),
        input_forget=bool(attributes.get("input_forget", 0)),
    )
    np.testing.assert_allclose(got[0], want[0][:, 0], atol=2e-5, rtol=1e-5)
    for ours, theirs in zip(got[1:], want[1:], strict=False):
        np.testing.assert_allclose(ours, theirs[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 3], [1, 5, 4]])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_plain(op, bias, lengths, reverse):
    compare(op, bias=bias, lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 3]])
def test_peephole(lengths, reverse):
    compare("LSTM", peephole=True, lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("peephole", [False, True])
def test_input_forget(peephole):
    compare("LSTM", peephole=peephole, input_forget=1)


@pytest.mark.parametrize("clip", [0.3, 1.0])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_clip(op, clip):
    compare(op, clip=clip)


@pytest.mark.parametrize("lengths", [None, [5, 2, 3]])
@pytest.mark.parametrize("reset", [0, 1])
def test_reset_after(reset, lengths):
    compare("GRU", linear_before_reset=reset, lengths=lengths)


FUNCTIONS = {
    "Relu": ([], []),
    "Affine": ([0.4], [0.1]),
    "LeakyRelu": ([0.2], []),
    "ThresholdedRelu": ([0.3], []),
    "ScaledTanh": ([0.7], [0.6]),
    "HardSigmoid": ([0.3], [0.4]),
    "Elu": ([0.5], []),
    "Softsign": ([], []),
    "Softplus": ([], []),
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_activation(op, name):
    alpha, beta = FUNCTIONS[name]
    activations = {
        "LSTM": ["Sigmoid", name, "Tanh"], "GRU": [name, "Tanh"], "RNN": [name]
    }[op]  # fmt: skip
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    arguments = {"activation_alpha": alpha} if alpha else {}
    arguments |= {"activation_beta": beta} if beta else {}
    compare(op, activations=activations, **arguments, **extra)


# Not ThresholdedRelu: the standard says 1, ONNX Runtime takes 0.
@pytest.mark.parametrize("name", ["LeakyRelu", "HardSigmoid", "Elu"])
def test_default_arguments(name):
    compare("RNN", activations=[name])


def test_arguments_are_consumed_by_the_functions_that_have_them():
    compare(
        "LSTM",
        activations=["HardSigmoid", "LeakyRelu", "Affine"],
        activation_alpha=[0.3, 0.2, 0.4],
        activation_beta=[0.4, 0.1],
    )
