"""Grouping by template, and what is said of near-twins: each reason with both values."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from fusec_testing.programs import packed, program_from
from torch import nn

from fusec.ir.plan import Reason
from fusec.ir.template import Body, RowsKind, Symbol, Template
from fusec.passes.group import group, refusals
from fusec.passes.pack import pack


def _template(module: nn.Module, *args: torch.Tensor) -> Template:
    return packed(module, *args)[0]


def _conv(**kwargs: object) -> Template:
    layers = nn.Sequential(nn.Conv2d(4, 4, 3, **kwargs), nn.ReLU())
    return _template(layers, torch.zeros(1, 4, 9, 9))


class _Two(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        if tied:
            self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu())


def test_same_mathematics_other_weights_is_one_group() -> None:
    x = torch.zeros(1, 4)
    models = {n: _template(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), x) for n in "abc"}
    assert list(group(models).values()) == [("a", "b", "c")]
    assert refusals(models) == ()


def test_groups_come_largest_first() -> None:
    x = torch.zeros(1, 4)
    small, large = nn.Linear(4, 3), nn.Linear(4, 5)
    models = {"a": _template(small, x), "b": _template(large, x), "c": _template(large, x)}
    assert list(group(models).values()) == [("b", "c"), ("a",)]


CASES = [
    ("stride", _conv(), _conv(stride=2), Reason.ATTRIBUTE, "stride", "[1, 1]", "[2, 2]"),
    ("padding", _conv(), _conv(padding=1), Reason.ATTRIBUTE, "padding", "[0, 0]", "[1, 1]"),
    ("dilation", _conv(), _conv(dilation=2), Reason.ATTRIBUTE, "dilation", "[1, 1]", "[2, 2]"),
    (
        "groups",
        _conv(),
        _conv(groups=2),
        Reason.WEIGHT_SHAPE, "weight", "[4, 4, 3, 3]", "[4, 2, 3, 3]",
    ),
    (
        "eps",
        _template(nn.LayerNorm(4, eps=1e-5), torch.zeros(1, 4)),
        _template(nn.LayerNorm(4, eps=1e-1), torch.zeros(1, 4)),
        Reason.ATTRIBUTE, "eps", "1e-05", "0.1",
    ),
    (
        "slope",
        _template(nn.LeakyReLU(0.1), torch.zeros(1, 4)),
        _template(nn.LeakyReLU(0.9), torch.zeros(1, 4)),
        Reason.ATTRIBUTE, "negative_slope", "0.1", "0.9",
    ),
    (
        "activation",
        _template(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.zeros(1, 4)),
        _template(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), torch.zeros(1, 4)),
        Reason.OPERATOR, "relu", "relu", "sigmoid",
    ),
    (
        "axis",
        _template(nn.Softmax(1), torch.zeros(1, 4, 4)),
        _template(nn.Softmax(2), torch.zeros(1, 4, 4)),
        Reason.ATTRIBUTE, "dim", "1", "2",
    ),
    (
        "dtype",
        _template(nn.Linear(4, 4), torch.zeros(1, 4)),
        _template(nn.Linear(4, 4).double(), torch.zeros(1, 4, dtype=torch.float64)),
        Reason.DTYPE, "input", "float32", "float64",
    ),
    (
        "input shape",
        _template(nn.ReLU(), torch.zeros(1, 4)),
        _template(nn.ReLU(), torch.zeros(1, 5)),
        Reason.INPUT_SHAPE, "input", "[1, 4]", "[1, 5]",
    ),
    (
        "head",
        _template(nn.Linear(4, 3), torch.zeros(1, 4)),
        _template(nn.Linear(4, 5), torch.zeros(1, 4)),
        Reason.WEIGHT_SHAPE, "weight", "[3, 4]", "[5, 4]",
    ),
    (
        "tied",
        _template(_Two(tied=False), torch.zeros(1, 4)),
        _template(_Two(tied=True), torch.zeros(1, 4)),
        Reason.TIED_WEIGHTS, "weight", "weight 2", "weight 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "reason", "where", "first", "second"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_near_twins_are_refused_with_both_values(
    a: Template, b: Template, reason: Reason, where: str, first: str, second: str
) -> None:
    assert len(group({"a": a, "b": b})) == 2
    (refusal,) = refusals({"a": a, "b": b})
    assert refusal.reason is reason
    assert where in refusal.where
    assert (refusal.first_value, refusal.second_value) == (first, second)


def test_strangers_are_not_compared() -> None:
    a = _template(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.zeros(1, 4))
    b = _template(nn.Sequential(nn.Softmax(1), nn.Tanh(), nn.GELU()), torch.zeros(1, 4))
    assert refusals({"a": a, "b": b}) == ()


def test_an_unregistered_constant_is_a_weight_of_the_member() -> None:
    class Shift(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.c = [torch.full((4,), value)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.c[0]

    x = torch.zeros(1, 4)
    (a, _), (b, recipe) = packed(Shift(1.0), x), packed(Shift(7.0), x)
    assert a.key == b.key
    assert len(recipe.names) == 1


CHANGES: dict[str, object] = {
    "n_inputs": 0,
    "body": Body(arguments=(), rows=(), results=()),
    "symbols": (Symbol("s0", 2, None),),
    "constraints": ("s0 > 3",),
    "input_axes": (1,),
    "output_axes": (None,),
    "rows": RowsKind.WHOLE_REQUEST,
    "bound": (("sr", "16000"),),
}


def test_every_field_of_a_template_takes_part_in_the_key() -> None:
    template = _template(nn.Linear(4, 3), torch.zeros(1, 4))
    assert {f.name for f in fields(Template)} == set(CHANGES)
    for name, value in CHANGES.items():
        other = replace(template, **{name: value})
        assert other != template, name
        assert other.key != template.key, name
        assert len(refusals({"a": template, "b": other})) <= 1


@pytest.mark.parametrize(
    "name", ["symbols", "constraints", "input_axes", "output_axes", "rows", "bound"]
)
def test_every_field_that_differs_alone_is_named(name: str) -> None:
    template = _template(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(1, 4))
    (refusal,) = refusals({"a": template, "b": replace(template, **{name: CHANGES[name]})})
    assert refusal.first_value != refusal.second_value
    assert refusal.reason in (Reason.SYMBOLS, Reason.BATCH, Reason.BOUND)


def test_an_integer_and_a_float_attribute_are_different() -> None:
    program = program_from(nn.LeakyReLU(2.0), torch.zeros(1, 4))
    a, _ = pack(program)
    (row,) = a.body.rows
    changed = replace(row, args=(row.args[0], 2))
    b = replace(a, body=replace(a.body, rows=(changed,)))
    assert a.key != b.key
