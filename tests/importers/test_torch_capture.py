"""Tracing torch modules: equal results, weights as arguments, operators kept whole, symbols."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusec.importers.torch_capture import capture, program_of
from fusec.ir.template import RowsKind, Symbol
from fusec.kernels.operators import is_operator

SEQ = Symbol("seq", 1, None)


class Fn(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args):
        return self.function(self, *args)


def check(module, *args, dynamic=None, more=()):
    """Capture a module; the graph must give exactly what the module gives, at other extents too."""
    module.eval()
    captured = capture(module, args, dynamic=dynamic)
    for node in captured.graph.graph.nodes:
        assert node.op != "call_function" or is_operator(node.target), node
    for inputs in (args, *more):
        with torch.no_grad():
            want = module(*(a.clone() for a in inputs))
            got = captured.graph(*inputs, *captured.weights.values())
        want = want if isinstance(want, tuple) else (want,)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)
    return captured


def targets(captured):
    return [str(n.target) for n in captured.graph.graph.nodes if n.op == "call_function"]


IMAGE, SIGNAL, ROWS = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 12), torch.randn(1, 6)

WHOLE = [
    ("linear", nn.Linear(6, 3), ROWS),
    ("layer_norm", nn.LayerNorm(6), ROWS),
    ("rms_norm", nn.RMSNorm(6), ROWS),
    ("conv1d", nn.Conv1d(4, 4, 3, groups=2), SIGNAL),
    ("conv2d", nn.Conv2d(4, 6, 3, padding=1), IMAGE),
    ("conv3d", nn.Conv3d(2, 2, 2), torch.randn(1, 2, 3, 3, 3)),
    ("conv_transpose2d", nn.ConvTranspose2d(4, 2, 3, stride=2), IMAGE),
    ("batch_norm", nn.BatchNorm2d(4), IMAGE),
    ("group_norm", nn.GroupNorm(2, 4), IMAGE),
    ("instance_norm", nn.InstanceNorm2d(4), IMAGE),
    ("gelu", nn.GELU(approximate="tanh"), ROWS),
    ("silu", nn.SiLU(), ROWS),
    ("hardswish", nn.Hardswish(), ROWS),
    ("hardsigmoid", nn.Hardsigmoid(), ROWS),
    ("mish", nn.Mish(), ROWS),
    ("elu", nn.ELU(), ROWS),
    ("leaky_relu", nn.LeakyReLU(0.2), ROWS),
    ("prelu", nn.PReLU(), ROWS),
    ("softplus", nn.Softplus(), ROWS),
    ("max_pool2d", nn.MaxPool2d(2), IMAGE),
    ("avg_pool2d", nn.AvgPool2d(2), IMAGE),
    ("adaptive_avg_pool2d", nn.AdaptiveAvgPool2d(2), IMAGE),
    ("upsample_bilinear2d", nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    ("upsample_nearest2d", nn.Upsample(scale_factor=2), IMAGE),
    ("embedding", nn.Embedding(9, 3), torch.tensor([[1, 8, 0]])),
    ("softmax", nn.Softmax(dim=-1), ROWS),
    ("pad", nn.ConstantPad1d(2, 1.0), SIGNAL),
    ("matmul", Fn(lambda m, x: x @ x.transpose(-1, -2)), SIGNAL),
    (
        "scaled_dot_product_attention",
        Fn(lambda m, x: F.scaled_dot_product_attention(x, x, x)),
        SIGNAL,
    ),
]


@pytest.mark.parametrize(("name", "module", "example"), WHOLE, ids=[w[0] for w in WHOLE])
def test_operator_stays_whole(name, module, example):
    assert f"aten.{name}." in " ".join(targets(check(module, example))) + "."


def test_weights_follow_inputs_and_are_the_modules_own_bits():
    module = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    captured = check(module, ROWS)
    assert list(captured.weights) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
    ]  # fmt: skip
    state = module.state_dict()
    for name, weight in captured.weights.items():
        assert weight.data_ptr() == state[name].data_ptr()
    names = [n.name for n in captured.graph.graph.find_nodes(op="placeholder")]
    assert len(names) == 1 + len(captured.weights)
    assert not captured.graph.graph.find_nodes(op="get_attr")


def test_tied_weights_are_one_argument():
    module = Fn(
        lambda m, x: m.head(m.embed(x)), embed=nn.Embedding(9, 6), head=nn.Linear(6, 9, bias=False)
    )
    module.head.weight = module.embed.weight
    captured = check(module, torch.tensor([[1, 2]]))
    assert list(captured.weights) == ["embed.weight"]
    assert captured.aliases == (("head.weight", "embed.weight"),)


def test_a_tied_weight_used_by_its_second_name_only():
    module = Fn(lambda m, x: m.b(x), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    module.b.weight = module.a.weight
    captured = check(module, ROWS)
    assert sorted(captured.weights) == ["a.weight", "b.bias"]


def test_unregistered_and_literal_tensors_become_weights():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.full((6,), 3.0)
            self.register_buffer("shift", torch.ones(6), persistent=False)

        def forward(self, x):
            return x * self.scale + self.shift + torch.tensor([1.0, 2, 3, 4, 5, 6])

    captured = check(Model(), ROWS)
    values = sorted(w.sum().item() for w in captured.weights.values())
    assert values == [6.0, 18.0, 21.0]
    assert {"scale", "shift"} < set(captured.weights)


def test_weights_of_every_dtype_keep_their_bits():
    half = torch.tensor([1.0, float("nan"), -0.0, 6e-8], dtype=torch.float16)
    whole = torch.tensor([2**60 + 1], dtype=torch.int64)
    module = Fn(lambda m, x: (x.half() + m.half_, m.whole + 1), half_=half, whole=whole)
    captured = capture(module, (torch.ones(4),))
    assert torch.equal(captured.weights["half_"].view(torch.int16), half.view(torch.int16))
    assert torch.equal(captured.weights["whole"], whole)


def in_place(m, x):
    y = m.act(m.lin(x))
    y += 1
    y.mul_(2)
    z = y.view(-1)
    z[0] = 7
    w = torch.zeros(1, 6)
    w[:, :3] = y[:, :3]
    v = y.clone()
    v[y > 1] = 0.5
    return y.add_(w), y, v


def test_writes_to_own_values_become_pure_operators():
    module = Fn(in_place, lin=nn.Linear(6, 6), act=nn.ReLU(inplace=True))
    check(module, ROWS, more=[(torch.randn(1, 6),)])


def earlier_reader(m, x):
    y = m.lin(x)
    a = y + 1
    y.relu_()
    return a, y * 2, y


def view_before_write(m, x):
    y = m.lin(x)
    z = y.view(2, 3)
    y.relu_()
    return z, y


def promoted(m, x):
    y = m.lin(x).half()
    y.add_(torch.ones(6))
    return y


@pytest.mark.parametrize("function", [earlier_reader, view_before_write, promoted])
def test_in_place_order_and_aliasing(function):
    torch.manual_seed(3)
    check(Fn(function, lin=nn.Linear(6, 6)), ROWS, more=[(torch.randn(1, 6),)])


def test_dropout_in_eval_mode_disappears():
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.AlphaDropout(0.2))
    assert targets(check(module, ROWS)) == ["aten.linear.default"]


def test_a_random_slope_in_eval_mode_is_its_mean():
    module = nn.Sequential(nn.Linear(6, 6), nn.RReLU(0.1, 0.4), nn.RReLU())
    assert targets(check(module, ROWS))[1:] == ["aten.leaky_relu.default"] * 2


def test_operators_outside_the_set_are_decomposed():
    module = Fn(lambda m, x: torch.linalg.vector_norm(x, dim=-1) + F.pairwise_distance(x, x))
    check(module, ROWS)
    check(Fn(lambda m, x: F.huber_loss(x, x + 1, reduction="none")), ROWS)
    check(Fn(lambda m, x: F.cross_entropy(x, torch.softmax(x, -1), reduction="none")), ROWS)


def choose(m, x):
    return torch.cond(
        x.sum() > 0,
        lambda x: torch.relu_(m.drop(m.a(x))).view(-1),
        lambda x: m.b(x).negative().view(-1),
        (x,),
    )


def test_branches_on_data_through_cond_are_lowered_too():
    module = Fn(choose, a=nn.Linear(6, 6), b=nn.Linear(6, 6), drop=nn.Dropout(0.5))
    captured = check(module, torch.ones(1, 6), more=[(-torch.ones(1, 6),)])
    inner = {
        str(n.target)
        for branch in captured.graph.children()
        for n in branch.graph.nodes
        if n.op == "call_function"
    }
    assert inner == {
        "aten.linear.default", "aten.relu.default", "aten.neg.default", "aten.reshape.default",
    }  # fmt: skip


LAYERS = [
    (kind, layers, both, first)
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
    for layers, both, first in ((1, False, True), (2, True, True), (1, True, False))
]


@pytest.mark.parametrize(("kind", "layers", "both", "first"), LAYERS)
def test_recurrent_layers_are_one_node_per_layer_and_direction(kind, layers, both, first):
    layer = kind(4, 3, layers, bidirectional=both, batch_first=first)

    def forward(m, x):
        y, state = m.layer(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)

    shape = (lambda t: (1, t, 4)) if first else (lambda t: (t, 1, 4))
    captured = check(
        Fn(forward, layer=layer),
        torch.randn(shape(5)),
        dynamic={0: {1 if first else 0: SEQ}},
        more=[(torch.randn(shape(9)),), (torch.randn(shape(2)),)],
    )
    assert targets(captured).count("fusec.rnn.default") == layers * (1 + both)
    assert captured.symbols.symbols == (Symbol("s0", 2, None),)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind):
    def forward(m, x):
        h = m.cell(x)
        return m.cell(x, h)

    captured = check(Fn(forward, cell=kind(6, 3)), ROWS)
    assert targets(captured).count("fusec.rnn.default") == 2


def test_relu_rnn_given_state_and_no_bias():
    layer = nn.RNN(4, 3, nonlinearity="relu", bias=False)
    module = Fn(lambda m, x, h: m.layer(x, h), layer=layer)
    check(module, torch.randn(5, 1, 4), torch.randn(1, 1, 3))


def test_transformer_layers_become_linear_and_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    module = Fn(
        lambda m, x, mask: m.encoder(x, mask),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
    )
    causal = nn.Transformer.generate_square_subsequent_mask
    captured = check(
        module,
        torch.randn(1, 5, 8),
        causal(5),
        dynamic={0: {1: SEQ}, 1: {0: SEQ, 1: SEQ}},
        more=[(torch.randn(1, 7, 8), causal(7))],
    )
    found = targets(captured)
    assert found.count("aten.scaled_dot_product_attention.default") == 2
    assert found.count("aten.linear.default") == 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_symbols_of_one_name_are_one_symbol():
    other = Symbol("other", 1, 50)
    module = Fn(lambda m, x, y, z: (x * 2, y + 1, z - 1))
    captured = capture(
        module,
        (torch.ones(1, 5), torch.ones(1, 5), torch.ones(1, 9)),
        dynamic={0: {1: SEQ}, 1: {1: Symbol("seq", 3, 40)}, 2: {1: other}},
    )
    assert captured.symbols.symbols == (Symbol("s0", 3, 40), Symbol("s1", 2, 50))
    assert len(captured.symbols.names) == 3


def divisible(m, x):
    return x.reshape(1, x.shape[1] // 4, 4)


def branch(m, x):
    return x * 2 if x.shape[1] > 5 else x + 1


def shifted(m, x, y):
    return x[:, 1:] + y


def test_constraints_are_read_back():
    x = torch.randn(1, 8)
    got = check(Fn(divisible), x, dynamic={0: {1: SEQ}}, more=[(torch.randn(1, 12),)])
    assert any("s0" in c for c in got.symbols.constraints)
    got = check(Fn(branch), x, dynamic={0: {1: SEQ}})
    assert got.symbols.symbols == (Symbol("s0", 6, None),)
    got = check(Fn(shifted), x, torch.randn(1, 7), dynamic={0: {1: SEQ}, 1: {1: Symbol("t", 1, 9)}})
    assert len(got.symbols.symbols) == 1


def test_views_that_hold_for_the_traced_strides_only_become_reshapes():
    module = Fn(lambda m, x: x.transpose(1, 2).contiguous().view(1, -1))
    captured = check(module, SIGNAL)
    assert captured.graph(SIGNAL.transpose(1, 2).contiguous().transpose(1, 2))[0].shape == (1, 48)
    assert not any("view" in t for t in targets(captured))


def test_an_axis_that_cannot_vary_is_reported():
    module = Fn(lambda m, x: m.lin(x), lin=nn.Linear(6, 3))
    captured = capture(module, (ROWS,), dynamic={0: {1: Symbol("features", 1, None)}})
    assert "features" in captured.notes[0]
    assert captured.symbols.symbols == ()


def test_extent_of_one_in_the_example_still_varies():
    captured = check(nn.Tanh(), torch.ones(1, 1), dynamic={0: {1: SEQ}}, more=[(ROWS,)])
    assert captured.symbols.symbols == (Symbol("s0", 2, None),)


def test_capture_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)).eval()
    before = copy.deepcopy(module.state_dict())
    keys = {name: set(vars(part)) for name, part in module.named_modules()}
    capture(module, (ROWS,))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert {name: set(vars(part)) for name, part in module.named_modules()} == keys
    assert all(p.requires_grad for p in module.parameters())


def test_program_joins_graph_and_rows():
    captured = capture(nn.Linear(6, 3), (ROWS,), input_names=["x"], output_names=["y"])
    program = program_of(
        captured, input_axes=(0,), output_axes=(0,), rows=RowsKind.INDEPENDENT, bound=()
    )
    assert [n.name for n in program.inputs] == [program.placeholders[0].name]
    assert len(program.weight_nodes) == len(program.weights) == 2
    assert len(program.outputs) == 1
    assert program.input_names == ("x",)
