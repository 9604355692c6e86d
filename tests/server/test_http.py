"""The REST server over a socket: every path, codes of failures, limits, clients that leave."""

import gzip
import http.client
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fusec_testing.live_server import Live, live, model
from fusec_testing.serving import FakeStore

from fusec.ir.errors import ConfigError, KernelError, Rejected
from fusec.server.frontdoor import Control
from fusec.server.limits import Limits
from fusec.server.running import Options

pytest.importorskip("uvicorn")
pytest.importorskip("grpc")

HEADER = "Inference-Header-Content-Length"
CONFIG = """
max_batch_size: 8
dynamic_batching {
  priority_levels: 3 default_priority_level: 2
  default_queue_policy {
    default_timeout_microseconds: 500000 allow_timeout_override: true max_queue_size: 2
  }
}
parameters { key: "tenant" value { string_value: "acme" } }
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, FakeStore]]:
    store, folder = FakeStore(), tmp_path_factory.mktemp("repository")
    for name in ("plain", "left", "counted"):
        model(folder, name)
    model(folder, "m", 3, config=CONFIG)
    options = Options(
        repositories=[folder],
        control=Control.EXPLICIT,
        load=["*"],
        limits=Limits(body_bytes=1 << 20),
    )
    with live(options, store) as running:
        yield running, store


@pytest.fixture
def store(started: tuple[Live, FakeStore]) -> FakeStore:
    store = started[1]
    store.hold = store.error = None
    store.calls.clear()
    store.waiting.clear()
    return store


@pytest.fixture
def server(started: tuple[Live, FakeStore], store: FakeStore) -> Live:
    return started[0]


def ask(
    server: Live, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.http, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def tell(server: Live, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, text = ask(server, method, path, None if body is None else json.dumps(body).encode())
    return status, json.loads(text) if text else None


def request(rows: int = 1, **more: Any) -> dict[str, Any]:
    data = [float(i) for i in range(rows * 4)]
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}
    return {"inputs": [tensor], **more}


def test_health_and_metadata(server: Live) -> None:
    assert tell(server, "GET", "/v2/health/live") == (200, {"live": True})
    assert tell(server, "GET", "/v2/health/ready") == (200, {"live": True, "ready": True})
    for path in ("/v2", "/v2/"):
        status, data = tell(server, "GET", path)
        assert (status, data["name"]) == (200, "fusec")
        assert "binary_tensor_data" in data["extensions"]
    assert tell(server, "GET", "/v2/models") == (200, {"models": ["counted", "left", "m", "plain"]})
    for path in ("/v2/models/m", "/v2/models/m/versions/3"):
        status, data = tell(server, "GET", path)
        assert status == 200
        assert data["versions"] == ["3"]
        assert data["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert [output["name"] for output in data["outputs"]] == ["y", "n"]
    assert tell(server, "GET", "/v2/models/m/ready") == (200, {"name": "m", "ready": True})
    status, config = tell(server, "GET", "/v2/models/m/versions/3/config")
    assert (status, config["max_batch_size"], config["name"]) == (200, 8, "m")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert tell(server, "GET", "/v2/systemsharedmemory/status") == (200, [])
    assert tell(server, "POST", "/v2/cudasharedmemory/region/a/register", {})[0] == 501


def test_inference_with_json(server: Live) -> None:
    for path in ("/v2/models/m/infer", "/v2/models/m/versions/3/infer"):
        status, data = tell(server, "POST", path, request(2, id="7"))
        assert status == 200
        assert data == {
            "id": "7",
            "model_name": "m",
            "model_version": "3",
            "outputs": [
                {
                    "name": "y",
                    "datatype": "FP32",
                    "shape": [2, 4],
                    "data": [0, 2, 4, 6, 8, 10, 12, 14],
                },
                {"name": "n", "datatype": "INT64", "shape": [2], "data": [0, 1]},
            ],
        }
    assert "id" not in tell(server, "POST", "/v2/models/m/infer", request())[1]


def test_outputs_are_those_asked_for_in_their_order(server: Live) -> None:
    for names in (["n"], ["n", "y"]):
        wanted = request(outputs=[{"name": name} for name in names])
        _, data = tell(server, "POST", "/v2/models/m/infer", wanted)
        assert [output["name"] for output in data["outputs"]] == names


def test_inference_with_binary_data(server: Live) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    head: dict[str, Any] = request(2, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    del head["inputs"][0]["data"]
    head["inputs"][0]["parameters"] = {"binary_data_size": x.nbytes}
    text = json.dumps(head).encode()
    status, headers, body = ask(
        server, "POST", "/v2/models/m/infer", text + x.tobytes(), **{HEADER: str(len(text))}
    )
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    size = int(headers[HEADER.lower()])
    assert json.loads(body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 32}
    assert body[size:] == (x * 2).tobytes()


def test_raw_requests(server: Live) -> None:
    x = np.arange(4, dtype=np.float32)
    for name in ("m", "plain"):
        status, headers, body = ask(
            server, "POST", f"/v2/models/{name}/infer", x.tobytes(), **{HEADER: "0"}
        )
        assert status == 200
        assert body[int(headers[HEADER.lower()]) :][:16] == (x * 2).tobytes()
    status, _, body = ask(server, "POST", "/v2/models/m/infer", b"", **{HEADER: "0"})
    assert (status, "raw_input" in json.loads(body)["error"]) == (400, True)


def test_classification(server: Live) -> None:
    wanted = request(outputs=[{"name": "y", "parameters": {"classification": 2}}])
    _, data = tell(server, "POST", "/v2/models/m/infer", wanted)
    assert data["outputs"] == [
        {
            "name": "y",
            "datatype": "BYTES",
            "shape": [1, 2],
            "data": ["6.000000:3", "4.000000:2"],
        }
    ]


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


WRONG = {
    "unknown model": (
        "/v2/models/nope/infer",
        request(),
        404,
        "unknown model: 'nope' is not found",
    ),
    "unknown version": ("/v2/models/m/versions/9/infer", request(), 404, "version 9"),
    "wrong shape": (
        "/v2/models/m/infer",
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
        400,
        "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,3]",
    ),
    "wrong datatype": (
        "/v2/models/m/infer",
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "INT32", "data": [1, 2, 3, 4]}]},
        400,
        "inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'",
    ),
    "no batch axis": (
        "/v2/models/m/infer",
        {"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
        400,
        "got [4]",
    ),
    "large batch": ("/v2/models/m/infer", request(9), 400, "batch-size must be <= 8 for 'm'"),
    "unknown input": (
        "/v2/models/m/infer",
        {"inputs": [{"name": "z", "shape": [1], "datatype": "FP32", "data": [1]}]},
        400,
        "unexpected inference input 'z' for model 'm'",
    ),
    "unknown output": (
        "/v2/models/m/infer",
        request(outputs=[{"name": "q"}]),
        400,
        "unexpected inference output 'q' for model 'm'",
    ),
    "no inputs": ("/v2/models/m/infer", {"inputs": []}, 400, "missing required input(s) ['x']"),
    "bad priority": ("/v2/models/m/infer", request(parameters={"priority": -1}), 400, "priority"),
    "bad timeout": ("/v2/models/m/infer", request(parameters={"timeout": "1"}), 400, "timeout"),
    "bad slo": ("/v2/models/m/infer", request(parameters={"slo_ms": 0}), 400, "slo_ms"),
    "bad tenant": ("/v2/models/m/infer", request(parameters={"tenant": 1}), 400, "tenant"),
}


@pytest.mark.parametrize("why", WRONG)
def test_failures_have_the_protocols_codes(server: Live, why: str) -> None:
    path, body, status, text = WRONG[why]
    got, data = tell(server, "POST", path, body)
    assert (got, list(data)) == (status, ["error"])
    assert text in data["error"]
    assert tell(server, "POST", "/v2/models/m/infer", request())[0] == 200


def test_paths_and_methods_that_are_none(server: Live) -> None:
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/v2/nope", 404),
        ("GET", "/v2/health/startup", 404),
        ("GET", "/v2/models/m/versions/x", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/config", 404),
        ("GET", "/v2/models/nope/stats", 404),
        ("GET", "/v2/models/nope/ready", 400),
        ("GET", "/v2/models/m/versions/9/ready", 400),
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2/models/m", 405),
        ("PUT", "/v2/models/m/infer", 405),
        ("GET", "/v2/models/..%2f..%2fetc/config", 404),
        ("GET", "/v2/models/%ff%00", 404),
    ):
        got, data = tell(server, method, path)
        assert (got, list(data)) == (status, ["error"]), path


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Rejected("too late", "expired"), 503, "Request timeout expired"),
        (Rejected("too many requests wait already", "full"), 503, "too many"),
        (ConfigError("model 'm/3#1' has other rows"), 400, "model 'm' has other rows"),
        (KernelError("index out of range"), 500, "index out of range"),
        (ZeroDivisionError("oh"), 500, "ZeroDivisionError"),
    ],
)
def test_failures_of_the_runtime(
    server: Live, store: FakeStore, error: Exception, status: int, text: str
) -> None:
    key = next(key for key in store.keys if key.startswith("m/3#"))
    store.error = type(error)(str(error).replace("m/3#1", key)) if "#" in str(error) else error
    got, data = tell(server, "POST", "/v2/models/m/infer", request())
    assert got == status
    assert text in data["error"]


def test_what_the_scheduler_is_told(server: Live, store: FakeStore) -> None:
    cases: list[tuple[dict[str, Any], tuple[str, float, int]]] = [
        ({}, ("acme", 500.0, 1)),
        ({"tenant": "ann", "priority": 1}, ("ann", 500.0, 2)),
        ({"priority": 9}, ("acme", 500.0, 0)),
        ({"timeout": 1000}, ("acme", 1.0, 1)),
        ({"timeout": 9_000_000}, ("acme", 500.0, 1)),
        ({"slo_ms": 20}, ("acme", 20.0, 1)),
        ({"slo_ms": "20"}, ("acme", 20.0, 1)),
    ]
    for parameters, wanted in cases:
        tell(server, "POST", "/v2/models/m/infer", request(parameters=parameters))
        call = store.calls[-1]
        assert (call["tenant"], call["deadline_ms"], call["priority"]) == wanted
    tell(server, "POST", "/v2/models/plain/infer", request())
    call = store.calls[-1]
    assert (call["tenant"], call["deadline_ms"], call["priority"]) == ("plain", None, 0)


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def begin(server: Live, name: str) -> socket.socket:
    """Send a request and do not wait for its answer."""
    host, _, port = server.http.partition(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    body = json.dumps(request()).encode()
    head = (
        f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


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


def test_queues_of_models_are_bounded(server: Live, store: FakeStore) -> None:
    store.hold = threading.Event()
    clients = [begin(server, "m") for _ in range(2)]
    until(lambda: len(store.waiting) == 2)
    status, data = tell(server, "POST", "/v2/models/m/infer", request())
    assert (status, "exceeds maximum queue size" in data["error"]) == (503, True)
    store.hold.set()
    for client in clients:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()


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


def test_large_requests_are_read_beside_others(server: Live) -> None:
    tensor = request(1)
    padded = json.dumps(tensor).encode() + b" " * 300_000
    assert ask(server, "POST", "/v2/models/m/infer", padded)[0] == 200
    broken = b"{" + b" " * 300_000
    assert ask(server, "POST", "/v2/models/m/infer", broken)[0] == 400


def test_statistics_and_metrics(server: Live, store: FakeStore) -> None:
    for rows in (2, 2, 3):
        tell(server, "POST", "/v2/models/counted/infer", request(rows))
    tell(server, "POST", "/v2/models/counted/infer", {"inputs": []})
    store.error = Rejected("late", "expired")
    tell(server, "POST", "/v2/models/counted/infer", request())
    _, data = tell(server, "GET", "/v2/models/counted/stats")
    (row,) = data["model_stats"]
    assert (row["name"], row["version"], row["inference_count"]) == ("counted", "1", 7)
    assert row["inference_stats"]["success"]["count"] == 3
    assert row["inference_stats"]["fail"]["count"] == 2
    assert row["last_inference"] > 1_600_000_000_000
    assert [b["batch_size"] for b in row["batch_stats"]] == [2, 3]
    _, everything = tell(server, "GET", "/v2/models/stats")
    assert [r["name"] for r in everything["model_stats"]] == ["counted", "left", "m", "plain"]
    connection = http.client.HTTPConnection("127.0.0.1", server.server.metrics_port or 0)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    lines = text.splitlines()
    assert 'nv_inference_request_success{model="counted",version="1"} 3' in lines
    assert 'nv_inference_count{model="counted",version="1"} 7' in lines
    assert 'nv_inference_request_failure{model="counted",version="1",reason="REJECTED"} 1' in lines
    assert 'nv_inference_request_failure{model="counted",version="1",reason="OTHER"} 1' in lines
    assert 'nv_inference_request_failure{model="plain",version="1",reason="BACKEND"} 0' in lines
    assert 'nv_inference_pending_request_count{model="counted",version="1"} 0' in lines
    assert "# TYPE nv_inference_request_success counter" in lines
    assert any(line.startswith('fusec_outcomes{result="done"}') for line in lines)


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
