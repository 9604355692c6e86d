"""Layer, RMS, group and instance norm in the spellings that exporters write."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import Function, checked, operators, rules

from fusec.passes.text import graph_text

EPS = 1e-5
G, B = torch.linspace(0.5, 2.0, 6), torch.linspace(-1.0, 1.0, 6)


def moments(x, axes=(-1,)):
    mean = x.mean(axes, keepdim=True)
    d = x - mean
    return d, mean, (d * d).mean(axes, keepdim=True)


def pytorch(x, g, b):
    d = x - x.mean(-1, keepdim=True)
    return d / torch.sqrt(d.pow(2).mean(-1, keepdim=True) + EPS) * g + b


def reciprocal(x, g, b):
    d, _, var = moments(x)
    return d * torch.reciprocal(torch.sqrt(var + EPS)) * g + b


def keras(x, g, b):
    _, mean, var = moments(x)
    inv = torch.rsqrt(var + EPS) * g
    return x * inv + (b - mean * inv)


def keras_negative(x, g, b):
    _, mean, var = moments(x)
    inv = torch.reciprocal(torch.sqrt(EPS + var)) * g
    return (b + -mean * inv) + x * inv


def gain_first(x, g, b):
    d, _, var = moments(x)
    return g * (d / (var + EPS) ** 0.5) + b


def by_variance(x, g, b):
    var = x.var(-1, unbiased=False, keepdim=True)
    return b + (x - x.mean(-1, keepdim=True)) * torch.rsqrt(var + EPS) * g


def difference_of_moments(x, g, b):
    mean = x.mean(-1, keepdim=True)
    var = (x * x).mean(-1, keepdim=True) - mean * mean
    return (x - mean) * torch.rsqrt(var + EPS) * g + b


def by_sums(x, g, b):
    mean = x.sum(-1, keepdim=True) / 6
    d = x - mean
    var = (d * d).sum(-1, keepdim=True) / 6
    return d / torch.sqrt(var + EPS) * g + b


def by_squeezed_mean(x, g, b):
    d = x - x.mean(-1).unsqueeze(-1)
    return d / torch.sqrt((d**2).mean(-1).unsqueeze(-1) + EPS) * g + b


def native(x, g, b):
    return torch.ops.aten.native_layer_norm.default(x, [6], g, b, EPS)[0]


def row_shaped(x, g, b):
    return pytorch(x, g.reshape(1, 1, 6), b.reshape(1, 6))


SPELLINGS = (
    pytorch, reciprocal, keras, keras_negative, gain_first, by_variance, difference_of_moments,
    by_sums, by_squeezed_mean, native, row_shaped,
)  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda f: f.__name__)
def test_every_spelling_becomes_one_layer_norm(spelling):
    program, _ = checked(Function(spelling, G, B), torch.randn(2, 3, 6) * 3 + 1)
    assert operators(program) == ["layer_norm"]
    assert program.graph.graph.find_nodes(
        op="call_function", target=torch.ops.aten.layer_norm.default
    )[0].args[4] == pytest.approx(EPS, rel=1e-6)


def test_spellings_meet_in_one_graph():
    def template(spelling):
        from fusec.passes.pack import pack

        program, _ = checked(Function(spelling, G, B), torch.randn(2, 3, 6))
        return pack(program)[0].key

    assert len({template(spelling) for spelling in SPELLINGS}) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: moments(x)[0] * torch.rsqrt(moments(x)[2] + EPS),
        lambda x: moments(x)[0] / torch.sqrt(moments(x)[2] + EPS),
        lambda x: torch.nn.functional.layer_norm(x, (6,)),
    ],
)
def test_without_affine(function):
    program, _ = checked(Function(function), torch.randn(2, 3, 6))
    (norm,) = program.graph.graph.find_nodes(
        op="call_function", target=torch.ops.aten.layer_norm.default
    )
    assert operators(program) == ["layer_norm"]
    assert norm.args[2:4] == (None, None)


def test_affine_that_is_an_activation_stays_outside():
    def adaptive(x, scale, shift):
        return pytorch(x, 1 + scale, shift)

    inputs = torch.randn(2, 3, 6), torch.randn(2, 1, 6), torch.randn(2, 1, 6)
    program, _ = checked(Function(adaptive), *inputs)
    assert sorted(operators(program)) == ["add", "add", "layer_norm", "mul"]


def test_channels_first_is_moved_there_and_back():
    def convnext(x, g, b):
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return g[:, None, None] * x + b[:, None, None]

    program, _ = checked(Function(convnext, G, B), torch.randn(1, 6, 4, 5))
    assert operators(program) == ["permute", "layer_norm", "permute"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, g, b: (x - x.mean(-1, keepdim=True))
        / torch.sqrt(((x - x.mean(0, keepdim=True)) ** 2).mean(-1, keepdim=True) + EPS) * g,
        lambda x, g, b: (x - x.mean(-1, keepdim=True))
        / torch.sqrt(x.var(-1, unbiased=True, keepdim=True) + EPS) * g + b,
        lambda x, g, b: (x + x.mean(-1, keepdim=True))
        / torch.sqrt(moments(x)[2] + EPS) * g + b,
        lambda x, g, b: moments(x)[0] / (moments(x)[2] + EPS) * g + b,
        lambda x, g, b: moments(x)[0] / torch.sqrt(moments(x)[2] + x) * g + b,
        lambda x, g, b: x * torch.rsqrt(moments(x)[2] + EPS) * g
        + (b - moments(x)[1] * torch.rsqrt(moments(x)[2] + EPS) * b),
    ],
    ids=["other_mean", "unbiased", "plus", "not_a_root", "moving_eps", "other_gain"],
)  # fmt: skip
def test_near_misses_are_left_alone(function):
    program, reports = checked(Function(function, G, B), torch.randn(4, 6).abs())
    assert "raise_norm" not in rules(reports)
    assert "layer_norm" not in operators(program)


def test_a_norm_needed_without_its_affine_keeps_it_outside():
    def both(x, g, b):
        core = torch.nn.functional.layer_norm(x, (6,))
        return core, core * g + b

    program, reports = checked(Function(both, G, B), torch.randn(3, 6))
    assert operators(program) == ["layer_norm", "mul", "add"]
    refusals = [r for report in reports for r in report.refusals]
    assert any(r.rule == "affine_into_norm" and "needed elsewhere" in r.detail for r in refusals)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, g: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * g,
        lambda x, g: g * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS)),
        lambda x, g: torch.nn.functional.rms_norm(x, (6,), g, EPS),
        lambda x, g: torch.nn.functional.rms_norm(x, (6,), None, EPS) * g,
    ],
)
def test_rms_norm(function):
    program, _ = checked(Function(function, G), torch.randn(2, 3, 6))
    assert operators(program) == ["rms_norm"]


def test_group_norm_as_the_onnx_exporter_writes_it():
    def exported(x, ones, zeros, g, b):
        inner = torch.nn.functional.instance_norm(x.reshape(2, 3, -1), None, None, ones, zeros)
        return inner.reshape(x.shape) * g[:, None, None] + b[:, None, None]

    weights = torch.ones(3), torch.zeros(3), G, B
    x = torch.randn(2, 6, 4, 5)
    program, _ = checked(Function(exported, *weights), x)
    plain, _ = checked(
        Function(lambda x, g, b: torch.nn.functional.group_norm(x, 3, g, b), G, B), x
    )
    assert operators(program) == operators(plain) == ["group_norm"]
    assert [g.operand for g in program.guards] == [1.0, 0.0]
    assert "weights.0 is 1 everywhere" in program.guards[0].text


def test_native_group_norm():
    def native(x, g, b):
        return torch.ops.aten.native_group_norm.default(x, g, b, 2, 6, 20, 3, EPS)[0]

    program, _ = checked(Function(native, G, B), torch.randn(2, 6, 4, 5))
    assert operators(program) == ["group_norm"]


def test_group_norm_whose_inner_affine_does_something_is_left_alone():
    def exported(x, inner_g, inner_b):
        inner = torch.nn.functional.instance_norm(x.reshape(2, 3, -1), None, None, inner_g, inner_b)
        return inner.reshape(x.shape)

    weights = torch.tensor([1.0, 2.0, 1.0]), torch.zeros(3)
    program, _ = checked(Function(exported, *weights), torch.randn(2, 6, 4, 5))
    assert operators(program) == ["reshape", "group_norm", "reshape"]
    assert not program.guards


def test_instance_norm_spellings_meet():
    def by_hand(x, g, b):
        d, _, var = moments(x, (2, 3))
        return d / torch.sqrt(var + EPS) * g[:, None, None] + b[:, None, None]

    def whole(x, g, b):
        return torch.nn.functional.instance_norm(x, None, None, g, b, eps=EPS)

    x = torch.randn(2, 6, 4, 5)
    programs = [checked(Function(f, G, B), x)[0] for f in (by_hand, whole)]
    assert [operators(p) for p in programs] == [["group_norm"]] * 2


def test_text_of_a_raised_norm(golden):
    golden.check(graph_text(checked(Function(keras, G, B), torch.randn(2, 6))[0]))


def test_norm_as_jax_writes_it():
    def flax(x, g, b):
        mean, square = x.mean(1), (x * x).mean(1)
        inv = torch.rsqrt(torch.relu(square - mean * mean).unsqueeze(1) + EPS) * g[:, None]
        return (x - mean.unsqueeze(1)) * inv + b[:, None]

    program, _ = checked(Function(flax, G, B), torch.randn(2, 6, 4) + 1)
    assert operators(program) == ["permute", "layer_norm", "permute"]
