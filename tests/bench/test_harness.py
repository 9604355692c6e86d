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
BENCHES = sorted(path.name for path in (ROOT / "bench").glob("cpu_*.py"))


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Import the harness as the benches do, with their folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    for name in ("harness", "where"):
        monkeypatch.delitem(sys.modules, name, raising=False)
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


def test_the_first_call_of_a_burst_is_not_timed(harness) -> None:  # type: ignore[no-untyped-def]
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    samples = harness.measure(runs, seconds=0.0, warmup=0, burst=3, least=2)
    assert "".join(calls) == "aaabbbbbbaaa"
    assert {name: len(values) for name, values in samples.items()} == {"a": 4, "b": 4}


def test_a_run_that_says_what_it_took_is_believed(harness) -> None:  # type: ignore[no-untyped-def]
    samples = harness.measure({"a": lambda: harness.Took(7)}, seconds=0.0)
    assert samples["a"] == [7, 7, 7]


def test_one_sample_has_quantiles(harness) -> None:  # type: ignore[no-untyped-def]
    assert harness.quantiles([2000]) == (2.0, 2.0, 2.0)


def test_figures_become_rows_even_if_they_fail(harness) -> None:  # type: ignore[no-untyped-def]
    figures = (
        harness.Figure("x", "memory", "MB", lambda: 3.5),
        harness.Figure("y", "memory", "MB", lambda: 1 // 0),
    )
    setup = harness.Setup(impls={}, truth={}, figures=figures, axis={"members": 2})
    good, bad = harness.run_case("b", "c", setup, seconds=0.0, threads=1)
    assert (good.p50, good.unit, good.axis) == (3.5, "MB", {"members": 2})
    assert (bad.p50, bad.note.split(":")[0]) == (None, "ZeroDivisionError")


def test_machine_classes_are_file_names(harness) -> None:  # type: ignore[no-untyped-def]
    import where

    assert where.machine_class("AMD EPYC", 2) == "amd-epyc-2-cores"
    name = where.machine_class("Intel(R) Xeon(R) CPU @ 2.20GHz", 8)
    assert name == "intel-r-xeon-r-cpu-2-20ghz-8-cores"


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
    assert found["bad", "run"].note == "RuntimeError: cannot do this more"


def test_a_missing_member_is_no_answer(harness) -> None:  # type: ignore[no-untyped-def]
    assert np.isnan(harness.largest_difference({}, {"a": np.zeros(1)}))


def test_there_are_benches() -> None:
    assert len(BENCHES) >= 2


@pytest.mark.parametrize("name", BENCHES)
def test_smoke(name: str, tmp_path: Path) -> None:
    """Every implementation of the smallest case runs and agrees with float64."""
    out = tmp_path / "rows.jsonl"
    call = [sys.executable, str(ROOT / "bench" / name), "--smoke", "--out", str(out)]
    run = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    timed = [row for row in rows if row["metric"] == "run"]
    assert any(row["impl"].startswith("fusec") for row in timed)
    missing = "ModuleNotFoundError"  # of a peer that is not installed, the only fault allowed
    failed = [row for row in rows if row["p50"] is None]
    assert [row["note"] for row in failed if not row["note"].startswith(missing)] == []
    done = [row for row in timed if row["p50"] is not None]
    assert all(row["difference"] is None or row["difference"] < 1e-3 for row in done)
    assert all(row["commit"] is not None and row["p20"] <= row["p80"] for row in done)


def test_traffic_reaches_every_server_and_all_answers_come_back(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    call = [sys.executable, str(ROOT / "bench" / "serve_traffic.py"), "--smoke"]
    run = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if "/s  " in line]
    assert len(lines) >= 3
    assert any("fusec slack" in line for line in lines)
    assert all("p99 inf" not in line for line in lines)
