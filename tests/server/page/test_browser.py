"""The page in a real browser, wide and narrow, light and dark, with models that run under load."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fusec_testing.chromium import Tab, chromium
from fusec_testing.live_server import Live, ask, live, tell, until
from torch import nn

import fusec
from fusec.server.running import Options
from fusec.server.store import PlanStore

SIZES = [(1280, 800, False), (390, 844, True)]
HOSTILE = '<img src=x onerror="alert(1)"></script> \'&quot; кошка ' + "long" * 15
NAMES = ("cat-1", "cat-2", "cat-3", HOSTILE)

COLOURED = """(() => {
  const canvas = document.getElementById("lanes"), wanted = new Set();
  const pick = { willReadFrequently: true };
  const number = ([r, g, b]) => (r << 16) + (g << 8) + Number(b);
  for (const chip of document.querySelectorAll("#legend i")) {
    wanted.add(number(getComputedStyle(chip).backgroundColor.match(/\\d+/g)));
  }
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", pick);
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let i = 0; i < data.length; i += 16) n += wanted.has(number(data.subarray(i, i + 3)));
  return n;
})()"""
ROWS = """[...document.querySelectorAll("tr.model, tr.alone")].map((row) =>
  [row.querySelector(".line span:last-child").textContent,
   ...[...row.querySelectorAll("td")].map((cell) => cell.textContent)])"""


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    models: dict[str, nn.Module] = {name: nn.Linear(6, 3) for name in NAMES[:3]}
    models[HOSTILE] = nn.Sequential(nn.Linear(6, 400), nn.ReLU(), nn.Linear(400, 2))
    plan = fusec.compile(models, examples={"*": np.ones((1, 6), np.float32)}, threads=1)
    store = PlanStore(plan, lambda served: fusec.Runtime(served, lanes=2, measure_s=0.05))
    with live(Options(served=NAMES), store) as up:
        yield up
    store.close()


@pytest.fixture(scope="module")
def browser(server: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab) -> Iterator[Tab]:
    browser.asked.clear()
    browser.problems.clear()
    yield browser
    assert browser.problems == []
    browser.call("Page.navigate", url="about:blank")


def infer(server: Live, name: str, **parameters: Any) -> int:
    body = {
        "inputs": [{"name": "input", "shape": [1, 6], "datatype": "FP32", "data": [0.5] * 6}],
        "parameters": parameters,
    }
    return tell(server, "POST", f"/v2/models/{quote(name, safe='')}/infer", body)[0]


def address(server: Live) -> str:
    return f"http://{server.http}/"


def metrics(server: Live) -> dict[str, float]:
    """Give all samples, as Prometheus reads them."""
    import urllib.request

    url = f"http://127.0.0.1:{server.server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return {k: float(v) for k, _, v in (s.rpartition(" ") for s in lines if s[0] != "#")}


@pytest.mark.parametrize(("width", "height", "dark"), SIZES)
def test_it_paints_at_once_and_fits(
    server: Live, tab: Tab, width: int, height: int, dark: bool
) -> None:
    tab.look(address(server), width, height, dark=dark)
    assert sorted(row[0] for row in tab.value(ROWS)) == sorted(NAMES)
    assert tab.value("document.getElementById('about').textContent") == "4 models in 2 groups"
    tab.until("performance.getEntriesByName('first-contentful-paint').length")
    tab.until("document.getElementById('rate').textContent !== '\u2013'")
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("document.querySelectorAll('img, script').length") == 2
    assert {url.partition(server.http)[2] for url in tab.asked} == {"/", "/page/events"}
    back = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is not dark
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "searchbox", "application", "table", "region")
    asked = [n for n in tree if not n["ignored"] and n["role"]["value"] in roles]
    assert {node["role"]["value"] for node in asked} == set(roles)
    assert [node for node in asked if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize(("width", "height", "dark"), SIZES)
def test_numbers_are_right_under_load(
    server: Live, tab: Tab, width: int, height: int, dark: bool
) -> None:
    tab.look(address(server), width, height, dark=dark)
    ended = threading.Event()

    def client(number: int) -> None:
        while not ended.is_set():
            name = NAMES[number % len(NAMES)]
            infer(server, name, **({"slo_ms": 5000.0} if number % 2 else {}))
            infer(server, name, slo_ms=1e-6)

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(client, number) for number in range(4)]
        try:
            tab.until("parseFloat(document.getElementById('rate').textContent) > 1")
            tab.until(f"{COLOURED} > 5")
            tab.value("document.getElementById('lanes').focus()")
            tab.key("ArrowLeft")
            told = tab.value("document.getElementById('told').textContent")
            assert re.match(r"Lane [01], [\d.,]+ ms: ", told), told
            tab.value("document.getElementById('find').focus()")
            tab.call("Input.insertText", text="CAT-2")
            assert [row[0] for row in tab.value(ROWS)] == ["cat-2"]
            find = "document.getElementById('find')"
            tab.value(f"{find}.value = '', {find}.dispatchEvent(new Event('input'))")
            assert len(tab.value(ROWS)) == len(NAMES)
        finally:
            ended.set()
        for each in running:
            each.result(20)
    stats = server.server.door.service.store.stats
    until(lambda: not stats()["in_flight"])
    figures, counted = stats(), metrics(server)
    shown = {key: f"document.getElementById('{key}').textContent" for key in ("done", "attained")}
    done = int(counted['fusec_outcomes_total{result="done"}'])
    tab.until(f"{shown['done']} === '{done:,}'")
    share = counted["fusec_kept_total"] / counted["fusec_promised_total"]
    assert 0 < share < 1
    tab.until(f"{shown['attained']} === '{100 * share:.1f} %'")
    for key, wanted in {
        "queued": "0",
        "queued-more": "0 in flight",
        "missed": f"{sum(n for how, n in figures['outcomes'].items() if how != 'done'):,}",
        "busy-more": "0 of 2 running now",
        "done-more": f"{figures['launches']:,} launches, {figures['preemptions']:,} stopped early",
    }.items():
        tab.until(f"document.getElementById('{key}').textContent === {json.dumps(wanted)}")
    for name in NAMES:
        labels = json.dumps(name, ensure_ascii=False)
        good = counted[f'nv_inference_request_success{{model={labels},version="1"}}']
        wanted_row = [name, "1", f"{int(good):,}"]
        row = f"{ROWS}.map((r) => JSON.stringify([r[0], r[1], r[5]]))"
        tab.until(f"{row}.includes(JSON.stringify({json.dumps(wanted_row)}))")
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_it_can_be_stopped_and_is_calm_where_that_is_wanted(server: Live, tab: Tab) -> None:
    count = "CanvasRenderingContext2D.prototype.clearRect"
    script = f"{{const own = {count}; window.drawn = 0; {count} = function (...a) {{ drawn++; "
    script += "return own.apply(this, a); }; }"
    added = tab.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        tab.look(address(server), 1280, 800, calm=True)
        tab.until("drawn > 0")
        frames = "new Promise((f) => { let n = 30; const g = () => n-- ? requestAnimationFrame(g) "
        frames += ": f(drawn); g(); })"
        before = tab.value("drawn")
        assert tab.value(frames) - before <= 3
        tab.look(address(server), 1280, 800)
        tab.until("drawn > 10")
        tab.value("document.getElementById('pause').click()")
        before = tab.value("drawn")
        assert tab.value(frames) - before <= 1
        assert tab.value("document.getElementById('pause').ariaPressed") == "true"
    finally:
        tab.call("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_it_says_when_the_server_ends(server: Live, tab: Tab) -> None:
    tab.look(address(server), 390, 844)
    tab.until("document.getElementById('state').className === 'ready'")
    server.server.door.draining = True
    try:
        tab.until("document.getElementById('state').className === 'ending'")
    finally:
        server.server.door.draining = False
    assert ask(server, "GET", "/v2/health/ready")[0] == 200
    tab.until("document.getElementById('state').className === 'ready'")
