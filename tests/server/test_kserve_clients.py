"""KServe's clients: what they send, byte for byte, is answered in the way in which they read it.

The library brings 270 MB of others, so what it sent to a server is kept in a file beside this one;
where it is installed, its own clients make all their calls, and that file must be what they send.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusec_testing import kserve_calls
from fusec_testing.live_server import Live, ask

from fusec.server.grpctypes import types

grpc = pytest.importorskip("grpc")
RECORD: dict[str, str] = json.loads((Path(__file__).parent / "kserve_0_21.json").read_text())
REST = [key for key in RECORD if not key.startswith("grpc ")]
GRPC = [key for key in RECORD if key.startswith("grpc ")]


def read_rest(headers: dict[str, str], body: bytes) -> dict[str, np.ndarray]:
    """Decode an answer as their client does: tensors without data lie behind the JSON, in order."""
    size = int(headers.get("inference-header-content-length", len(body)))
    data, rest = json.loads(body[:size]), body[size:]
    assert (data["id"], data["model_name"]) == ("7", "plain")
    found = {}
    for output in data["outputs"]:
        dtype = {"FP32": np.float32, "INT64": np.int64}[output["datatype"]]
        if "data" in output:
            array = np.array(output["data"], dtype=dtype)
        else:
            taken = output["parameters"]["binary_data_size"]
            array, rest = np.frombuffer(rest[:taken], dtype=dtype), rest[taken:]
        found[output["name"]] = array.reshape(output["shape"])
    assert not rest
    return found


def read_grpc(message: Any) -> dict[str, np.ndarray]:
    """Decode an answer as their client does: raw contents if there are any."""
    assert (message.id, message.model_name) == ("7", "plain")
    raw = message.raw_output_contents
    found = {}
    for i, output in enumerate(message.outputs):
        dtype = {"FP32": np.float32, "INT64": np.int64}[output.datatype]
        typed = list(output.contents.fp32_contents) + list(output.contents.int64_contents)
        array = np.frombuffer(raw[i], dtype=dtype) if raw else np.array(typed, dtype=dtype)
        found[output.name] = array.reshape(list(output.shape))
    return found


def check(found: dict[str, np.ndarray]) -> None:
    assert np.array_equal(found["y"], kserve_calls.X * 2)
    assert found["n"].tolist() == [0, 1]


@pytest.mark.parametrize("key", REST)
def test_what_they_send_over_rest(server: Live, key: str) -> None:
    method, path, length, _ = key.split(" ")
    headers = {"Inference-Header-Content-Length": length} if length else {}
    body = RECORD[key].encode("latin-1")
    status, answered, text = ask(server, method, path, body or None, **headers)
    if "nope" in path:
        assert status == (400 if path.endswith("ready") else 404)
        # Only of this type is an error's text shown.
        assert answered["content-type"] == "application/json"
        assert json.loads(text)["error"]
    elif method == "POST":
        assert status == 200
        check(read_rest(answered, text))
    else:
        assert status == 200
        told = json.loads(text)
        assert told["live" if path.endswith("live") else "ready"] is True


@pytest.mark.parametrize("key", GRPC)
def test_what_they_send_over_grpc(server: Live, key: str) -> None:
    service = "/inference.GRPCInferenceService/"
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(f"{service}ModelInfer")
        answer = infer(bytes.fromhex(RECORD[key]), metadata=(("x-request", "1"),), timeout=20)
        check(read_grpc(types()["ModelInferResponse"].FromString(answer)))
        for name in ("ServerLive", "ServerReady"):
            assert channel.unary_unary(service + name)(b"") == b"\x08\x01"


@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="kserve is not installed")
def test_their_own_clients(server: Live) -> None:
    child = [sys.executable, kserve_calls.__file__, server.http, server.grpc]
    done = subprocess.run(child, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == RECORD


def test_binary_tensors_without_elements_have_null_for_data(server: Live) -> None:
    tensor = {"name": "x", "shape": [0, 4], "datatype": "FP32", "data": None}
    body = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 0}}]}).encode()
    header = {"Inference-Header-Content-Length": str(len(body))}
    status, _, text = ask(server, "POST", "/v2/models/plain/infer", body, **header)
    assert status == 200, text
    assert json.loads(text)["outputs"][0]["shape"] == [0, 4]
