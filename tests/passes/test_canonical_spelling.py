"""Names, attributes, numbers, views, order: for each rule what meets and what stays apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function, checked, operators
from fusec_testing.programs import program_from

from fusec.passes.canonicalise import canonicalise
from fusec.passes.pack import pack
from fusec.passes.program import emit, fork

aten = torch.ops.aten
X = torch.randn(2, 3, 4)
W = torch.randn(4)


def key(function, *inputs, weights=(), dynamic=None):
    program, _ = checked(Function(function, *weights), *(inputs or (X,)), dynamic=dynamic)
    return pack(program)[0].key


SAME = {
    "softmax axis": (lambda x: torch.softmax(x, -1), lambda x: torch.softmax(x, dim=2)),
    "softmax dtype": (
        lambda x: torch.softmax(x, -1, dtype=torch.float64),
        lambda x: torch.softmax(x.double(), -1),
    ),
    "number": (lambda x: x * 2, lambda x: 2.0 * x, lambda x: x * torch.full((), 2.0)),
    "rounded": (lambda x: x + 0.1, lambda x: x + torch.tensor(0.1).item()),
    "subtract": (lambda x: x - 3, lambda x: x + -3.0, lambda x: x - torch.full((1,), 3.0)),
    "reversed": (lambda x: 3 - x, lambda x: torch.full((1,), 3.0) - x, lambda x: torch.rsub(x, 3)),
    "halved": (lambda x: x / 2, lambda x: x * 0.5),
    "reciprocal": (lambda x: 1 / x, torch.reciprocal, lambda x: x**-1),
    "square": (lambda x: x * x, lambda x: x**2, torch.square, lambda x: torch.pow(x, 2.0)),
    "chain of factors": (lambda x: x * 3 * 5, lambda x: 15 * x),
    "chain of terms": (lambda x: x + 3 + 5, lambda x: x + 8, lambda x: x + 10 - 2),
    "shifted softmax": (
        lambda x: torch.softmax(x - x.amax(-1, keepdim=True), -1),
        lambda x: torch.softmax(x[:, :, :1] + x, -1),
        lambda x: torch.softmax(x + 3, -1),
        lambda x: torch.softmax(x, -1),
    ),
    "unbounded": (lambda x: torch.clamp(x, -torch.inf, 1.0), lambda x: torch.clamp(x, max=1)),
    "nothing": (lambda x: x.relu(), lambda x: (x * 1 + 0).relu(), lambda x: x.relu().clone()),
    "alpha": (lambda x: torch.add(x, x.relu(), alpha=3), lambda x: x + x.relu() * 3),
    "compare": (
        lambda x: (x > 1).float(),
        lambda x: (x > 1).float(),
        lambda x: (x > torch.ones(())).to(torch.float32),
    ),
    "where": (
        lambda x: x.masked_fill(x > 1, 2.0),
        lambda x: torch.where(x > 1, 2.0, x),
        lambda x: torch.where(~(x > 1), x, 2.0),
        lambda x: torch.where(x > 1, torch.full((), 2.0), x),
    ),
    "mean": (
        lambda x: x.mean((1, 2)),
        lambda x: x.mean((-1, -2)),
        lambda x: x.sum((2, 1)) / 12,
        lambda x: x.mean((2, 1), keepdim=True).reshape(2),
    ),
    "whole mean": (lambda x: x.mean(), lambda x: x.mean((0, 1, 2)), lambda x: x.sum() * (1 / 24)),
    "variance": (
        lambda x: x.var(-1, unbiased=False),
        lambda x: torch.var(x, 2, correction=0),
    ),
    "flatten": (
        lambda x: x.flatten(1),
        lambda x: x.reshape(2, -1),
        lambda x: x.view(2, 12),
        lambda x: x.unsqueeze(1).flatten(1),
        lambda x: x.reshape(6, 4).reshape(2, 12),
        lambda x: x.reshape(-1).unflatten(0, (2, 12)),
    ),
    "transpose": (
        lambda x: x.transpose(1, 2),
        lambda x: x.permute(0, 2, 1),
        lambda x: x.mT,
        lambda x: x.swapaxes(-1, -2),
        lambda x: x.movedim(2, 1),
        lambda x: x.permute(2, 0, 1).permute(1, 0, 2),
    ),
    "axes of one": (lambda x: x[None].transpose(0, 1), lambda x: x.unsqueeze(1)),
    "above a merge": (
        lambda x: x.reshape(2, 1, 12).transpose(0, 2),
        lambda x: x.permute(1, 2, 0).reshape(12, 1, 2),
    ),
    "expand": (
        lambda x: x.unsqueeze(1).expand(2, 5, 3, 4),
        lambda x: x[:, None].broadcast_to(2, 5, 3, 4),
        lambda x: x[:, None].repeat(1, 5, 1, 1),
    ),
    "interleave": (
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x[:, :, None].expand(2, 3, 2, 4).reshape(2, 6, 4),
    ),
    "slice": (lambda x: x[:, 1:], lambda x: x[:, 1:3], lambda x: x[:, -2:], lambda x: x[:, 1:99]),
    "select": (lambda x: x[:, 1], lambda x: x[:, 1:2].squeeze(1), lambda x: x.unbind(1)[1]),
    "pieces": (
        lambda x: x[..., 2:] * x[..., :2],
        lambda x: torch.mul(*x.split(2, -1)),
        lambda x: torch.mul(*x.chunk(2, 2)),
        lambda x: torch.mul(*torch.split(x, [2, 2], 2)),
    ),
    "stack": (
        lambda x: torch.stack([x, x.relu()], 1),
        lambda x: torch.cat([x[:, None], x.relu()[:, None]], 1),
    ),
    "stack joined": (
        lambda x: torch.stack([x, x.relu()], 2).flatten(2),
        lambda x: torch.cat([x, x.relu()], -1),
    ),
    "views below a cat": (
        lambda x: torch.cat([x.unsqueeze(0), x.relu().unsqueeze(0)], 2),
        lambda x: torch.cat([x, x.relu()], 1).unsqueeze(0),
    ),
    "log softmax": (
        lambda x: torch.ops.aten._log_softmax.default(x, -1, False),
        lambda x: F.log_softmax(x, -1),
    ),
    "batched product": (
        lambda x: torch.bmm(x, x.mT).reshape(1, 2, 3, 3),
        lambda x: torch.matmul(x.reshape(1, 2, 3, 4), x.mT.reshape(1, 2, 4, 3)),
    ),
    "nested cat": (
        lambda x: torch.cat([x, torch.cat([x.relu(), x], 1)], 1),
        lambda x: torch.cat([x, x.relu(), x], 1),
    ),
    "pool": (
        lambda x: F.adaptive_avg_pool2d(x[None], 1),
        lambda x: x[None].mean((2, 3), keepdim=True),
        lambda x: F.avg_pool2d(x[None], (3, 4)),
    ),
    "constants": (
        lambda x: x + torch.zeros(2, 1, 1) + torch.ones(4),
        lambda x: x + torch.full((2, 1, 1), 0.0) + torch.ones(1, 4).reshape(4),
    ),
    "order": (
        lambda x: x.relu() * x.tanh() + x.exp(),
        lambda x: x.exp() + x.tanh() * x.relu(),
    ),
    "equal": (lambda x: x.relu() + x.relu(), lambda x: (lambda y: y + y)(x.relu())),
}


@pytest.mark.parametrize("name", SAME)
def test_spellings_meet(name):
    keys = [key(function) for function in SAME[name]]
    assert len(set(keys)) == 1


DIFFERENT = {
    "axis": (lambda x: torch.softmax(x, -1), lambda x: torch.softmax(x, 1)),
    "shift along the axis": (
        lambda x: torch.softmax(x - x.amax(1, keepdim=True), -1),
        lambda x: torch.softmax(x - x.amax(-1, keepdim=True), 1),
    ),
    "number": (lambda x: x * 3, lambda x: x * 3.0000005),
    "reversed": (lambda x: x - 3, lambda x: 3 - x),
    "thirds": (lambda x: x / 3, lambda x: x * (1 / 3)),
    "correction": (lambda x: x.var(-1), lambda x: x.var(-1, unbiased=False)),
    "transpose": (lambda x: x.transpose(1, 2).reshape(2, 12), lambda x: x.reshape(2, 12)),
    "slope": (lambda x: F.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.2)),
    "approximate": (F.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "order of cat": (
        lambda x: torch.cat([x, x.relu()], 1),
        lambda x: torch.cat([x.relu(), x], 1),
    ),
    "order of division": (lambda x: x / x.exp(), lambda x: x.exp() / x),
    "dtype": (lambda x: x.double().relu(), lambda x: x.relu()),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_differences_stay(name):
    keys = [key(function) for function in DIFFERENT[name]]
    assert len(set(keys)) == 2


def test_weights_come_after_activations():
    swapped = [
        key(lambda x, w: w * x.relu() + w, weights=(W,)),
        key(lambda x, w: w + x.relu() * w, weights=(W,)),
    ]
    assert len(set(swapped)) == 1


def test_transposed_and_cast_weights_meet():
    w = torch.randn(4, 5)
    functions = [
        (lambda x, w: x @ w, w),
        (lambda x, w: F.linear(x, w), w.t().contiguous()),
        (lambda x, w: x @ w.to(x.dtype), w.double()),
        (lambda x, w: x @ w.reshape(4, 5), w.reshape(20)),
        (lambda x, w: F.linear(x, w * 0.5), 2 * w.t().contiguous()),
    ]
    assert len({key(f, weights=(weight,)) for f, weight in functions}) == 1


def test_embeddings_and_gathers_meet():
    table, ids = torch.randn(9, 5), torch.tensor([[1, 8, 0]])
    functions = (
        lambda i, w: F.embedding(i, w),
        lambda i, w: w[i],
        lambda i, w: torch.index_select(w, 0, i.flatten()).reshape(1, 3, 5),
    )
    programs = [checked(Function(f, table), ids)[0] for f in functions]
    assert [operators(p) for p in programs[:2]] == [["index"]] * 2
    assert pack(programs[0])[0].key == pack(programs[1])[0].key


@pytest.mark.parametrize(
    ("function", "viewed"),
    [
        (lambda x: x[torch.arange(2)[:, None], torch.arange(3)[None, :]], True),
        (lambda x: x[torch.arange(2)[:, None, None], torch.arange(3)[None, None, :]], True),
        (lambda x: x[torch.arange(2)], True),
        (lambda x: x[torch.arange(2)[None, :], torch.arange(3)[:, None]], False),
        (lambda x: x[torch.arange(2), torch.arange(2)], False),
        (lambda x: x[torch.arange(1)], False),
        (lambda x: x[torch.arange(1, 2)], False),
    ],
    ids=["grid", "grid with an axis", "rows", "turned", "diagonal", "part", "shifted"],
)
def test_indexing_by_whole_ranges_is_a_view(function, viewed):
    x = torch.randn(2, 3, 4)
    program, _ = checked(Function(function), x)
    assert ("index" not in operators(program)) is viewed


def test_resizing_by_exact_factors_is_resizing_to_a_size():
    x = torch.randn(1, 2, 4, 6)
    by_size = key(lambda x: F.interpolate(x, size=(8, 12)), x)
    by_factor = key(lambda x: F.interpolate(x, scale_factor=2.0), x)
    inexact = key(lambda x: F.interpolate(x, scale_factor=2.1), x)
    assert by_size == by_factor != inexact


def test_an_exponent_among_the_weights_is_guarded():
    program, _ = checked(Function(lambda x, p: torch.pow(x, p), torch.full((1,), 2.0)), X)
    assert operators(program) == ["mul"]
    (guard,) = program.guards
    assert (guard.predicate, guard.operand) == ("equals", 2.0)
    assert guard.text == "weights.0 is 2 (an exponent)"
    other, _ = checked(Function(lambda x, p: torch.pow(x, p), torch.full((1,), 2.5)), X.abs())
    assert operators(other) == ["pow"]


def test_an_epsilon_among_the_weights_is_guarded():
    def norm(x, eps):
        d = x - x.mean(-1, keepdim=True)
        return d / torch.sqrt((d * d).mean(-1, keepdim=True) + eps)

    program, _ = checked(Function(norm, torch.full((1,), 1e-3)), X)
    assert operators(program) == ["layer_norm"]
    assert "the epsilon of a norm" in program.guards[0].text


def test_a_per_member_scalar_stays_a_weight():
    program, _ = checked(Function(lambda x, s: x.relu() * s, torch.full((1,), 0.3)), X)
    assert operators(program) == ["relu", "mul"]
    assert not program.guards


def test_a_number_lifted_from_the_code_is_a_number():
    program, _ = checked(Function(lambda x: x.relu() * torch.tensor(0.3)), X)
    literal, _ = checked(Function(lambda x: x.relu() * 0.3), X)
    assert pack(program)[0].key == pack(literal)[0].key
    assert [g.text for g in program.guards] == [
        "lifted_tensor_0 is 0.3 (a number in the source's code)"
    ]


def test_zero_states_meet():
    class Net(torch.nn.Module):
        def __init__(self, given):
            super().__init__()
            self.rnn = torch.nn.GRU(4, 5)
            self.register_buffer("state", torch.zeros(1, 3, 5) if given else None)

        def forward(self, x):
            return self.rnn(x, self.state)[0]

    programs = [checked(Net(given), X)[0] for given in (False, True)]
    assert len({pack(p)[0].key for p in programs}) == 1
    assert "first state" in programs[1].guards[0].text


def test_integers_are_left_integers():
    ids = torch.tensor([[3, -2, 5]])
    program, _ = checked(Function(lambda i: (i // 2 + i * 3 - 1) % 4), ids)
    assert program.graph.graph.output_node().args[0][0].meta["val"].dtype == torch.int64


def test_a_copy_to_the_output_is_dropped():
    program, _ = checked(Function(lambda x: x.relu().contiguous().clone().detach()), X)
    assert operators(program) == ["relu"]


def test_a_matrix_times_a_vector_is_a_linear():
    program, _ = checked(Function(lambda x, w: torch.mv(w, x), torch.randn(3, 4)), torch.randn(4))
    assert operators(program) == ["linear"]


def test_copies_and_dropout_outside_training_are_dropped():
    program = fork(program_from(Function(lambda x: x.relu().exp()), X))
    relu, exp = (n for n in program.graph.graph.nodes if n.op == "call_function")
    with program.graph.graph.inserting_before(exp):
        copied = emit(program.graph.graph, aten.clone.default, relu)
        left = emit(program.graph.graph, aten.dropout.default, copied, 0.5, False)
        kept = emit(program.graph.graph, aten.dropout.default, left, 0.5, True)
    exp.args = (kept,)
    canonical, _ = canonicalise(program, check=True)
    assert operators(canonical) == ["relu", "dropout", "exp"]


@pytest.mark.parametrize("times", [(3,), (2, 5), (1, 4), (2, 1, 1, 3)])
def test_repeats_of_a_tile_are_no_axes(times):
    x = torch.randn(2, 4)
    program, _ = checked(Function(lambda t: torch.tile(t, times) * 2), x)
    assert torch.equal(program.graph(x)[0], torch.tile(x, times) * 2)
