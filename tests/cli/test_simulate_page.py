"""The page of a simulated run in a real browser: it asks for nothing, fits, and shows charts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.chromium import Tab, chromium
from typer.testing import CliRunner

from fusec.cli.app import app

HOSTILE = "</style><script>alert(1)</script>\"'&" + "long" * 30
PROFILE: dict[str, dict[str, Any]] = {
    "templates": {
        "t": {"blocks_ns": {"1": [2_000_000, 2_000_000], "8": [4_000_000, 4_000_000]}},
        "u": {"blocks_ns": {"1": [500_000]}, "cut_ns": 1000},
    },
    "models": {**{f"cat-{i}": "t" for i in range(12)}, HOSTILE: "u"},
}
VISIBLE = """[...document.querySelectorAll("svg.strip rect, svg.plot path")].filter((shape) => {
  const { width, height } = shape.getBoundingClientRect(), style = getComputedStyle(shape);
  return width + height > 1 && (style.fill !== "none" || style.stroke !== "none");
}).length"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "profile.json").write_text(json.dumps(PROFILE))
    command = f"simulate --profile {folder / 'profile.json'} --arrivals poisson:500 -n 900"
    more = f"--devices 3 --deadline-ms 20 --tenants 2 --html {folder / 'report.html'}"
    result = CliRunner().invoke(app, f"{command} {more}")
    assert result.exit_code == 0, result.output
    return folder / "report.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_shows_everything_and_fits(browser: Tab, report: Path, width: int, dark: bool) -> None:
    browser.asked.clear()
    browser.look(report.as_uri(), width, 800, dark=dark)
    assert browser.problems == []
    assert set(browser.asked) == {report.as_uri()}
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.scripts.length") == 0
    heads = browser.value("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert heads == [
        "Models",
        "Tenants",
        "Lanes over the whole run",
        "Lanes around the longest wait",
        "Latency",
        "Attainment over time",
    ]
    names = browser.value("[...document.querySelectorAll('tbody th')].map((h) => h.textContent)")
    assert set(PROFILE["models"]) <= set(names)
    assert browser.value(VISIBLE) > 200
    assert browser.value("document.querySelectorAll('svg:not([aria-label])').length") == 0
    assert browser.value("document.querySelectorAll('.rows .ys span').length") == 6
    back = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is not dark
    small = "[...document.querySelectorAll('svg')].filter((s) => s.clientWidth < innerWidth * .6)"
    assert browser.value(f"{small}.length") == 0
