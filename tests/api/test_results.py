"""What run hands out: outputs without rows, and memory that is the caller's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import fusec
from fusec.plan import Plan

X = torch.ones(1, 2)
MODES = ["isolated", "merged"]


class Several(nn.Module):
    """Outputs with rows, without rows, the same twice, and views of weights and inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.table = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return them all."""
        y = self.linear(x)
        return y, self.table, self.table.t(), torch.arange(3), y, y[:, :1].expand(-1, 5), x


def _plan(executor: str) -> tuple[Plan, dict[str, nn.Module]]:
    models: dict[str, nn.Module] = {n: Several().eval() for n in ("a", "b", "c")}
    return fusec.compile(models, examples={"*": torch.zeros(2, 4)}, executor=executor), models


def _agree(plan: Plan, models: dict[str, nn.Module], rows: int) -> dict[str, list[torch.Tensor]]:
    x = torch.arange(4.0 * rows).reshape(rows, 4)
    answers = {n: list(a.values()) for n, a in plan.run(dict.fromkeys(models, x)).items()}
    for n, model in models.items():
        with torch.no_grad():
            for got, want in zip(answers[n], model(x), strict=True):
                assert got.dtype == want.dtype
                torch.testing.assert_close(got, want)
    return answers


@pytest.mark.parametrize("executor", MODES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_outputs_without_rows_come_once(executor: str, rows: int) -> None:
    plan, models = _plan(executor)
    _agree(plan, models, rows)


@pytest.mark.parametrize("executor", MODES)
def test_writing_to_one_result_changes_nothing_else(executor: str) -> None:
    plan, models = _plan(executor)
    for n, outputs in _agree(plan, models, 1).items():
        for i, output in enumerate(outputs):
            others = [t.clone() for t in outputs]
            output += 1
            assert all(
                torch.equal(t, other)
                for j, (t, other) in enumerate(zip(outputs, others, strict=True))
                if j != i
            ), (n, i)
    _agree(plan, models, 1)


@pytest.mark.parametrize("executor", MODES)
@pytest.mark.parametrize("filler", [torch.nan, torch.inf, -torch.inf])
def test_a_filler_that_is_no_number_is_no_damage(
    executor: str, filler: float, tmp_path: Path
) -> None:
    class Fill(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, torch.tensor(filler))

    fusec.compile({n: Fill() for n in "ab"}, examples={"*": X}).save(tmp_path / "fill.fusec")
    plan = fusec.load(tmp_path / "fill.fusec", executor=executor)
    x = torch.tensor([[1.0, -1.0]])
    for answer in plan.run({"a": x, "b": x}).values():
        torch.testing.assert_close(answer["output"], Fill()(x), equal_nan=True)


@pytest.mark.parametrize("executor", MODES)
def test_modes_of_the_caller_do_not_reach_the_models(executor: str) -> None:
    models = {n: nn.Linear(2, 2).eval() for n in "ab"}
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        plan = fusec.compile(models, examples={"*": torch.ones(1, 2)}, executor=executor)
        first = plan.run({"a": X, "b": X})
    again = plan.run({"a": X, "b": X})
    for n in models:
        assert again[n]["output"].dtype == torch.float32
        assert torch.equal(first[n]["output"], again[n]["output"])
