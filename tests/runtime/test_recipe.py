"""Raw weights to packed weights: names, shapes, ties and guards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusec_testing.programs import packed
from torch import nn

from fusec.ir.errors import ConfigError
from fusec.ir.template import Body, Guard, Predicate, Recipe, Ref, TensorSpec
from fusec.runtime.recipe import apply_recipe


def _recipe() -> tuple[nn.Module, Recipe]:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return module.eval(), packed(module, torch.zeros(1, 4))[1]


def test_a_whole_state_dict_is_taken_with_what_has_no_effect() -> None:
    module, recipe = _recipe()
    assert "1.num_batches_tracked" in module.state_dict()
    apply_recipe(recipe, module.state_dict())


def test_a_missing_weight_is_named() -> None:
    module, recipe = _recipe()
    state = {k: v for k, v in module.state_dict().items() if k != "0.bias"}
    with pytest.raises(ConfigError, match=r"weight '0\.bias' is missing; give float32\[4\]"):
        apply_recipe(recipe, state)


def test_an_unexpected_weight_is_named() -> None:
    module, recipe = _recipe()
    with pytest.raises(ConfigError, match="unexpected weights 'extra'"):
        apply_recipe(recipe, {**module.state_dict(), "extra": torch.zeros(1)})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(4, dtype=torch.float64), r"float64\[4\], this form has float32\[4\]"),
        (torch.zeros(5), r"float32\[5\], this form has float32\[4\]"),
    ],
)
def test_another_dtype_or_shape_is_refused(value: torch.Tensor, text: str) -> None:
    module, recipe = _recipe()
    with pytest.raises(ConfigError, match=text):
        apply_recipe(recipe, {**module.state_dict(), "0.bias": value})


def test_tied_weights_must_be_equal_when_both_are_given() -> None:
    recipe = replace(_one(Predicate.EQUALS, 1.0), aliases=(("other", "w"),))
    one = torch.ones(2, 2)
    apply_recipe(recipe, {"w": one, "other": one.clone()})
    apply_recipe(recipe, {"other": one})
    with pytest.raises(ConfigError, match="'other' and 'w' are tied"):
        apply_recipe(recipe, {"w": one, "other": one * 2})


def _one(predicate: Predicate, operand: float | None, dtype: str = "float32") -> Recipe:
    spec = TensorSpec(dtype, (2, 2))
    guard = Guard(predicate=predicate, operand=operand, text=f"weight 'w' is {predicate}")
    return Recipe(
        names=("w",),
        aliases=(),
        unused=(),
        body=Body(arguments=(spec,), rows=(), results=(Ref(0),)),
        guards=(guard,),
    )


LOWEST = torch.finfo(torch.float32).min


@pytest.mark.parametrize(
    ("recipe", "good", "bad"),
    [
        (_one(Predicate.EQUALS, 0.1), torch.full((2, 2), 0.1), torch.full((2, 2), 0.2)),
        (
            _one(Predicate.CAUSAL_MASK, None),
            torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]),
            torch.tensor([[0.0, -1.0], [0.0, 0.0]]),
        ),
        (
            _one(Predicate.CAUSAL_MASK, None),
            torch.tensor([[0.0, LOWEST], [0.0, 0.0]]),
            torch.tensor([[0.0, LOWEST], [0.5, 0.0]]),
        ),
        (
            _one(Predicate.CAUSAL_MASK, None, "bool"),
            torch.tensor([[True, False], [True, True]]),
            torch.tensor([[True, False], [False, True]]),
        ),
        (
            _one(Predicate.IDENTITY_ORDER, None, "int64"),
            torch.tensor([[0, 1], [2, 3]]),
            torch.tensor([[0, 1], [3, 2]]),
        ),
    ],
)
def test_each_guard_holds_and_breaks(recipe: Recipe, good: torch.Tensor, bad: torch.Tensor) -> None:
    assert apply_recipe(recipe, {"w": good}) == ()
    with pytest.raises(ConfigError, match=f"relies on: weight 'w' is {recipe.guards[0].predicate}"):
        apply_recipe(recipe, {"w": bad})
