"""Half-width models on a card: what PyTorch gives at that width, or nearer the truth."""

from __future__ import annotations

import copy

import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import interpreter
from torch import nn

import fusec

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_runs import on_card  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_width_models_run(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    models = {
        f"m{i}": nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 7))
        .to(dtype)
        .eval()
        for i in range(3)
    }
    x = torch.randn(2, 24).to(dtype)
    plan = fusec.compile(models, examples={"*": x}, executor="cuda")
    world = on_card(plan, fake=ComputingCard(seed=2))
    given: dict[str, object] = dict.fromkeys(models, x)
    answers = world.run(given)
    alone = {name: world.run({name: x})[name] for name in models}
    world.close()
    for name, model in models.items():
        with torch.no_grad():
            plain, truth = model(x), copy.deepcopy(model).double()(x.double())
        (got,) = answers[name]
        assert got.tobytes() == alone[name][0].tobytes()
        kept = torch.from_numpy(got).view(dtype)
        assert_no_worse(_widened(kept), _widened(plain), truth)


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float16 else x.float()
