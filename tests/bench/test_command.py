"""``fusec bench``: what it runs, and what it says where it cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fusec.cli import app
from fusec.cli.bench_command import NAMED, find_benches
from fusec.ir.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def fusec(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="fusec")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keep what is started, and start nothing."""
    made: list[list[str]] = []

    def run(call: list[str]) -> subprocess.CompletedProcess[str]:
        made.append([Path(call[1]).name, *call[2:]])
        return subprocess.CompletedProcess(call, 3 if "bad" in call else 0)

    monkeypatch.setattr("fusec.cli.bench_command.subprocess.run", run)
    return made


def test_all_benches_run_and_the_report_follows(calls: list[list[str]]) -> None:
    assert fusec("bench").exit_code == 0
    files = sorted(path.name for path in (ROOT / "bench").glob("cpu_*.py"))
    assert calls == [[name] for name in [*files, "report.py"]]
    assert len(files) >= 8


def test_cases_and_options_reach_the_benches(calls: list[list[str]]) -> None:
    result = fusec("bench", "fleets/mlp", "fleets/cnn", "sweep", "--quick", "--threads", 2)
    assert result.exit_code == 0, result.output
    options = ["--quick", "--threads", "2", "--seconds", "2.0"]
    assert calls == [
        ["cpu_fleets.py", *options, "--case", "mlp", "--case", "cnn"],
        ["cpu_sweep.py", *options],
        ["report.py"],
    ]


def test_benches_of_serving_run_if_they_are_named(calls: list[list[str]]) -> None:
    assert fusec("bench", "serve_live/signal", "--seconds", 1).exit_code == 0
    assert calls[0] == ["serve_live.py", "--seconds", "1.0", "--case", "signal"]
    assert all((ROOT / "bench" / f"{name}.py").is_file() for name in NAMED)


def test_json_comes_from_the_report(calls: list[list[str]]) -> None:
    assert fusec("bench", "fleets", "--json").exit_code == 0
    assert calls == [["cpu_fleets.py"], ["report.py", "--json"]]


def test_a_bench_that_stops_is_told_after_the_report(calls: list[list[str]]) -> None:
    result = fusec("bench", "fleets/bad", "--seconds", 0.5)
    assert result.exit_code == 1
    assert "stopped before their end: fleets" in result.stderr
    assert calls[-1] == ["report.py"]


def test_an_unknown_bench_is_refused(calls: list[list[str]]) -> None:
    result = fusec("bench", "fleet/mlp")
    assert result.exit_code == 1
    assert "no bench 'fleet'" in result.stderr
    assert "fleets" in result.stderr
    assert calls == []


def test_a_whole_bench_beats_its_cases(calls: list[list[str]]) -> None:
    fusec("bench", "sweep/mlp, 1 members", "sweep", "sweep/mlp, 2 members")
    assert calls[0] == ["cpu_sweep.py"]


def test_an_installed_package_has_no_benches(tmp_path: Path) -> None:
    (tmp_path / "fusec").mkdir()
    with pytest.raises(ConfigError, match="not in the wheel; get a checkout"):
        find_benches(tmp_path / "fusec" / "__init__.py")
