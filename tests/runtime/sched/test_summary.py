"""Figures of a run, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fusec_testing.sched import MS, ask, costs, drive

from fusec.ir.errors import ArtifactError, ConfigError
from fusec.runtime.sched.log import log_lines, read_log
from fusec.runtime.summary import quantile, summarise

PROFILE = costs({"short": [1], "long": [5, 5, 5]}, cut=0.5)


def test_figures_of_a_small_run() -> None:
    requests = [
        ask(0, "long", tenant="a"),
        ask(1, "short", 6, tenant="b"),
        ask(2, "short", 16, deadline=0.2, tenant="b"),
    ]
    run = drive("split", PROFILE, requests)
    found = summarise(run, PROFILE)
    assert [g.name for g in found.models] == ["long", "short"]
    assert [g.requests for g in found.tenants] == [1, 2]
    long, short = found.models
    assert (long.p50_ns, long.attainment) == (16.5 * MS, 1.0)
    assert (short.expired, short.answered, short.attainment) == (1, 1, 0.0)
    assert short.p99_ns == 5 * MS
    assert short.over_4 == 1.0
    assert found.preemptions == 1
    assert found.utilisation == 1.0
    assert found.overhead == pytest.approx(0.5 / 16.5)
    assert found.total.goodput_per_s == pytest.approx(1 / 0.0165)
    assert found.seconds == 0.0165


def test_an_empty_run_has_figures_too() -> None:
    found = summarise(drive("fifo", PROFILE, []), PROFILE)
    assert (found.total.requests, found.total.p50_ns) == (0, None)


def test_quantiles_are_values_that_occurred() -> None:
    values = list(range(1, 1001))
    assert [quantile(values, q) for q in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert quantile([7], 0.5) == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [], "empty"),
        (lambda lines: ["{}", *lines[1:]], "line 1: wanted a decision log of version 1"),
        (lambda lines: ["[1]"], "line 1"),
        (lambda lines: [lines[0], lines[1][:-5]], "line 2"),
        (lambda lines: [lines[0], lines[1].replace("Decision", "Other")], "line 2: unknown record"),
        (lambda lines: [lines[0], lines[1].replace("at_ns", "at")], "line 2"),
        (lambda lines: [lines[0], "3"], "line 2: wanted a decision"),
    ],
)
def test_a_damaged_log_is_refused_with_its_line(change: object, words: str, tmp_path: Path) -> None:
    assert callable(change)
    run = drive("fifo", PROFILE, [ask(0, "short")])
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(change(list(log_lines("fifo", PROFILE, run.decisions)))))
    with pytest.raises(ArtifactError, match=words):
        read_log(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_log(tmp_path / "none")
