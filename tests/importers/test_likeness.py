"""When two modules may share a trace: everything but the values of their weights is equal."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fusec.importers.likeness import likeness, state_of

EXAMPLE = torch.zeros(1, 4)


class Open:
    """An object with attributes only."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


class Slotted:
    """An object with a place of its own for a value."""

    __slots__ = ("__dict__", "x")

    def __init__(self, x: int) -> None:
        self.x = x


class Holder(nn.Module):
    """A layer with an attribute."""

    def __init__(self, value: Any = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives."""
        y: Tensor = self.layer(x)
        return y


class Other(Holder):
    """Another class of the same layers."""


def key(module: nn.Module, inputs: object = EXAMPLE, options: object = None) -> Any:
    """Give the key of a module."""
    return likeness(module, inputs, options)


def plus_one(x: Tensor) -> Tensor:
    return x + 1


SAME: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 3,
    lambda: 0.5,
    lambda: float("nan"),
    lambda: "gelu",
    lambda: [1, (2, 3.0), {"a": {1, 2}}],
    lambda: torch.float16,
    lambda: nn.functional.gelu,
    lambda: functools.partial(plus_one),
    lambda: Open(eps=1e-5, sizes=[1, 2], inner=Open(x=1)),
    lambda: collections.OrderedDict(a=1),
    lambda: np.float32(2),
    lambda: slice(1, None),
    lambda: range(3),
    lambda: plus_one,
    lambda: Holder,
]


@pytest.mark.parametrize("make", SAME)
def test_equal_attributes_make_modules_alike(make: Callable[[], Any]) -> None:
    one, other = key(Holder(make())), key(Holder(make()))
    assert one is not None
    assert one == other
    assert hash(one) == hash(other)


DIFFERENT: list[tuple[Any, Any]] = [
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    (1e-5, 1e-6),
    ("relu", "gelu"),
    ([1], (1,)),
    ({"a": 1}, {"b": 1}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (torch.float16, torch.float32),
    (nn.functional.gelu, nn.functional.relu),
    (lambda x: x, lambda x: x),
    (Open(eps=1), Open(eps=2)),
    (Open(eps=[1]), Open(eps=[2])),
    (Slotted(1), Slotted(1)),
    (iter([1]), iter([1])),
    (functools.partial(plus_one, 1), functools.partial(plus_one, 2)),
    (collections.defaultdict(list), collections.defaultdict(int)),
    (np.float32(1), np.float64(1)),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_attributes_tell_modules_apart(one: Any, other: Any) -> None:
    assert key(Holder(one)) != key(Holder(other))


@pytest.mark.parametrize(
    "value",
    [torch.zeros(1), [torch.zeros(1)], {"a": np.zeros(1)}, Open(x=torch.zeros(2)), [nn.ReLU()]],
)
def test_values_that_steer_a_trace_are_never_alike(value: Any) -> None:
    assert key(Holder(value)) is None


def test_an_attribute_that_holds_itself_is_never_alike() -> None:
    value: list[Any] = []
    value.append(value)
    assert key(Holder(value)) is None


def with_hook() -> nn.Module:
    module = Holder()
    module.layer.register_forward_hook(lambda *_: None)
    return module


def own_forward() -> nn.Module:
    module = Holder()
    module.layer.forward = lambda x: x  # type: ignore[method-assign]
    return module


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    return module


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, layer)


def overlapping() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    memory = torch.zeros(20)
    module[0].weight = nn.Parameter(memory[:16].view(4, 4))
    module[1].weight = nn.Parameter(memory[4:].view(4, 4))
    return module


def transposed() -> nn.Module:
    module = nn.Linear(4, 4)
    module.weight = nn.Parameter(torch.zeros(4, 4).T)
    return module


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Holder, Other),
        (Holder, with_hook),
        (Holder, own_forward),
        (Holder, lambda: Holder().eval()),
        (lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4, bias=False)),
        (lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 5)),
        (lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4).double()),
        (lambda: nn.Linear(4, 4), transposed),
        (lambda: nn.LayerNorm(4), lambda: nn.LayerNorm(4, eps=1e-3)),
        (lambda: nn.Conv1d(1, 1, 1), lambda: nn.Conv1d(1, 1, 1, stride=2)),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), tied),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), shared),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), overlapping),
        (tied, shared),
    ],
)
def test_other_modules_are_told_apart(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module]
) -> None:
    assert key(one()) is not None
    assert key(one()) == key(one())
    assert key(one()) != key(other())


def test_a_class_that_was_changed_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(Holder())
    monkeypatch.setattr(Holder, "forward", lambda self, x: x)
    assert key(Holder()) != before


def test_layers_with_computed_weights_are_told_apart() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    def made() -> nn.Module:
        layer = nn.Linear(4, 4)
        parametrize.register_parametrization(layer, "weight", Twice())
        return layer

    assert key(made()) != key(made())


@pytest.mark.parametrize("make", [lambda: nn.LSTM(4, 4), lambda: nn.TransformerEncoderLayer(4, 1)])
def test_layers_of_torch_are_alike(make: Callable[[], nn.Module]) -> None:
    assert key(make()) is not None
    assert key(make()) == key(make())


def test_inputs_count_by_dtype_and_shape_and_options_by_value() -> None:
    module = Holder()
    assert key(module, torch.zeros(1, 4)) == key(module, torch.ones(1, 4))
    assert key(module, torch.zeros(1, 4)) != key(module, torch.zeros(2, 4))
    assert key(module, torch.zeros(1, 4)) != key(module, torch.zeros(1, 4).double())
    assert key(module, (EXAMPLE, 1)) != key(module, (EXAMPLE, 2))
    assert key(module, options={"x": 0}) != key(module, options={"x": 1})


def test_state_has_tied_weights_under_each_name() -> None:
    assert set(state_of(tied())) == {"0.weight", "0.bias", "1.weight", "1.bias"}
