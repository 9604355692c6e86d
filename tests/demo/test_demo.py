"""The demo as a whole, with fewer tenants: groups, answers and what the command prints."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import fusec
from fusec.cli.demo_command import demo, show
from fusec.demo.report import DemoReport
from fusec.demo.run import run_demo


@pytest.fixture(scope="module")
def report() -> DemoReport:
    """One demo for all tests: eight tenants cover both architectures, forms and kinds of task."""
    return run_demo(tenants=8, epochs=4, timing_s=0.05)


def test_forms_meet_in_one_group_per_architecture_and_number_of_labels(report: DemoReport) -> None:
    kinds = {t.name: (t.architecture, t.task.startswith("turned")) for t in report.tenants}
    groups = [{kinds[name] for name in group.members} for group in report.groups]
    assert sorted(len(group) for group in groups) == [1, 1, 1, 1]
    assert {tenant.form for tenant in report.tenants} == {"module", "onnx"}
    assert report.refusals


def test_plan_answers_as_the_originals(report: DemoReport) -> None:
    assert report.agrees
    assert report.largest_difference < 1e-4
    assert report.largest_difference_torch < 1e-4
    for tenant in report.tenants:
        assert tenant.accuracy_plan == tenant.accuracy_original > 0.5
        assert tenant.images > 200


def test_everything_is_measured(report: DemoReport) -> None:
    assert {timing.name.split(",")[0] for timing in report.timings} == {
        "PyTorch",
        "ONNX Runtime",
        "fusec",
        "fusec through PyTorch",
    }
    assert report.timings[0].name == "fusec"
    assert all(0 < t.p20_us <= t.p50_us <= t.p80_us for t in report.timings)
    assert {"train", "compile", "build", "save", "load", "check"} <= set(report.seconds)
    assert report.plan_bytes > 10_000


def test_the_report_is_readable_and_complete_as_text(report: DemoReport) -> None:
    text = io.StringIO()
    show(report, Console(file=text, width=120))
    words = ("Groups", "Tenants", "ONNX Runtime", "Largest difference", "apart because of weight")
    for word in (*words, *(tenant.name for tenant in report.tenants)):
        assert word in text.getvalue()


def test_the_command_prints_pure_json_and_keeps_the_plan(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(demo)
    folder = tmp_path / "new"
    arguments = ["--tenants", "4", "--epochs", "1", "--json", "--output", str(folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["agrees"] is True
    assert len(fusec.load(folder / "demo.fusec").explain().groups) == 4


def test_a_plan_that_answers_otherwise_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenants' weights exchanged: the labels differ and the command says so by its status."""
    import fusec.demo.run as run

    def exchanged(*arguments: object, **options: object) -> object:
        plan = fusec.load(*arguments, **options)  # type: ignore[arg-type]

        class Exchanged:
            explain = staticmethod(plan.explain)
            warm = staticmethod(plan.warm)

            @staticmethod
            def run(requests: dict[str, object]) -> dict[str, object]:
                other = {"tenant00": "tenant04", "tenant04": "tenant00"}
                answers = plan.run({other.get(k, k): v for k, v in requests.items()})
                return {other.get(k, k): v for k, v in answers.items()}

        return Exchanged()

    class Api:
        compile = staticmethod(fusec.compile)
        load = staticmethod(exchanged)

    monkeypatch.setattr(run, "fusec", Api)
    app = typer.Typer()
    app.command()(demo)
    result = CliRunner().invoke(app, ["--tenants", "9", "--epochs", "1", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["agrees"] is False
