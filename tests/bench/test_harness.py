"""The benchmark harness: fair turns, failing peers become rows, every bench runs its smoke case."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path.name for path in (ROOT / "bench").glob("merge_*.py"))


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Import the harness as the benches do, with their folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import harness

    return harness


def test_everybody_gets_the_same_number_of_turns_and_every_place(harness) -> None:  # type: ignore[no-untyped-def]
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    ticks = iter(range(0, 10**9, 10**6))
    samples = harness.measure(runs, seconds=0.05, warmup=2, clock=lambda: next(ticks))
    timed = calls[6:]
    assert calls[:6] == list("abcabc")
    assert len({len(values) for values in samples.values()}) == 1
    assert timed[:9] == list("abcbcacab")
    assert all(value == 10**6 for values in samples.values() for value in values)


def test_quantiles_are_microseconds(harness) -> None:  # type: ignore[no-untyped-def]
    assert harness.quantiles([n * 1000 for n in range(101)]) == (20.0, 50.0, 80.0)


def test_a_failing_peer_is_a_row_with_its_reason(harness) -> None:  # type: ignore[no-untyped-def]
    def broken() -> Callable[[], object]:
        raise RuntimeError("cannot do this\nmore")

    def answers(result: object) -> object:
        return {"a": np.asarray(result)}

    good = harness.Impl(lambda: lambda: np.array([1.5], dtype=np.float32), answers)
    setup = harness.Setup(
        impls={"good": good, "bad": harness.Impl(broken, answers)}, truth={"a": np.array([1.25])}
    )
    rows = harness.run_case("b", "c", setup, seconds=0.01, threads=1)
    found = {(row.impl, row.metric): row for row in rows}
    assert found["good", "run"].difference == 0.25
    assert found["good", "run"].n >= 3
    assert found["bad", "run"].p50 is None
    assert found["bad", "run"].note == "RuntimeError: cannot do this"


def test_a_missing_member_is_no_answer(harness) -> None:  # type: ignore[no-untyped-def]
    assert np.isnan(harness.largest_difference({}, {"a": np.zeros(1)}))


def test_there_are_benches() -> None:
    assert len(BENCHES) >= 2


@pytest.mark.parametrize("name", BENCHES)
def test_smoke(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every implementation of the smallest case runs and agrees with float64."""
    if name == "merge_wakewords.py":
        request.getfixturevalue("shared")
    out = tmp_path / "rows.jsonl"
    call = [sys.executable, str(ROOT / "bench" / name), "--smoke", "--out", str(out)]
    run = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    timed = [row for row in rows if row["metric"] == "run"]
    assert {"torch", "torch.func", "onnxruntime", "fusec isolated", "fusec merged"} <= {
        row["impl"] for row in timed
    }
    assert [row["note"] for row in timed if row["note"]] == []
    assert all(row["difference"] < 1e-4 for row in timed)
    assert all(row["commit"] is not None and row["p20"] <= row["p80"] for row in timed)
    report = [sys.executable, str(ROOT / "bench" / "report.py"), str(out)]
    text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    assert text.startswith("| case | threads | torch |")
    assert "**" in text
