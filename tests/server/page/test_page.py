"""The page and its events over a socket: what they say, what they cost, and how they end."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.live_server import Live, Stream, ask, live, model, request, stream, tell, until
from fusec_testing.serving import FakeStore

from fusec.runtime.serving.recording import Stay
from fusec.server.control import Control
from fusec.server.page import feed
from fusec.server.page import page as page_module
from fusec.server.page.feed import Feed, figures_of
from fusec.server.page.page import Page
from fusec.server.page.roster import roster_of
from fusec.server.running import Options

HOSTILE = "<script>alert(1)<\uff0fscript>\"'&\u2028"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def server(store: FakeStore, tmp_path: Path) -> Iterator[Live]:
    for name, text in (("a", "one"), ("b", "one"), (HOSTILE, "two")):
        model(tmp_path, name, text=text)
    with live(Options(repositories=[tmp_path], control=Control.EXPLICIT, load=["*"]), store) as up:
        yield up


def embedded(page: bytes) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.decode())
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_needs_nothing_else(server: Live) -> None:
    status, headers, page = ask(server, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.decode()
    assert not re.findall(r'(?:src|href|action)="(?!data:)', text)
    assert set(re.findall(r"https?://[^'\" ]+", text)) <= {"http://www.w3.org/2000/svg"}
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert HOSTILE not in text
    assert text.count("<script") == 2
    rows = embedded(page)["roster"]["models"]
    assert [row[0] for row in rows] == [HOSTILE, "a", "b"]


def test_methods_and_paths(server: Live) -> None:
    _, headers, page = ask(server, "GET", "/")
    status, headers, body = ask(server, "HEAD", "/")
    assert (status, body) == (200, b"")
    assert abs(int(headers["content-length"]) - len(page)) < 20
    status, headers, body = ask(server, "HEAD", "/page/events")
    assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")
    for method, path, wanted in (
        ("POST", "/", 405),
        ("PUT", "/", 405),
        ("POST", "/page/events", 405),
        ("DELETE", "/page/events", 405),
        ("GET", "/page", 404),
        ("GET", "/page/", 404),
        ("GET", "//", 404),
    ):
        status, _, body = ask(server, method, path)
        assert (status, list(json.loads(body))) == (wanted, ["error"]), path
    assert ask(server, "HEAD", "/v2/models")[0] == 405


def test_no_page_where_none_is_wanted(tmp_path: Path) -> None:
    with live(Options(repositories=[tmp_path], page=False)) as server:
        for path in ("/", "/page/events"):
            assert tell(server, "GET", path) == (404, {"error": "Not Found"})
        assert tell(server, "GET", "/v2/health/live")[0] == 200


def test_numbers_are_those_of_the_statistics(server: Live, store: FakeStore) -> None:
    for _ in range(3):
        assert tell(server, "POST", "/v2/models/a/infer", request())[0] == 200
    assert tell(server, "POST", "/v2/models/a/infer", {"inputs": []})[0] == 400
    with stream(server) as events:
        name, told = events.next()
        assert (name, told["state"]) == ("whole", "ready")
        assert told["stats"] == figures_of(store.stats())
        names = [row[0] for row in told["roster"]["models"]]
        stats = tell(server, "GET", "/v2/models/stats")[1]["model_stats"]
        for row in stats:
            counts = row["inference_stats"]
            answered, failed, pending, us = told["counts"][names.index(row["name"])]
            assert answered == counts["success"]["count"]
            assert failed == counts["fail"]["count"]
            assert us == counts["success"]["ns"] // 1000
            assert pending == 0
        groups = [row[2] for row in told["roster"]["models"]]
        assert groups[names.index("a")] == groups[names.index("b")] != groups[0]
        assert tell(server, "POST", "/v2/models/b/infer", request())[0] == 200
        while True:
            rows = {row[0]: row[1] for row in events.until("rows")["rows"]}
            if rows.get(names.index("b")):
                break
        assert rows[names.index("b")] == 1


def test_models_come_and_go(server: Live) -> None:
    with stream(server) as events:
        events.next()
        assert tell(server, "POST", "/v2/repository/models/b/unload", {})[0] == 200
        while True:
            told = events.until("roster")
            states = {row[0]: row[3] for row in told["roster"]["models"]}
            if states["b"] == "UNAVAILABLE":
                break
        assert len(told["counts"]) == 3
        assert states["a"] == "READY"


def test_lanes_are_recorded_only_while_somebody_looks(server: Live, store: FakeStore) -> None:
    ask(server, "GET", "/")
    assert store.recordings == []
    with stream(server) as one, stream(server) as two:
        for each in (one, two):
            assert each.next()[0] == "whole"
        until(lambda: store.recordings)
        (recording,) = store.recordings
        rows = {"one": 2}
        stay = Stay(lane=1, start_ns=0, end_ns=10**6, rows=rows, model="x", calls=2, stopped=True)
        recording.ended.append(stay)
        for each in (one, two):
            while not (bars := each.next()[1]["bars"]["rows"]):
                pass
            ((lane, start, end, launches, calls, stopped, parts, name),) = bars
            assert (lane, launches, calls, stopped, name) == (1, 1, 2, 1, "x")
            assert (end - start, parts) == (1000, [[0, 1000]])
        one.close()
        two.next()
        assert not recording.closed
    until(lambda: recording.closed)
    with stream(server) as again:
        again.next()
        until(lambda: len(store.recordings) == 2)


def test_a_client_that_vanishes_is_forgotten(server: Live, store: FakeStore) -> None:
    events = Stream(server)
    events.next()
    until(lambda: store.recordings)
    assert events.connection.sock is not None
    linger = struct.pack("ii", 1, 0)
    events.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    events.close()
    until(lambda: store.recordings[0].closed)


def test_only_so_many_watch(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_MOST_VIEWERS", 2)
    with stream(server) as one, stream(server):
        one.next()
        status, body = tell(server, "GET", "/page/events")
        assert (status, body) == (503, {"error": "too many watch the page already"})
    until(lambda: _status(server) == 200)


def _status(server: Live) -> int:
    with stream(server) as events:
        return events.answer.status


def test_streams_end_when_the_server_drains(server: Live, store: FakeStore) -> None:
    with stream(server) as events:
        events.next()
        server.server.door.draining = True
        while True:
            name, told = events.next()
            if name == "end":
                break
        assert told == {"state": "ending"}
        assert events.answer.read() == b""
    assert all(recording.closed for recording in store.recordings)
    with stream(server) as late:
        assert [late.next()[0], late.next()[0]] == ["whole", "end"]
    assert tell(server, "POST", "/v2/models/a/infer", request())[0] == 200


def test_a_stream_does_not_hold_up_the_end(store: FakeStore, tmp_path: Path) -> None:
    with live(Options(repositories=[tmp_path]), store) as server:
        events = Stream(server)
        events.next()
    assert b"event: end" in events.answer.read()
    events.close()


def test_a_failure_is_said_and_ends_the_streams(server: Live, store: FakeStore) -> None:
    with stream(server) as events:
        events.next()
        store.stats = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
        while events.next()[0] != "end":
            pass
    assert any("ZeroDivisionError" in line for line in server.said)


def test_a_client_that_takes_nothing_is_left(
    server: Live, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "_PATIENCE_S", 0.02)
    sent: list[Any] = []

    async def main() -> None:
        page = Page(server.server.door)

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("more_body"):
                await asyncio.Event().wait()

        async def receive() -> Any:
            return await asyncio.Event().wait()

        await page.stream("GET", receive, send)
        assert page.feed.viewers == 0

    server.call(main())
    assert [message.get("more_body") for message in sent] == [None, True, None]


def test_rows_come_bit_by_bit_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST_ROWS", 3)
    counts = [(i, 0, 0, 0) for i in range(8)]
    sent: list[tuple[int, ...]] = []
    seen: dict[int, list[int]] = {}
    for step in range(3):
        rows, sent = feed._changed(sent, counts)
        assert len(rows) == (3, 3, 2)[step]
        seen |= {i: row for i, *row in rows}
    assert seen == {i: list(row) for i, row in enumerate(counts)}
    assert feed._changed(sent, counts)[0] == []


def test_thousands_of_models_are_told_of_within_bounds(server: Live) -> None:
    async def main() -> None:
        table = server.server.door.table
        a = table.models["a"]
        table.models |= {f"x{i:05d}": a for i in range(3000)}
        roster = roster_of(table, lambda key: ["t"])
        assert len(roster.models) == len(roster.counts()) == 2000
        assert roster.more == 1003
        assert len(json.dumps(Feed(server.server.door).whole())) < 200_000
        for name in [n for n in table.models if n.startswith("x")]:
            del table.models[name]

    server.call(main())


def test_reasons_are_bounded() -> None:
    figures = figures_of({"reasons": {"x" * 999 + str(i): i for i in range(99)}, "tenant_ns": {}})
    assert [n for _, n in figures["reasons"]] == [98, 97, 96, 95, 94, 93]
    assert all(len(why) == 200 for why, _ in figures["reasons"])
    assert "tenant_ns" not in figures
