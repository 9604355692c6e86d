"""Loading and unloading while requests run: switch, drain, drop; nothing is lost on the way."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.live_server import Live, begin, finish, live, model, request, tell, until
from fusec_testing.serving import FakeStore

from fusec.ir.errors import ConfigError
from fusec.server.control import Control
from fusec.server.errors import ServerError
from fusec.server.repository import Repository, write_override
from fusec.server.running import Options

pytest.importorskip("uvicorn")
pytest.importorskip("grpc")

LATEST_TWO = "version_policy { latest { num_versions: 2 } }"


def explicit(folder: Path, *names: str) -> Options:
    return Options(repositories=[folder], control=Control.EXPLICIT, load=names)


def load(server: Live, name: str, body: Any = None) -> tuple[int, Any]:
    return tell(server, "POST", f"/v2/repository/models/{name}/load", body or {})


def unload(server: Live, name: str) -> tuple[int, Any]:
    return tell(server, "POST", f"/v2/repository/models/{name}/unload", {})


def index(server: Live, **body: Any) -> dict[str, str]:
    status, rows = tell(server, "POST", "/v2/repository/index", body)
    assert status == 200
    return {f"{r['name']}/{r.get('version', '')}": r["state"] for r in rows}


def answers(server: Live, name: str) -> str:
    """Give the version that answers, or the failure."""
    status, data = tell(server, "POST", f"/v2/models/{name}/infer", request())
    return str(data["model_version"] if status == 200 else data["error"])


def test_load_and_unload(tmp_path: Path) -> None:
    model(tmp_path, "a")
    model(tmp_path, "b")
    store = FakeStore()
    with live(explicit(tmp_path, "a"), store) as server:
        assert index(server) == {"a/1": "READY", "b/": "UNAVAILABLE"}
        assert index(server, ready=True) == {"a/1": "READY"}
        assert "'b' is not found" in answers(server, "b")
        assert load(server, "b") == (200, None)
        assert answers(server, "b") == "1"
        assert unload(server, "b") == (200, None)
        assert "'b' has no available versions" in answers(server, "b")
        until(lambda: index(server)["b/"] == "UNAVAILABLE")
        assert len(store.keys) == 1
        assert unload(server, "nope") == (200, None)
        status, data = load(server, "nope")
        assert (status, "failed to load 'nope'" in data["error"]) == (400, True)
        assert "nope/" not in index(server)


def test_a_new_version_takes_over_and_old_requests_end_on_the_old_one(tmp_path: Path) -> None:
    model(tmp_path, "m", 1)
    store = FakeStore()
    with live(explicit(tmp_path, "m"), store) as server:
        store.hold = threading.Event()
        client = begin(server, "m")
        until(lambda: store.waiting)
        hold, store.hold = store.hold, None
        model(tmp_path, "m", 2)
        assert load(server, "m")[0] == 200
        assert answers(server, "m") == "2"
        assert len(store.keys) == 2, "the old version has a request"
        hold.set()
        assert b'"model_version":"1"' in finish(client)[1]
        until(lambda: len(store.keys) == 1)
        assert index(server) == {"m/2": "READY"}


def test_a_broken_version_leaves_the_old_one(tmp_path: Path) -> None:
    model(tmp_path, "m", 1)
    store = FakeStore()
    with live(explicit(tmp_path, "m"), store) as server:
        model(tmp_path, "m", 2, "broken")
        status, data = load(server, "m")
        assert (status, "is broken" in data["error"]) == (400, True)
        assert answers(server, "m") == "1"
        assert index(server) == {"m/1": "READY", "m/2": "UNAVAILABLE"}
        for config in (
            "max_batch_size: lots",
            "max_batch_size: -1",
            'name: "other"',
            "ensemble_scheduling {}",
        ):
            (tmp_path / "m" / "config.pbtxt").write_text(config)
            assert load(server, "m")[0] == 400
            assert answers(server, "m") == "1"
        assert len(store.keys) == 1
        (tmp_path / "m" / "config.pbtxt").unlink()
        model(tmp_path, "m", 2)
        assert load(server, "m")[0] == 200
        assert answers(server, "m") == "2"


def test_versions_that_did_not_change_stay(tmp_path: Path) -> None:
    model(tmp_path, "m", 1, config=LATEST_TWO)
    store = FakeStore()
    with live(explicit(tmp_path, "m"), store) as server:
        (first,) = store.keys
        model(tmp_path, "m", 2)
        assert load(server, "m")[0] == 200
        assert first in store.keys
        assert index(server) == {"m/1": "READY", "m/2": "READY"}
        assert answers(server, "m") == "2"
        status, data = tell(server, "POST", "/v2/models/m/versions/1/infer", request())
        assert (status, data["model_version"]) == (200, "1")
        model(tmp_path, "m", 2, "changed")
        assert load(server, "m")[0] == 200
        until(lambda: set(store.keys.values()) == {"fine", "changed"} and len(store.keys) == 2)
        assert first in store.keys


def test_configurations_and_files_that_come_with_the_request(tmp_path: Path) -> None:
    model(tmp_path, "m", 1)
    store = FakeStore()
    with live(explicit(tmp_path), store) as server:
        config = json.dumps({"max_batch_size": 4})
        assert load(server, "m", {"parameters": {"config": config}})[0] == 200
        assert tell(server, "GET", "/v2/models/m/config")[1]["max_batch_size"] == 4
        content = base64.b64encode(b"sent").decode()
        sent = {"config": config, "file:7/model.onnx": content}
        assert load(server, "m", {"parameters": sent})[0] == 200
        until(lambda: list(store.keys.values()) == ["sent"])
        assert answers(server, "m") == "7"
        for wrong in (
            {"file:1/model.onnx": content},
            {"config": "{"},
            {"config": 3},
            {"config": config, "file:1/../../x": content},
            {"config": config, "file:/1/model.onnx": content},
            {"config": config, "file:1/model.onnx": "no base64!"},
            {"config": config, "file:1/model.onnx": 3},
        ):
            assert load(server, "m", {"parameters": wrong})[0] == 400
        assert load(server, "m", {"parameters": [1]})[0] == 400
        assert answers(server, "m") == "7"


def test_without_explicit_control_clients_do_not_load(tmp_path: Path) -> None:
    model(tmp_path, "m")
    with live(Options(repositories=[tmp_path])) as server:
        assert answers(server, "m") == "1"
        for call in (load, unload):
            status, data = call(server, "m")
            assert (status, "--model-control-mode=explicit" in data["error"]) == (503, True)
        assert answers(server, "m") == "1"


def test_polling_follows_the_folder(tmp_path: Path) -> None:
    model(tmp_path, "a")
    model(tmp_path, "b", text="broken")
    options = Options(
        repositories=[tmp_path], control=Control.POLL, poll_s=0.02, exit_on_error=False
    )
    store = FakeStore()
    with live(options, store) as server:
        assert answers(server, "a") == "1"
        model(tmp_path, "c")
        model(tmp_path, "b", text="whole again")
        until(lambda: answers(server, "c") == "1" and answers(server, "b") == "1")
        model(tmp_path, "a", 2, "broken")
        until(lambda: index(server).get("a/2") == "UNAVAILABLE")
        assert answers(server, "a") == "1"
        told = len([text for text in server.said if "'a' cannot" in text])
        (tmp_path / "c" / "1" / "model.onnx").unlink()
        (tmp_path / "c" / "1").rmdir()
        (tmp_path / "c").rmdir()
        until(lambda: "no available" in answers(server, "c"))
        assert len([text for text in server.said if "'a' cannot" in text]) == told == 1


def test_the_start_fails_or_goes_on_as_it_is_told(tmp_path: Path) -> None:
    model(tmp_path, "good")
    model(tmp_path, "bad", text="broken")
    with pytest.raises(ServerError, match="bad"), live(Options(repositories=[tmp_path])):
        pass
    with live(Options(repositories=[tmp_path], exit_on_error=False)) as server:
        assert answers(server, "good") == "1"
        assert tell(server, "GET", "/v2/health/ready")[0] == 503
        assert tell(server, "GET", "/v2/health/live")[0] == 200
    options = Options(repositories=[tmp_path], exit_on_error=False, strict=False)
    with live(options) as server:
        assert tell(server, "GET", "/v2/health/ready")[0] == 200


def test_warm_up_runs_before_a_model_is_ready(tmp_path: Path) -> None:
    store = FakeStore()
    warmup = """
    model_warmup { name: "w" batch_size: 2 count: 3
      inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } } }
    """
    model(tmp_path, "m", config=warmup)
    model(tmp_path, "plain")
    with live(explicit(tmp_path, "m"), store) as server:
        assert [call["inputs"]["x"].shape for call in store.calls] == [(2, 4)] * 3
        load(server, "plain")
        assert store.calls[-1]["inputs"]["x"].shape == (1, 4)
        (tmp_path / "m" / "config.pbtxt").write_text(warmup.replace("[ 4 ]", "[ -4 ]"))
        assert load(server, "m")[0] == 400
        (tmp_path / "m" / "config.pbtxt").write_text(warmup.replace('"x"', '"z"'))
        assert load(server, "m")[0] == 400
        (tmp_path / "m" / "config.pbtxt").write_text(
            warmup.replace("random_data: true", 'input_data_file: "none"')
        )
        assert load(server, "m")[0] == 400
        assert answers(server, "m") == "1"


def test_requests_that_run_at_the_end_are_answered(tmp_path: Path) -> None:
    model(tmp_path, "m")
    store = FakeStore()
    store.hold = threading.Event()
    with live(explicit(tmp_path, "m"), store) as server:
        client = begin(server, "m")
        until(lambda: store.waiting)
        server.server.door.draining = True
        assert tell(server, "GET", "/v2/health/ready")[0] == 503
        assert tell(server, "GET", "/v2/models/m/ready")[0] == 200
        threading.Timer(0.2, store.hold.set).start()
    assert finish(client)[0] == 200


def test_many_cycles_leave_nothing(tmp_path: Path) -> None:
    model(tmp_path, "m")
    store = FakeStore()
    with live(explicit(tmp_path), store) as server:
        for _ in range(30):
            assert load(server, "m")[0] == 200
            assert answers(server, "m") == "1"
            assert unload(server, "m")[0] == 200
        until(lambda: not store.keys)


def test_names_never_lead_out_of_the_repository(tmp_path: Path) -> None:
    model(tmp_path / "repository", "m")
    model(tmp_path, "outside")
    repository = Repository([tmp_path / "repository"], lambda _: None)
    assert repository.names() == ["m"]
    for name in ("../outside", "..", ".", "", "/etc", "m/../../outside", "m\0"):
        with pytest.raises(ConfigError):
            repository.folder(name)
        assert not repository.has(name)
    for name in ("file:1/../x", "file:../x", "file:1//x", "file:0/x", "file:1/.x", "file:1/x/y"):
        with pytest.raises(ConfigError):
            write_override({name: b""}, tmp_path)


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Repository([tmp_path / "none"], lambda _: None)


def test_classes_have_the_names_that_a_file_gives_them(tmp_path: Path) -> None:
    labels = """output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] label_filename: "names" }"""
    model(tmp_path, "m", config=labels)
    with live(explicit(tmp_path)) as server:
        assert load(server, "m")[0] == 400, "there is no such file"
        (tmp_path / "m" / "names").write_text("cat\ndog\nbird\n")
        assert load(server, "m")[0] == 200
        wanted = request(outputs=[{"name": "y", "parameters": {"classification": 2}}])
        _, data = tell(server, "POST", "/v2/models/m/infer", wanted)
        assert data["outputs"][0]["data"] == ["6.000000:3", "4.000000:2:bird"]
