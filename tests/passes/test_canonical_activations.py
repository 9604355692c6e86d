"""Activations in the spellings that exporters write."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function, checked, operators

from fusec.passes.canonicalise import canonicalise

S = math.sqrt(2 / math.pi)
S32 = torch.tensor(S).item()
"""The number as a float32 file has it."""
H32 = torch.tensor(math.sqrt(0.5)).item()

CASES = {
    "gelu": (
        lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: x * 0.5 * (1 + torch.erf(x * H32)),
        lambda x: x * (0.5 * (torch.erf(x * math.sqrt(0.5)) + 1)),
        lambda x: (x * (torch.erf(x / torch.tensor(2.0).sqrt().item()) + 1)) * 0.5,
        lambda x: (1 + torch.erf(x * 0.70710678118)) * x / 2,
        lambda x: x * (0.5 + 0.5 * torch.erf(x / math.sqrt(2))),
    ),
    "gelu tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(S * (x + 0.044715 * x**3))),
        lambda x: 0.5 * (x * (1 + torch.tanh(S32 * (x + 0.044715 * x * x * x)))),
        lambda x: 0.5 * x * (torch.tanh(S32 * x * (1 + 0.044715 * x * x)) + 1),
    ),
    "sigmoid": (lambda x: 1 / (1 + torch.exp(-x)), lambda x: torch.reciprocal(torch.exp(-x) + 1)),
    "silu": (
        lambda x: x * torch.sigmoid(x),
        lambda x: torch.sigmoid(x) * x,
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: x * (1 / (1 + torch.exp(-x))),
        F.silu,
    ),
    "hardsigmoid": (
        lambda x: F.relu6(x + 3) / 6,
        lambda x: torch.clamp(x / 6 + 0.5, 0, 1),
        lambda x: torch.clamp(x * (1 / 6) + 0.5, 0.0, 1.0),
        lambda x: F.hardtanh(3 + x, 0.0, 6.0) * (1 / 6),
        F.hardsigmoid,
    ),
    "hardswish": (
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * (F.relu6(x + 3) / 6),
        lambda x: (x / 6) * torch.clamp(x + 3, 0, 6),
        lambda x: x * F.hardsigmoid(x),
        lambda x: torch.minimum(F.relu(x + 3), torch.tensor(6.0)) * x / 6,
        F.hardswish,
    ),
    "mish": (
        lambda x: x * torch.tanh(F.softplus(x)),
        lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))),
        lambda x: torch.tanh(torch.log1p(torch.exp(x))) * x,
        F.mish,
    ),
    "relu": (
        lambda x: torch.clamp(x, min=0),
        lambda x: torch.clamp_min(x, 0.0),
        lambda x: torch.maximum(x, torch.zeros(())),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.where(x > 0, x, torch.zeros(())),
        F.relu,
    ),
    "clamp": (F.relu6, lambda x: torch.clamp(x, 0, 6), lambda x: F.hardtanh(x, 0, 6)),
    "leaky_relu": (
        lambda x: torch.where(x > 0, x, x * 0.1),
        lambda x: torch.where(x >= 0, x, 0.1 * x),
        lambda x: torch.maximum(x, x * 0.1),
        lambda x: F.leaky_relu(x, 0.1),
    ),
    "softmax": (
        lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True),
        lambda x: torch.exp(x - x.amax(-1, keepdim=True))
        / torch.exp(x - x.amax(-1, keepdim=True)).sum(-1, keepdim=True),
        lambda x: torch.exp(x - x.max(-1, keepdim=True)[0])
        / torch.exp(x - x.max(-1, keepdim=True)[0]).sum(-1).unsqueeze(-1),
        lambda x: F.softmax(x, -1),
    ),
    "log_softmax": (
        lambda x: torch.log(F.softmax(x, 1)),
        lambda x: x - torch.logsumexp(x, -1, keepdim=True),
        lambda x: F.log_softmax(x, -1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_spellings_become_one_operator(name):
    x, large = torch.randn(3, 40) * 3, torch.linspace(-90, 80, 120).reshape(3, 40)
    texts = set()
    for function in CASES[name]:
        program, _ = checked(Function(function), x, others=((large,),))
        (call,) = program.graph.graph.find_nodes(op="call_function", target=_target(name))
        assert operators(program) == [name.split()[0]], function
        texts.add((call.args[1:], tuple(call.kwargs.items())).__repr__())
    assert len(texts) == 1


def _target(name: str):
    overload = "int" if "softmax" in name else "default"
    return getattr(getattr(torch.ops.aten, name.split()[0]), overload)


NEAR = {
    "short constant": lambda x: 0.5 * x * (1 + torch.erf(x * 0.7071)),
    "erf of another": lambda x: 0.5 * x * (1 + torch.erf((x + 1) / math.sqrt(2))),
    "minus erf": lambda x: 0.5 * x * (1 - torch.erf(x / math.sqrt(2))),
    "other cube": lambda x: 0.5 * x * (1 + torch.tanh(S * (x + 0.0447 * x**3))),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "two plus exp": lambda x: 1 / (2 + torch.exp(-x)),
    "exp of x": lambda x: 1 / (1 + torch.exp(x)),
    "x over another": lambda x: (x + 1) / (1 + torch.exp(-x)),
    "clamp to 5": lambda x: torch.clamp(x + 3, 0, 5) / 6,
    "over 5": lambda x: F.relu6(x + 3) / 5,
    "beta 2": lambda x: x * torch.tanh(F.softplus(x, beta=2)),
    "slope 2": lambda x: torch.maximum(x, x * 2),
    "below": lambda x: torch.where(x < 0, x, x * 0.1),
    "other axis": lambda x: (
        torch.exp(x) / torch.exp(x).sum(0, keepdim=True) * 1.5
        + x / torch.exp(x).sum(-1, keepdim=True)
    ),
}
RAISED = {
    "gelu", "silu", "hardsigmoid", "hardswish", "mish", "leaky_relu", "relu", "log_softmax",
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_near_misses_are_left_alone(name):
    program, _ = checked(Function(NEAR[name]), torch.randn(3, 40) * 3)
    assert not RAISED & set(operators(program))
    if name not in ("quick gelu",):
        assert "sigmoid" not in operators(program)


def test_a_constant_among_the_weights_is_guarded():
    def gelu(x, one):
        return 0.5 * x * (one + torch.erf(x / math.sqrt(2)))

    x = torch.randn(2, 5)
    program, _ = checked(Function(gelu, torch.ones(1)), x)
    assert operators(program) == ["gelu"]
    assert [g.text for g in program.guards] == ["weights.0 is 1 (a constant of an activation)"]
    other, _ = checked(Function(gelu, torch.full((1,), 1.5)), x)
    assert "gelu" not in operators(other)
    assert not other.guards


def test_softplus_is_refused_in_double():
    module = Function(lambda x: torch.log(1 + torch.exp(x)))
    from fusec_testing.programs import program_from

    program = program_from(module, torch.randn(3, dtype=torch.float64))
    canonical, reports = canonicalise(program, check=True)
    assert "softplus" not in operators(canonical)
    assert any(r.rule == "raise_softplus" for report in reports for r in report.refusals)


def test_a_gelu_below_a_sum_keeps_the_sum():
    program, _ = checked(
        Function(lambda x, b: 0.5 * (x + b) * (1 + torch.erf((x + b) / math.sqrt(2))),
                 torch.randn(5)), torch.randn(2, 5)
    )  # fmt: skip
    assert operators(program) == ["add", "gelu"]
