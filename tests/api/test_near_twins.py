"""Near-twins that other systems merge wrongly: apart with a reason, or carried per member."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusec_testing import assert_no_worse
from torch import nn

import fusec

IMAGE = (1, 4, 9, 9)


class _Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.c = torch.full((4,), value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.c


class _Tied(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        if tied:
            self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu())


class _Scale(nn.Module):
    """A learned scalar belongs to its member."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.s).softmax(-1)


def _conv(**kwargs: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, **kwargs), nn.ReLU())


Pair = tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...], str | None]

APART: dict[str, Pair] = {
    "stride": (_conv, lambda: _conv(stride=2), IMAGE, "stride"),
    "padding": (_conv, lambda: _conv(padding=1), IMAGE, "padding"),
    "dilation": (_conv, lambda: _conv(dilation=2), IMAGE, "dilation"),
    "groups": (_conv, lambda: _conv(groups=4), IMAGE, "weight"),
    "eps": (lambda: nn.LayerNorm(4), lambda: nn.LayerNorm(4, eps=0.1), (1, 4), "eps"),
    "slope": (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.9), (1, 4), "slope"),
    "axis": (lambda: nn.Softmax(1), lambda: nn.Softmax(2), (1, 3, 3), "dim"),
    "activation": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
        (1, 4),
        "relu",
    ),
    "tied": (lambda: _Tied(True), lambda: _Tied(False), (1, 4), "weight"),
    "head": (lambda: nn.Linear(4, 2), lambda: nn.Linear(4, 3), (1, 4), "weight"),
}

CARRIED: dict[str, Pair] = {
    "unregistered constant": (lambda: _Constant(1.0), lambda: _Constant(7.0), (1, 4), None),
    "learned scalar": (lambda: _Scale(1.0), lambda: _Scale(3.0), (1, 4), None),
    "batch norm eps": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, eps=0.1)),
        IMAGE,
        None,
    ),
}


@pytest.mark.parametrize("executor", ["isolated", "merged"])
@pytest.mark.parametrize("case", [*APART, *CARRIED])
def test_answers_are_right_and_the_difference_is_told(case: str, executor: str) -> None:
    first, second, shape, where = {**APART, **CARRIED}[case]
    models = {"a": first().eval(), "b": second().eval(), "c": first().eval()}
    plan = fusec.compile(models, examples={"*": torch.randn(shape)}, executor=executor)
    x = torch.randn(2, *shape[1:])
    answers = plan.run(dict.fromkeys(models, x))
    for name, model in models.items():
        (answer,) = answers[name].values()
        with torch.no_grad():
            plain = torch.cat([model(row[None]) for row in x])
            if case == "unregistered constant":
                truth = x.double() * model.c.double()
            else:
                truth = model.double()(x.double())
                model.float()
        assert_no_worse(answer, plain, truth, where=name)
    explanation = plan.explain()
    if where is None:
        assert [g.members for g in explanation.groups] == [("a", "b", "c")]
    else:
        assert [g.members for g in explanation.groups] == [("a", "c"), ("b",)]
        (refusal,) = explanation.refusals
        assert where in f"{refusal.where} {refusal.first_value}"
        assert refusal.first_value != refusal.second_value
        assert refusal.first_value in str(explanation)


def test_dtypes_are_kept_apart_and_never_cast() -> None:
    models = {"f": nn.Linear(4, 4).eval(), "h": nn.Linear(4, 4).double().eval()}
    plan = fusec.compile(models, examples={"f": torch.zeros(1, 4), "h": torch.zeros(1, 4).double()})
    assert len(plan.explain().groups) == 2
    (refusal,) = plan.explain().refusals
    assert str(refusal.reason) == "dtype"
    x = torch.randn(1, 4)
    (answer,) = plan.run({"h": x.double()})["h"].values()
    assert answer.dtype == torch.float64
    with pytest.raises(fusec.ConfigError, match="float32, the model takes float64"):
        plan.run({"h": x})


def test_a_module_in_training_mode_is_refused_even_when_nested() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    model[1].train()
    with pytest.raises(fusec.ImportFailed, match=r"model 'm': 1 .*training mode.*eval\(\)"):
        fusec.compile({"m": model}, examples={"m": torch.zeros(1, 4)})
