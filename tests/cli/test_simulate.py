"""`fusec simulate` and `fusec replay` as a person calls them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner, Result

import fusec
from fusec.cli.app import app
from fusec.simulation.noise import _above

PROFILE = {
    "templates": {
        "t": {"blocks_ns": {"1": [2_000_000, 2_000_000], "8": [4_000_000, 4_000_000]}},
        "u": {"blocks_ns": {"1": [500_000]}, "cut_ns": 1000},
    },
    "models": {"cat": "t", "dog": "t", "<b>": "u"},
}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "prof.json"
    path.write_text(json.dumps(PROFILE))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_table_for_people(profile: Path) -> None:
    result = call(
        "simulate", "--profile", profile, "--arrivals", "poisson:200", "-n", 300, "--tenants", 2
    )
    assert result.exit_code == 0, result.output
    for word in ("attainment", "goodput", "utilisation", "preemptions", "p99.9", "cat", "tenant1"):
        assert word in result.stdout


def test_json_is_the_same_for_the_same_seed(profile: Path) -> None:
    def figures(seed: int) -> Any:
        result = call(
            "simulate",
            "--profile",
            profile,
            "--arrivals",
            "gamma:300:2",
            "-n",
            400,
            "--seed",
            seed,
            "--devices",
            2,
            "--deadline-ms",
            30,
            "--json",
        )
        return json.loads(result.stdout)

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)
    assert figures(1)["total"]["requests"] == 400
    assert figures(1)["lanes"] == 2


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.outside += [str(v) for k, v in attrs if k in {"src", "href"} or "//" in str(v)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("requests", [1, 500])
def test_the_page_is_whole_and_needs_nothing_from_outside(
    requests: int, profile: Path, tmp_path: Path
) -> None:
    html = tmp_path / "r.html"
    result = call(
        "simulate",
        "--profile",
        profile,
        "--arrivals",
        "poisson:500",
        "-n",
        requests,
        "--devices",
        2,
        "--tenants",
        2,
        "--html",
        html,
    )
    assert result.exit_code == 0, result.output
    page = _Page()
    page.feed(html.read_text())
    page.close()
    assert page.open == []
    assert page.outside == []
    assert {"svg", "rect", "path", "table"} <= page.tags
    assert not {"script", "link", "img"} & page.tags
    text = " ".join(page.text)
    for word in ("Latency", "Attainment over time", "lane 1", "p99.9"):
        assert word in text


def test_a_models_name_is_text_on_the_page(profile: Path, tmp_path: Path) -> None:
    html = tmp_path / "r.html"
    call("simulate", "--profile", profile, "--arrivals", "poisson:500", "-n", 50, "--html", html)
    assert "&lt;b&gt;" in html.read_text()
    assert "<b>" not in html.read_text()


def test_a_log_replays_and_another_policy_differs(profile: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    call(
        "simulate",
        "--profile",
        profile,
        "--arrivals",
        "poisson:400",
        "-n",
        300,
        "--log",
        log,
        "--policy",
        "fair:slack",
        "--retreat-us",
        100,
        "--deadline-ms",
        20,
        "--memory-mb",
        1,
    )
    same = call("replay", log)
    assert same.exit_code == 0, same.output
    assert "all the same" in same.stdout
    other = call("replay", log, "--policy", "fifo")
    assert other.exit_code == 1
    assert "logged" in other.stdout
    told = json.loads(call("replay", log, "--policy", "fifo", "--json").stdout)
    assert told["difference"]["sequence"] >= 0


def test_a_trace(profile: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("at_ms,model\n0,cat\n1,dog\n1.5,<b>\n")
    result = call("simulate", "--profile", profile, "--trace", trace, "--json")
    assert json.loads(result.stdout)["total"]["answered"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--arrivals", "poisson:5"), "give either --plan, --profile or --served"),
        (("--profile", "PROFILE"), "give either --trace or --arrivals"),
        (("--profile", "PROFILE", "--arrivals", "often"), "wanted poisson:RATE"),
        (("--profile", "PROFILE", "--arrivals", "poisson:5", "--policy", "x"), "no policy 'x'"),
        (("--profile", "nowhere.json", "--arrivals", "poisson:5"), "cannot be read"),
    ],
)
def test_errors_are_for_people(arguments: tuple[str, ...], words: str, profile: Path) -> None:
    given = [str(profile) if a == "PROFILE" else a for a in arguments]
    result = call("simulate", *given)
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())


def test_a_plan_gives_the_costs_that_were_measured_of_it(tmp_path: Path) -> None:
    models = {n: nn.Sequential(nn.Linear(12, 20), nn.ReLU()).eval() for n in "ab"}
    plan = fusec.compile(models, examples={"*": torch.randn(1, 12)}, executor="cpu", threads=1)
    path = tmp_path / "p.fusec"
    plan.save(path)
    given = ("simulate", "--plan", path, "--arrivals", "poisson:100", "-n", 60, "--json")
    unmeasured = call(*given)
    assert unmeasured.exit_code == 1
    assert "run `fusec profile` on it first" in unmeasured.stderr
    plan.profile(seconds=0.01)
    plan.save(path)
    figures = json.loads(call(*given).stdout)
    assert [g["name"] for g in figures["models"]] == ["a", "b"]
    assert figures["total"]["answered"] == 60


def test_a_plan_runs_on_threads_that_were_measured_and_spreads(tmp_path: Path) -> None:
    models = {n: nn.Sequential(nn.Linear(12, 20), nn.ReLU()).eval() for n in "ab"}
    plan = fusec.compile(models, examples={"*": torch.randn(1, 12)}, executor="cpu", threads=1)
    plan.profile(seconds=0.01)
    path, log = tmp_path / "p.fusec", tmp_path / "d.log"
    plan.save(path)
    given = ("simulate", "--plan", path, "--arrivals", "poisson:100", "-n", 60)
    assert json.loads(call(*given, "--threads", 1, "--json").stdout)["total"]["answered"] == 60
    other = call(*given, "--threads", 7)
    assert other.exit_code == 1
    assert "not measured on 7 threads, but on 1" in " ".join(other.stderr.split())
    noisy = call(*given, "--noise", "--log", log, "--json")
    assert noisy.stdout == call(*given, "--noise", "--json").stdout
    assert '"Ran"' in log.read_text()
    replayed = call("replay", log)
    assert replayed.exit_code == 0
    assert "launches, predictions off by" in replayed.stdout
    assert json.loads(call("replay", log, "--json").stdout)["predictions"]["launches"] > 0


def test_a_log_gives_the_costs_that_were_measured_in_it(tmp_path: Path) -> None:
    models = {n: nn.Sequential(nn.Linear(12, 20), nn.ReLU()).eval() for n in "ab"}
    plan = fusec.compile(models, examples={"*": torch.randn(1, 12)}, executor="cpu", threads=1)
    log = tmp_path / "d.log"
    with fusec.Runtime(plan, log=log, measure_s=0.01) as runtime:
        for _ in range(20):
            runtime.submit("a", np.zeros((1, 12), np.float32)).result()
            runtime.submit("b", np.zeros((1, 12), np.float32)).result()
    given = ("simulate", "--served", log, "--arrivals", "poisson:100", "-n", 60, "--json")
    figures = json.loads(call(*given).stdout)
    assert [g["name"] for g in figures["models"]] == ["a", "b"]
    assert figures["total"]["answered"] == 60
    assert call(*given).stdout == call(*given).stdout
    result = call(*given, "--noise")
    assert result.exit_code == 1
    assert "a log says what launches took" in " ".join(result.stderr.split())


def test_files_of_costs_have_neither_threads_nor_noise(profile: Path) -> None:
    result = call("simulate", "--profile", profile, "--arrivals", "poisson:1", "--noise")
    assert result.exit_code == 1
    assert "go with --plan" in " ".join(result.stderr.split())


@given(share=st.floats(0, 1), spread=st.lists(st.integers(0, 900), min_size=3, max_size=3))
def test_noise_follows_the_percentiles(share: float, spread: list[int]) -> None:
    spreads = {"t": (0, *sorted(spread))}
    above = _above(spreads, "t", share)
    assert 0 <= above <= max(spread)
    assert _above(spreads, "unknown", share) == 0.0
    assert _above(spreads, "t", 0.5) == pytest.approx(min(spread))
    assert _above(spreads, "t", 0.99) == max(spread)
