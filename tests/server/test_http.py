"""The REST server over a socket: every path, codes of failures, figures."""

import http.client
import json
from typing import Any

import numpy as np
import pytest
from fusec_testing.live_server import Live, ask, request, tell
from fusec_testing.serving import FakeStore

from fusec.ir.errors import ConfigError, KernelError, Rejected

NAMES = ["counted", "left", "m", "plain", "strict"]
HEADER = "Inference-Header-Content-Length"


def test_health_and_metadata(server: Live) -> None:
    assert tell(server, "GET", "/v2/health/live") == (200, {"live": True})
    assert tell(server, "GET", "/v2/health/ready") == (200, {"live": True, "ready": True})
    for path in ("/v2", "/v2/"):
        status, data = tell(server, "GET", path)
        assert (status, data["name"]) == (200, "fusec")
        assert "binary_tensor_data" in data["extensions"]
    assert tell(server, "GET", "/v2/models") == (
        200,
        {"models": NAMES},
    )
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
        ("GET", "/page", 404),
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
        (Rejected("too late", "expired"), 504, "Request timeout expired"),
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
    cases: list[tuple[dict[str, Any], tuple[str, float | None, int]]] = [
        ({}, ("acme", None, 1)),
        ({"tenant": "ann", "priority": 1}, ("ann", None, 2)),
        ({"priority": 9}, ("acme", None, 0)),
        ({"timeout": 1_000_000}, ("acme", None, 1)),
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
    assert [r["name"] for r in everything["model_stats"]] == [
        "counted",
        "left",
        "m",
        "plain",
        "strict",
    ]
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
    assert any(line.startswith('fusec_outcomes_total{result="done"}') for line in lines)


def test_balancers_may_ask_without_wanting_a_body(server: Live) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready"):
        assert ask(server, "HEAD", path)[::2] == (200, b"")
    assert ask(server, "HEAD", "/v2/models/nope/ready")[::2] == (400, b"")
