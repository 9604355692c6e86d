"""Plans that run on a card: loaded so, moved there, edited and served; and where there is none.

The card is made up; kernels run in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fusec_testing.grouped import interpreter
from torch import nn

import fusec
from fusec.runtime.cuda.executor import CudaExecutor
from fusec.runtime.native import ThroughNative

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_code import build  # noqa: E402
from fusec_testing.card_runs import head  # noqa: E402

X = np.zeros((1, 24), np.float32)
NAMES = [f"m{i}" for i in range(3)]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[ComputingCard]:
    from fusec.runtime.cuda import executor
    from fusec.runtime.cuda.library import Driver

    fake = ComputingCard(seed=11)
    monkeypatch.setattr(executor, "load_driver", lambda: Driver(fake))
    monkeypatch.setattr(executor, "compile_jobs", build)
    yield fake
    assert fake.faults == []


def heads(executor: str | None = None) -> fusec.Plan:
    models = {name: head(i) for i, name in enumerate(NAMES)}
    return fusec.compile(models, examples={"*": X}, executor=executor)


def executor_of(plan: fusec.Plan) -> CudaExecutor:
    runner = plan.inside()[2]
    assert isinstance(runner, ThroughNative) and isinstance(runner.executor, CudaExecutor)
    return runner.executor


def agree(plan: fusec.Plan, other: fusec.Plan, given: dict[str, np.ndarray]) -> None:
    got, wanted = plan.run(given), other.run(given)
    assert got.keys() == wanted.keys()
    for name, outputs in wanted.items():
        for label, array in outputs.items():
            np.testing.assert_allclose(got[name][label], array, rtol=2e-5, atol=2e-5)


def test_a_plan_moves_to_a_card(card: ComputingCard, rng: np.random.Generator) -> None:
    plan = heads()
    moved = plan.to("cuda", fusec.CudaSettings(lanes=1))
    assert moved.executor == "cuda"
    assert plan.executor == "cpu"
    for n in (1, 3, 3):  # the last as one that came before
        given = {name: rng.standard_normal((n, 24), dtype=np.float32) for name in NAMES}
        agree(moved, plan, given)
    tensors = moved.run({"m1": torch.ones(2, 24)})
    assert torch.is_tensor(tensors["m1"]["output"])
    assert moved.run({"m0": X[:0]})["m0"]["output"].shape == (0, 10)
    executor_of(moved).close()
    assert card.kinds() == []


def test_a_plan_is_edited_while_it_is_on_a_card(
    card: ComputingCard, rng: np.random.Generator
) -> None:
    plan, moved = heads(), heads("cuda")
    given = {name: rng.standard_normal((2, 24), dtype=np.float32) for name in NAMES}
    for _ in range(2):
        agree(moved, plan, given)
    other = nn.Sequential(nn.Linear(24, 9), nn.Tanh()).eval()
    for one in (plan, moved):
        one.replace("m1", head(77).state_dict(), like="m0")
        one.add("other", other, example=X)
        one.remove("m2")
    edited = {"m0": given["m0"], "m1": given["m1"], "other": given["m2"]}
    for _ in range(2):
        agree(moved, plan, edited)
    executor_of(moved).close()
    assert card.kinds() == []


def test_a_file_says_that_a_plan_runs_on_a_card(
    card: ComputingCard, tmp_path: Path, rng: np.random.Generator
) -> None:
    plan = heads("cuda")
    plan.save(tmp_path / "p.fusec")
    loaded = fusec.load(tmp_path / "p.fusec")
    assert loaded.executor == "cuda"
    given = {name: rng.standard_normal((1, 24), dtype=np.float32) for name in NAMES}
    agree(loaded, fusec.load(tmp_path / "p.fusec", executor="cpu"), given)
    assert "card" in str(loaded.explain())
    with pytest.raises(fusec.UnsupportedError, match="only the native executor"):
        loaded.profile()
    executor_of(loaded).close()


def test_a_runtime_serves_a_plan_on_a_card_with_lanes(
    card: ComputingCard, rng: np.random.Generator
) -> None:
    plan, moved = heads(), heads("cuda")
    with fusec.Runtime(moved, lanes=2, measure_s=0.01) as runtime:
        given = {n: rng.standard_normal((2, 24), dtype=np.float32) for n in NAMES}
        futures = [runtime.submit_many(given) for _ in range(3)]
        wanted = plan.run(given)
        for tick in futures:
            for name, future in tick.items():
                np.testing.assert_allclose(
                    future.result(60)["output"], wanted[name]["output"], rtol=2e-5, atol=2e-5
                )
    executor_of(moved).close()
    assert card.kinds() == []


def test_a_machine_without_a_card_says_so_and_can_still_look(tmp_path: Path) -> None:
    plan = heads("cuda")
    plan.save(tmp_path / "p.fusec")
    assert len(fusec.load(tmp_path / "p.fusec").explain().groups) == 1
    try:
        plan.warm()
    except fusec.UnsupportedError as e:
        assert "no NVIDIA driver on this machine" in str(e)
        with pytest.raises(fusec.UnsupportedError, match="no NVIDIA driver"):
            plan.run({"m0": X})
        with pytest.raises(fusec.UnsupportedError, match="no NVIDIA driver"):
            heads().to("cuda")
    with pytest.raises(fusec.ConfigError, match="lanes is 0"):
        heads().to("cuda", fusec.CudaSettings(lanes=0))
