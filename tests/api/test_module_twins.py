"""Modules that differ in their weights only: traced once, checked each, the same plan as ever."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse
from torch import Tensor, nn

import fusec
from fusec.importers import importing

X = torch.linspace(-1, 1, 4).reshape(1, 4)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Collect what is traced."""
    traced: list[nn.Module] = []
    real = importing.capture

    def capture(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        traced.append(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(importing, "capture", capture)
    return traced


def mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)).eval()


def normed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    module(torch.randn(5, 4))
    return module.eval()


def recurrent(seed: int) -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.rnn(x.view(-1, 2, 2))[0][:, -1]
            return y

    torch.manual_seed(seed)
    return Last().eval()


class Mixed(nn.Module):
    """Rows that meet as far as a weight says so."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([alpha]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of all rows, or each row: a factor of 0 would let a NaN through."""
        return torch.where(self.alpha > 0, x.mean(0, keepdim=True).expand_as(x), x)


SWITCH = {"on": False}


class Switched(nn.Module):
    """Code that looks at more than itself."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the switch says."""
        y: Tensor = self.layer(x)
        return y.tanh() if SWITCH["on"] else y


class Counting(nn.Module):
    """Counts its calls, and tells as far as a weight lets it."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor([gate]))
        self.calls = [0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and some of the count."""
        self.calls[0] += 1
        return x + self.gate * self.calls[0]


def run(plan: fusec.Plan, name: str, x: Tensor) -> np.ndarray:
    """Answer with one member."""
    answer: np.ndarray = next(iter(plan.run({name: x.numpy()})[name].values()))
    return answer


def check(plan: fusec.Plan, name: str, model: nn.Module, x: Tensor) -> None:
    """Compare a member with its model."""
    with torch.no_grad():
        plain = model(x)
        exact = copy.deepcopy(model).double()(x.double() if x.is_floating_point() else x)
    assert_no_worse(run(plan, name, x), plain, exact)


@pytest.mark.parametrize("make", [mlp, normed])
@pytest.mark.parametrize("executor", ["cpu", "isolated"])
def test_twins_are_traced_once_and_are_as_if_each_had_been(
    make: Callable[[int], nn.Module], executor: str, traces: list[nn.Module]
) -> None:
    models = {f"m{n}": make(n) for n in range(3)}
    plan = fusec.compile(models, examples={"*": X}, executor=executor)
    assert len(traces) == 1
    x = torch.randn(3, 4)
    for name, model in models.items():
        alone = fusec.compile({name: model}, examples={"*": X}, executor=executor)
        own = plan._registry.target(name).member
        assert own == alone._registry.target(name).member
        assert np.array_equal(run(plan, name, x), run(alone, name, x))
        check(plan, name, model, x)


def test_a_class_made_anew_is_traced_anew(traces: list[nn.Module]) -> None:
    fusec.compile({"a": recurrent(0), "b": recurrent(1)}, examples={"*": X})
    assert len(traces) == 2


def test_twins_join_and_replace_later_and_after_the_first_is_gone(traces: list[nn.Module]) -> None:
    plan = fusec.compile({"a": mlp(0)}, examples={"*": X})
    plan.add("b", mlp(1), example=X)
    plan.replace("a", mlp(2), example=X)
    assert len(traces) == 1
    check(plan, "a", mlp(2), X)
    plan.remove("a")
    plan.remove("b")
    plan.add("c", mlp(3), example=X)
    assert len(traces) == 2
    check(plan, "c", mlp(3), X)


def test_other_examples_and_options_are_traced_anew(traces: list[nn.Module]) -> None:
    plan = fusec.compile({"a": mlp(0)}, examples={"*": X})
    plan.add("b", mlp(1), example=X.repeat(2, 1))
    plan.add("c", mlp(1), example=X, batch_axes={"input": 0})
    plan.add("d", mlp(1), example=X, batch_axes={"input": None})
    assert len(traces) == 4


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.5), (0.5, 0.0)])
def test_rows_are_checked_for_each_twin(first: float, second: float) -> None:
    plan = fusec.compile({"a": Mixed(first), "b": Mixed(second)}, examples={"*": X})
    x = torch.randn(3, 4)
    for name, alpha in (("a", first), ("b", second)):
        check(plan, name, Mixed(alpha), x)


def test_a_twin_whose_code_goes_another_way_is_traced(traces: list[nn.Module]) -> None:
    plan = fusec.compile({"a": Switched(0)}, examples={"*": X})
    try:
        SWITCH["on"] = True
        plan.add("b", Switched(1), example=X)
        assert len(traces) == 2
        check(plan, "b", Switched(1), X)
    finally:
        SWITCH["on"] = False
    check(plan, "a", Switched(0), X)


def test_a_twin_that_keeps_state_is_refused() -> None:
    plan = fusec.compile({"a": Counting(0.0)}, examples={"*": X})
    with pytest.raises(fusec.ImportFailed, match="differently when it is called again"):
        plan.add("b", Counting(1.0), example=X)


def test_a_twin_with_damaged_weights_is_refused_as_ever() -> None:
    plan = fusec.compile({"a": mlp(0)}, examples={"*": X})
    bad = mlp(1)
    with torch.no_grad():
        bad[0].weight[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(fusec.ConfigError, match=r"model 'b': weight '0\.weight' holds NaN"):
        plan.add("b", bad, example=X)
    assert set(plan.members) == {"a"}


def test_a_weight_that_breaks_a_guard_is_traced_anew(traces: list[nn.Module]) -> None:
    class Masked(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, x: Tensor) -> Tensor:
            q = x.reshape(-1, 1, 4, 1)
            y = nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=self.mask)
            return y.reshape(-1, 4)

    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    other = causal.clone()
    other[0, 3] = True
    plan = fusec.compile({"a": Masked(causal), "b": Masked(other)}, examples={"*": X})
    assert 1 <= len(traces) <= 2
    for name, mask in (("a", causal), ("b", other)):
        check(plan, name, Masked(mask), X)


def test_tied_twins_stay_apart_from_untied_ones(traces: list[nn.Module]) -> None:
    def pair(tied: bool, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        if tied:
            module[1].weight = module[0].weight
        return module.eval()

    models = {f"m{n}": pair(n % 2 == 1, n) for n in range(4)}
    plan = fusec.compile(models, examples={"*": X})
    assert len(traces) == 2
    for name, model in models.items():
        check(plan, name, model, X)
