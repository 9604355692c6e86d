"""fusec::rnn against torch's own layers, and as an operator under export."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fusec.kernels.rnn.op as rnn_op
from fusec.ir.errors import ConfigError
from fusec.kernels.rnn import reference
from fusec.kernels.rnn.activations import MODE_DEFAULTS, arguments, resolve

LAYERS = {
    "lstm": lambda i, h, **kw: nn.LSTM(i, h, **kw),
    "gru": lambda i, h, **kw: nn.GRU(i, h, **kw),
    "rnn": lambda i, h, **kw: nn.RNN(i, h, **kw),
}


def run_op(layer: nn.RNNBase, mode: str, x: Tensor, h0: Tensor, c0: Tensor | None, **kw):
    params = dict(layer.named_parameters())
    sides = ["", "_reverse"] if layer.bidirectional else [""]
    results = []
    for d, side in enumerate(sides):
        b = None
        if layer.bias:
            b = torch.stack([params[f"bias_ih_l0{side}"], params[f"bias_hh_l0{side}"]])
        results.append(
            torch.ops.fusec.rnn(
                x,
                params[f"weight_ih_l0{side}"],
                params[f"weight_hh_l0{side}"],
                b,
                h0[d],
                None if c0 is None else c0[d],
                None,
                kw.get("lengths"),
                mode=mode,
                reverse=bool(d),
                activations=kw.get("activations", []),
            )
        )
    y = torch.cat([r[0] for r in results], dim=-1)
    return y, torch.stack([r[1] for r in results]), torch.stack([r[2] for r in results])


@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(["lstm", "gru", "rnn"]),
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    bias=st.booleans(),
    both=st.booleans(),
    looped=st.booleans(),
)
def test_equals_torch_layer(mode, sizes, bias, both, looped):
    steps, rows, inputs, hidden = sizes
    torch.manual_seed(steps * 7 + rows)
    layer = LAYERS[mode](inputs, hidden, bias=bias, bidirectional=both).double()
    x = torch.randn(steps, rows, inputs, dtype=torch.float64)
    h0 = torch.randn(1 + both, rows, hidden, dtype=torch.float64)
    c0 = torch.randn_like(h0) if mode == "lstm" else None
    want, state = layer(x, h0 if c0 is None else (h0, c0))
    # Full lengths take the plain loop; without lengths the library runs.
    lengths = torch.full((rows,), steps) if looped else None
    y, h, c = run_op(layer, mode, x, h0, c0, lengths=lengths)
    torch.testing.assert_close(y, want)
    if c0 is None:
        torch.testing.assert_close(h, state)
        assert c.numel() == 0
    else:
        torch.testing.assert_close((h, c), state)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_lengths_equal_packed_sequence(mode):
    layer = LAYERS[mode](3, 4, bidirectional=True).double()
    x, lengths = torch.randn(6, 3, 3, dtype=torch.float64), torch.tensor([6, 1, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    want, state = layer(packed)
    want, _ = nn.utils.rnn.pad_packed_sequence(want)
    zero = torch.zeros(2, 3, 4, dtype=torch.float64)
    y, h, _ = run_op(layer, mode, x, zero, zero if mode == "lstm" else None, lengths=lengths)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(h, state[0] if mode == "lstm" else state)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_error_to_float64_within_twice_torch(mode, dtype):
    layer = LAYERS[mode](16, 8).to(dtype)
    x, h0 = torch.randn(20, 2, 16, dtype=dtype), torch.zeros(1, 2, 8, dtype=dtype)
    c0 = h0.clone() if mode == "lstm" else None
    plain = layer(x)[0].double()
    truth = layer.double()(x.double())[0]
    layer.to(dtype)
    floor = 2 * torch.finfo(dtype).eps
    for lengths in (None, torch.tensor([20, 20])):
        y = run_op(layer, mode, x, h0, c0, lengths=lengths)[0]
        assert y.dtype == dtype
        assert (y.double() - truth).abs().max() <= 2 * (plain - truth).abs().max() + floor


def test_relu_cell_uses_the_relu():
    layer = nn.RNN(3, 4, nonlinearity="relu")
    x, h0 = torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    y, _, _ = run_op(layer, "rnn", x, h0, None, activations=["relu"])
    torch.testing.assert_close(y, layer(x)[0])


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_no_steps_returns_a_copy_of_the_state(mode):
    layer = LAYERS[mode](3, 4)
    h0 = torch.randn(1, 2, 4)
    with torch.no_grad():
        y, h, _ = run_op(layer, mode, torch.empty(0, 2, 3), h0, h0 if mode == "lstm" else None)
    assert y.shape == (0, 2, 4)
    assert torch.equal(h, h0)


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_no_rows(mode):
    layer = LAYERS[mode](3, 4)
    h0 = torch.empty(1, 0, 4)
    with torch.no_grad():
        y, h, _ = run_op(layer, mode, torch.empty(5, 0, 3), h0, h0 if mode == "lstm" else None)
    assert y.shape == (5, 0, 4)
    assert h.shape == (1, 0, 4)


@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 2])])
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_registration_is_sound(mode, lengths):
    rows = reference.GATES[mode] * 4
    args = (
        torch.randn(3, 2, 5),
        torch.randn(rows, 5),
        torch.randn(rows, 4),
        torch.randn(2, rows),
        torch.randn(2, 4),
        torch.randn(2, 4) if mode == "lstm" else None,
        None,
        lengths,
    )
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.fusec.rnn, args, {"mode": mode, "activations": []}, test_utils=checks
    )


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(3, 4)

    def forward(self, x):
        m = self.layer
        zero = x.new_zeros(x.shape[1], 4)
        bias = torch.stack([m.bias_ih_l0, m.bias_hh_l0])
        return torch.ops.fusec.rnn(
            x, m.weight_ih_l0, m.weight_hh_l0, bias, zero, None, None, None,
            mode="gru", activations=[],
        )[0]  # fmt: skip


def test_exports_as_one_node_with_free_extents():
    model = OneLayer()
    shapes = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(
        model, (torch.randn(7, 2, 3),), dynamic_shapes=shapes, strict=False
    )
    nodes = [n for n in exported.graph.nodes if n.target == torch.ops.fusec.rnn.default]
    assert len(nodes) == 1
    x = torch.randn(11, 5, 3)
    torch.testing.assert_close(exported.module()(x), model.layer(x)[0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "lstmp"}, "mode 'lstmp'"),
        ({"activations": ["tanh", "tanh", "swish"]}, "'swish'"),
        ({"activations": ["tanh"]}, "3 activations"),
    ],
)
def test_bad_attributes_are_named(change, text):
    zero = torch.zeros(2, 4)
    args = (torch.zeros(1, 2, 5), torch.zeros(16, 5), torch.zeros(16, 4), None, zero, zero)
    with pytest.raises(ConfigError, match=text):
        rnn_op.rnn(*args, None, None, **({"mode": "lstm"} | change))


def test_shapes_that_disagree_are_named():
    zero = torch.zeros(2, 4)
    with pytest.raises(ConfigError, match="do not belong together"):
        rnn_op.rnn(
            torch.zeros(1, 2, 6), torch.zeros(16, 5), torch.zeros(16, 4), None, zero, zero,
            None, None, mode="lstm",
        )  # fmt: skip
    with pytest.raises(ConfigError, match="c0"):
        rnn_op.rnn(
            torch.zeros(1, 2, 5), torch.zeros(16, 5), torch.zeros(16, 4), None, zero, None,
            None, None, mode="lstm",
        )  # fmt: skip


def test_alpha_and_beta_are_consumed_in_order():
    gates = resolve(["Affine", "tanh", "LeakyRelu", "affine"], [2.0, 0.5], [3.0])
    assert gates == (
        ("affine", 2.0, 3.0), ("tanh", 0.0, 0.0), ("leakyrelu", 0.5, 0.0), ("affine", 1.0, 0.0),
    )  # fmt: skip
    assert resolve(*arguments(gates)) == gates
    assert set(MODE_DEFAULTS) == set(reference.STEPS)
