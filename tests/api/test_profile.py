"""Profiles and timelines of plans: measured, stored, read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec.profile import Profile


def _models() -> dict[str, nn.Module]:
    return {n: nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.LayerNorm(20)).eval() for n in "ab"}


def _plan(executor: str = "cpu") -> fusec.Plan:
    return fusec.compile(
        _models(), examples={"*": torch.randn(1, 12)}, executor=executor, threads=1
    )


def test_a_profile_covers_every_stage_and_comes_back_from_the_file(tmp_path: Path) -> None:
    plan = _plan()
    assert plan.costs() is None
    measured = plan.profile(seconds=0.01)
    (template,) = measured.templates.values()
    assert template.instances == 2
    done = [op for stage in template.stages for op in stage.computes]
    assert {"aten.linear.default", "aten.relu.default", "aten.layer_norm.default"} <= set(done)
    assert all(stage.measured_ns > 0 and stage.moved_bytes > 0 for stage in template.stages)
    plan.save(tmp_path / "p.fusec")
    assert fusec.load(tmp_path / "p.fusec").costs() == measured
    assert "layer_norm" in str(measured)


class Mixed(nn.Module):
    """A recurrent layer of native code and an operator without any."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)[0]
        return torch.linalg.det(y @ y.transpose(1, 2))


def test_a_table_says_what_pytorch_takes_and_names_operators() -> None:
    example = {"*": torch.randn(1, 3, 4)}
    measured = fusec.compile({"m": Mixed()}, examples=example, executor="cpu").profile(seconds=0.01)
    (template,) = measured.templates.values()
    total = sum(s.measured_ns for s in template.stages)
    (extern,) = (s.measured_ns for s in template.stages if s.operation == "extern")
    text = str(measured)
    assert f"{extern / total:.1%} of the time, in 1 stage without native code" in text
    assert "  rnn\n" in text
    assert "fusec" not in text
    assert "PyTorch" not in str(_plan().profile(seconds=0.01))


def test_symbols_get_extents_that_fit() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU())
    plan = fusec.compile(
        {"m": model},
        examples={"*": torch.randn(1, 2, 30)},
        symbols={"m": {"input": {2: ("n", 5, 40)}}},
        executor="cpu",
    )
    for template in plan.profile(seconds=0.01).templates.values():
        assert all(5 <= v <= 40 for v in template.extents.values())


@pytest.fixture(scope="module")
def measured() -> str:
    return json.dumps(_plan().profile(seconds=0.01).to_json())


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("machine"),
        lambda d: d["machine"].update(threads="one"),
        lambda d: d["machine"].update(more=1),
        lambda d: d.update(templates=[]),
        lambda d: next(iter(d["templates"].values()))["stages"][0].update(flops=True),
        lambda d: next(iter(d["templates"].values()))["stages"].append(3),
    ],
    ids=["missing", "kind", "unknown", "list", "bool", "number"],
)
def test_what_is_no_profile_is_refused(damage: object, measured: str) -> None:
    assert Profile.from_json(json.loads(measured)) == Profile.from_json(json.loads(measured))
    data = json.loads(measured)
    damage(data)  # type: ignore[operator]
    with pytest.raises(fusec.ArtifactError, match="measure it again"):
        Profile.from_json(data)


def test_a_timeline_has_every_task_on_a_worker(tmp_path: Path) -> None:
    plan = _plan()
    requests = {n: np.random.default_rng(0).random((3, 12), np.float32) for n in "ab"}
    wanted = plan.run(requests)
    got = plan.trace(requests, tmp_path / "t.json")
    assert all(np.array_equal(got[n]["output"], wanted[n]["output"]) for n in "ab")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    tasks = [e for e in events if e["ph"] == "X"]
    assert {e["name"] for e in tasks} >= {"gemm", "norm"}
    assert all(e["ts"] >= 0 and e["dur"] >= 0 and isinstance(e["pid"], int) for e in tasks)
    tracks = {e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert tracks == {e["tid"] for e in tasks} == {0}


@pytest.mark.parametrize("where", ["none/t.json", "."])
def test_a_timeline_that_cannot_be_written_is_told_before_anything_runs(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan()
    monkeypatch.setattr(type(plan._runner), "trace", lambda *_: pytest.fail("it ran"))
    with pytest.raises(fusec.ConfigError, match=r"folder|regular file"):
        plan.trace({"a": np.zeros((1, 12), np.float32)}, tmp_path / where)


def test_only_native_plans_are_measured(tmp_path: Path) -> None:
    plan = _plan("isolated")
    with pytest.raises(fusec.UnsupportedError, match="isolated"):
        plan.profile()
    with pytest.raises(fusec.UnsupportedError, match="isolated"):
        plan.trace({}, tmp_path / "t.json")
