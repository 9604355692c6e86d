"""Models that are compiled and run: what a client gets is what the plan computes."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing.live_server import Live, ask, live, tell
from fusec_testing.small_onnx import oracle, save_model
from torch import nn

import fusec
from fusec.server.control import Control
from fusec.server.datatypes import DATATYPES
from fusec.server.messages import Tensor
from fusec.server.restresponse import wire_bytes
from fusec.server.running import Options
from fusec.server.store import PlanStore, wire_array

pytest.importorskip("uvicorn")
pytest.importorskip("grpc")

X = np.random.default_rng(0).random((5, 3), dtype=np.float32)
CONFIG = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
model_warmup {
  batch_size: 4 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] random_data: true } }
}
"""


@contextmanager
def store_of(plan: fusec.Plan) -> Iterator[PlanStore]:
    store = PlanStore(plan, lambda plan: fusec.Runtime(plan, measure_s=0.01))
    try:
        yield store
    finally:
        store.close()


def infer(server: Live, name: str, x: np.ndarray = X) -> np.ndarray:
    """Ask with binary data, behind JSON of any length."""
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    header = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, body = ask(
        server, "POST", f"/v2/models/{name}/infer", head + x.tobytes(), **header
    )
    assert status == 200, body
    size = int(headers["inference-header-content-length"])
    (output,) = json.loads(body[:size])["outputs"]
    found = np.frombuffer(body[size:], dtype=np.float32)
    return found.reshape(output["shape"])


def test_models_of_a_repository_answer_as_they_should(tmp_path: Path) -> None:
    paths = {n: save_model(tmp_path / n / "1" / "model.onnx") for n in ("a", "b")}
    save_model(tmp_path / "a" / "2" / "model.onnx", activation="Tanh")
    (tmp_path / "a" / "config.pbtxt").write_text(CONFIG + "version_policy { all { } }")
    options = Options(repositories=[tmp_path], control=Control.EXPLICIT, load=["*"])
    plan = fusec.compile({})
    with store_of(plan) as store, live(options, store) as server:
        status, metadata = tell(server, "GET", "/v2/models/a")
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
        tanh = oracle(tmp_path / "a" / "2" / "model.onnx", X)
        np.testing.assert_allclose(infer(server, "a"), tanh, atol=1e-6)
        old = infer(server, "a/versions/1")
        np.testing.assert_allclose(old, oracle(paths["a"], X), atol=1e-6)
        np.testing.assert_allclose(infer(server, "b"), oracle(paths["b"], X), atol=1e-6)
        assert len(plan.members) == 3
        (tmp_path / "a" / "config.pbtxt").write_text(CONFIG)
        assert tell(server, "POST", "/v2/repository/models/a/load", {})[0] == 200
        server.call(server.server.loader.settle())
        assert len(plan.members) == 2
        assert tell(server, "POST", "/v2/repository/models/b/unload", {})[0] == 200
        server.call(server.server.loader.settle())
        assert len(plan.members) == 1
        (tmp_path / "c" / "1").mkdir(parents=True)
        (tmp_path / "c" / "1" / "model.onnx").write_bytes(b"no model")
        status, data = tell(server, "POST", "/v2/repository/models/c/load", {})
        assert (status, "c" in data["error"]) == (400, True)
        assert "#" not in data["error"]
        np.testing.assert_allclose(infer(server, "a"), tanh, atol=1e-6)


def test_everybody_gets_the_answer_of_the_model_asked_for() -> None:
    def constant(k: int) -> nn.Module:
        model = nn.Linear(3, 4)
        nn.init.zeros_(model.weight)
        nn.init.constant_(model.bias, k)
        return model.eval()

    models = {f"m{k}": constant(k) for k in range(8)}
    plan = fusec.compile(models, examples={"*": X})
    name = plan.members["m0"].input_names[0]
    wrong: list[Any] = []

    def hammer(server: Live, seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(25):
            k, rows = int(draw.integers(8)), int(draw.integers(1, 5))
            tensor = {
                "name": name,
                "shape": [rows, 3],
                "datatype": "FP32",
                "data": [0.5] * rows * 3,
            }
            status, data = tell(server, "POST", f"/v2/models/m{k}/infer", {"inputs": [tensor]})
            if status != 200 or data["outputs"][0]["data"] != [k] * rows * 4:
                wrong.append((k, rows, data))

    with store_of(plan) as store, live(Options(served=tuple(models)), store) as server:
        threads = [threading.Thread(target=hammer, args=(server, i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not wrong


def test_bfloat16_and_scalars_pass() -> None:
    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    plan = fusec.compile({"h": Halves().eval()}, examples={"h": torch.ones(2, 3).bfloat16()})
    with store_of(plan) as store:
        signature = store.there("h")
        assert signature is not None
        assert signature.inputs[0].datatype is DATATYPES["BF16"]
        bits = np.full((2, 3), 0x3F80, dtype=np.uint16)
        bits.flags.writeable = False
        given = (Tensor(signature.inputs[0].name, DATATYPES["BF16"], bits),)
        future = store.submit("h", given, tenant=None, deadline_ms=None, priority=0)
        (value,) = future.result(30).values()
        assert value.dtype == torch.bfloat16
        assert value.float().tolist() == [[2.0] * 3] * 2
        sent = wire_array("y", value)
        assert sent.datatype is DATATYPES["BF16"]
        assert bytes(wire_bytes(sent)) == b"\x00\x40" * 6


def test_the_command_serves_a_plan_and_ends_when_told(tmp_path: Path) -> None:
    plan = fusec.compile({"a": save_model(tmp_path / "a.onnx")})
    wanted = plan.run({"a": X})["a"]["y"]
    plan.save(tmp_path / "p.fusec")
    ports = ["--http-port", "0", "--grpc-port", "0", "--allow-metrics", "false"]
    command = [sys.executable, "-m", "fusec", "serve", str(tmp_path / "p.fusec"), *ports]
    command += ["--http-address", "127.0.0.1", "--exit-delay-secs", "0.1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"ready: HTTP (\d+), gRPC \d+, metrics None; 1 models", line)
        assert found, line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
        tensor = {"name": "x", "shape": [5, 3], "datatype": "FP32", "data": X.tolist()}
        connection.request("POST", "/v2/models/a/infer", json.dumps({"inputs": [tensor]}))
        data = json.loads(connection.getresponse().read())
        connection.close()
        got = np.array(data["outputs"][0]["data"], dtype=np.float32).reshape(5, 4)
        assert np.array_equal(got, wanted)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, rest
        assert rest.startswith("ending")
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give either a plan file or --model-repository"),
        (["--model-repository", "none"], "none: there is no such folder"),
        (["none.fusec"], "none.fusec"),
        (["--model-store", ".", "--allow-http", "maybe"], "--allow-http is 'maybe'"),
    ],
)
def test_what_the_command_cannot_serve(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from fusec.cli.app import app

    with pytest.raises(SystemExit) as caught:
        app(["serve", *arguments])
    assert caught.value.code == 1
    assert text in capsys.readouterr().err.replace("\n", "")


def test_options_of_tritons_that_change_nothing_are_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fusec.cli.app import app

    given = ["--log-verbose=1", "--id", "a", "--backend-config=onnxruntime,x=1", "--rate-limit=off"]
    with pytest.raises(SystemExit):
        app(["serve", "none.fusec", *given])
    said = capsys.readouterr().err.replace("\n", " ")
    for option in ("--log-verbose", "--id", "--backend-config", "--rate-limit"):
        assert f"note: {option} has no effect here" in said
