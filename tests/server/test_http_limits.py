"""The REST server against clients that send too much, too oddly, or leave."""

import gzip
import http.client
import json
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.live_server import Live, ask, begin, finish, live, model, request, tell, until
from fusec_testing.serving import FakeStore

from fusec.server.limits import Limits
from fusec.server.running import Options


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_packed_bodies(server: Live, encoding: str, pack: Any) -> None:
    body = pack(json.dumps(request()).encode())
    path = "/v2/models/m/infer"
    assert ask(server, "POST", path, body, Content_Encoding=encoding)[0] == 200
    assert ask(server, "POST", path, body[:-9], Content_Encoding=encoding)[0] == 400
    assert ask(server, "POST", path, b"no", Content_Encoding=encoding)[0] == 400
    bomb = pack(b" " * (64 << 20))
    assert ask(server, "POST", path, bomb, Content_Encoding=encoding)[0] == 413
    assert ask(server, "POST", path, body, Content_Encoding="br")[0] == 415


def test_a_client_that_leaves_cancels_its_request(server: Live, store: FakeStore) -> None:
    store.hold = threading.Event()
    client = begin(server, "left")
    until(lambda: store.waiting)
    client.close()
    until(lambda: store.waiting[0].cancelled())
    statistics = server.server.door.table.models["left"].newest.statistics
    until(lambda: statistics.pending == 0)
    assert statistics.failures["CANCELED"] == 1
    store.hold.set()
    assert tell(server, "POST", "/v2/models/left/infer", request())[0] == 200


def test_a_request_that_somebody_else_gives_up_is_answered(server: Live, store: FakeStore) -> None:
    store.hold = threading.Event()
    client = begin(server, "plain")
    until(lambda: store.waiting)
    store.waiting[0].cancel()
    status, body = finish(client)
    assert (status, list(json.loads(body))) == (503, ["error"])
    store.hold.set()


def test_clients_cannot_name_ever_more_tenants(server: Live, store: FakeStore) -> None:
    for i in range(40):
        wanted = request(parameters={"tenant": f"t{i}"})
        assert tell(server, "POST", "/v2/models/plain/infer", wanted)[0] == 200
    told = {call["tenant"] for call in store.calls}
    assert "plain" in told
    assert len(told) <= 21
    tell(server, "POST", "/v2/models/plain/infer", request(parameters={"tenant": "t0"}))
    assert store.calls[-1]["tenant"] == "t0"


def test_queues_of_models_are_bounded(server: Live, store: FakeStore) -> None:
    store.hold = threading.Event()
    clients = [begin(server, "m") for _ in range(2)]
    until(lambda: len(store.waiting) == 2)
    status, data = tell(server, "POST", "/v2/models/m/infer", request())
    assert (status, "exceeds maximum queue size" in data["error"]) == (503, True)
    store.hold.set()
    for client in clients:
        assert finish(client)[0] == 200


def test_bodies_are_bounded(server: Live) -> None:
    path = "/v2/models/m/infer"
    assert ask(server, "POST", path, b" " * (1 << 20))[0] == 400
    status, _, body = ask(server, "POST", path, b" " * ((1 << 20) + 1))
    assert (status, list(json.loads(body))) == (413, ["error"])
    host, _, port = server.http.partition(":")
    for claim in ("2147483648", "99999999999999999999999", "-1", "x"):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {claim}\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(20).startswith(b"HTTP/1.1 4"), claim
    assert tell(server, "POST", path, request())[0] == 200
    until(lambda: server.server.door.budget.held_bytes == 0)


def test_bodies_in_chunks_are_bounded_too(server: Live) -> None:
    connection = http.client.HTTPConnection(server.http, timeout=20)
    try:
        chunks = [b" " * (1 << 16)] * 20
        connection.request("POST", "/v2/models/m/infer", iter(chunks), encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert list(json.loads(answer.read())) == ["error"]
    finally:
        connection.close()
    until(lambda: server.server.door.budget.held_bytes == 0)


def test_who_sends_slowly_is_not_waited_for(tmp_path: Path) -> None:
    model(tmp_path, "m")
    with live(Options(repositories=[tmp_path], limits=Limits(body_s=0.05))) as server:
        host, _, port = server.http.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            client.sendall(head)
            assert finish(client)[0] == 408
        until(lambda: server.server.door.budget.held_bytes == 0)


def test_large_requests_are_read_beside_others(server: Live) -> None:
    tensor = request(1)
    padded = json.dumps(tensor).encode() + b" " * 300_000
    assert ask(server, "POST", "/v2/models/m/infer", padded)[0] == 200
    rows = 5000
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": [1.5] * rows * 4}
    _, data = tell(server, "POST", "/v2/models/plain/infer", {"inputs": [tensor]})
    assert data["outputs"][0]["data"] == [3.0] * rows * 4
    broken = b"{" + b" " * 300_000
    assert ask(server, "POST", "/v2/models/m/infer", broken)[0] == 400


def test_noise_on_the_socket_does_no_harm(server: Live) -> None:
    host, _, port = server.http.partition(":")
    for noise in (
        b"\x16\x03\x01\x02\x00" * 20,
        b"POST /v2/models/m/infer HTTP/1.1\r\n" + b"A: b\r\n" * 20,
        b"POST /v2/models/m/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        struct.pack("<Q", 2**63),
    ):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(noise)
    assert tell(server, "POST", "/v2/models/m/infer", request())[0] == 200
