"""Triton's own client library against a live server: HTTP and gRPC, plain and asyncio."""

import asyncio
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fusec_testing.live_server import Live, until
from fusec_testing.serving import FakeStore

pytest.importorskip("tritonclient.http")
pytest.importorskip("tritonclient.grpc")
pytest.importorskip("uvicorn")

import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

# Their own loops and sockets warn about things that are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")
X = np.arange(8, dtype=np.float32).reshape(2, 4)
LIBRARIES = [tritonclient.http, tritonclient.grpc]


@contextmanager
def client_of(library: Any, server: Live) -> Iterator[Any]:
    url = server.http if library is tritonclient.http else server.grpc
    client = library.InferenceServerClient(url)
    try:
        yield client
    finally:
        client.close()


def inputs(library: Any, x: np.ndarray = X, name: str = "x", **how: Any) -> list[Any]:
    given = library.InferInput(name, list(x.shape), "FP32")
    given.set_data_from_numpy(x, **how)
    return [given]


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_that_a_client_can_ask(library: Any, server: Live) -> None:
    with client_of(library, server) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.is_model_ready("m", "3")
        assert not client.is_model_ready("nope")
        as_json = {} if library is tritonclient.http else {"as_json": True}
        assert client.get_server_metadata(**as_json)["name"] == "fusec"
        metadata = client.get_model_metadata("m", **as_json)
        assert [i["name"] for i in metadata["inputs"]] == ["x"]
        config = client.get_model_config("m", **as_json)
        config = config.get("config", config)
        assert (config["name"], config["max_batch_size"]) == ("m", 8)
        assert config["input"][0]["data_type"] == "TYPE_FP32"
        client.infer("counted", inputs(library))
        statistics = client.get_inference_statistics("counted", **as_json)
        assert int(statistics["model_stats"][0]["inference_count"]) >= 2
        assert len(client.get_inference_statistics(**as_json)["model_stats"]) == 5
        index = client.get_model_repository_index(**as_json)
        rows = index if isinstance(index, list) else index["models"]
        assert {"name": "m", "version": "3", "state": "READY"} in rows


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_not_here_reads_as_switched_off(library: Any, server: Live) -> None:
    with client_of(library, server) as client:
        as_json = {} if library is tritonclient.http else {"as_json": True}
        for trace in (
            client.get_trace_settings(**as_json),
            client.get_trace_settings("m", **as_json),
        ):
            level = trace.get("settings", trace)["trace_level"]
            assert level in (["OFF"], {"value": ["OFF"]})
        log = client.get_log_settings(**as_json)
        assert log.get("settings", log)["log_info"] in (True, {"bool_param": True})
        assert not client.get_system_shared_memory_status(**as_json)
        assert not client.get_cuda_shared_memory_status(**as_json)
        for change in (
            lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
            lambda: client.register_system_shared_memory("a", "/a", 8),
        ):
            with pytest.raises(InferenceServerException) as caught:
                change()
            assert caught.value.status() in ("501", "StatusCode.UNIMPLEMENTED")


@pytest.mark.parametrize("library", LIBRARIES)
def test_inference(library: Any, server: Live, store: FakeStore) -> None:
    with client_of(library, server) as client:
        answer = client.infer(
            "m",
            inputs(library),
            outputs=[library.InferRequestedOutput("n"), library.InferRequestedOutput("y")],
            request_id="7",
            priority=1,
            timeout=2000,
            parameters={"tenant": "ann", "slo_ms": 1.5},
        )
        assert np.array_equal(answer.as_numpy("y"), X * 2)
        assert answer.as_numpy("n").tolist() == [0, 1]
        response = answer.get_response()
        identity = response["id"] if isinstance(response, dict) else response.id
        assert identity == "7"
        call = store.calls[-1]
        assert (call["tenant"], call["priority"], call["deadline_ms"]) == ("ann", 2, 1.5)
        both = client.infer("plain", inputs(library))
        assert np.array_equal(both.as_numpy("y"), X * 2)


def test_inference_over_http_without_binary_data(server: Live) -> None:
    library = tritonclient.http
    with client_of(library, server) as client:
        wanted = [library.InferRequestedOutput("y", binary_data=False)]
        answer = client.infer("m", inputs(library, binary_data=False), outputs=wanted)
        assert np.array_equal(answer.as_numpy("y"), X * 2)
        packed = client.infer(
            "m",
            inputs(library),
            request_compression_algorithm="gzip",
            response_compression_algorithm="gzip",
        )
        assert np.array_equal(packed.as_numpy("y"), X * 2)


@pytest.mark.parametrize("library", LIBRARIES)
def test_classification(library: Any, server: Live) -> None:
    with client_of(library, server) as client:
        wanted = [library.InferRequestedOutput("y", class_count=2)]
        answer = client.infer("m", inputs(library), outputs=wanted)
        assert answer.as_numpy("y")[0].tolist() == [b"6.000000:3", b"4.000000:2"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_failures(library: Any, server: Live) -> None:
    wrong_shape = np.zeros((2, 3), dtype=np.float32)
    cases = [
        ("nope", inputs(library), {"404", "StatusCode.NOT_FOUND"}),
        ("m", inputs(library, wrong_shape), {"400", "StatusCode.INVALID_ARGUMENT"}),
        ("m", inputs(library, name="z"), {"400", "StatusCode.INVALID_ARGUMENT"}),
        ("m", [], {"400", "StatusCode.INVALID_ARGUMENT"}),
    ]
    with client_of(library, server) as client:
        for name, given, statuses in cases:
            with pytest.raises(InferenceServerException) as caught:
                client.infer(name, given)
            assert caught.value.status() in statuses
        assert np.array_equal(client.infer("m", inputs(library)).as_numpy("y"), X * 2)


@pytest.mark.parametrize("library", LIBRARIES)
def test_load_and_unload(library: Any, server: Live) -> None:
    with client_of(library, server) as client:
        client.unload_model("left")
        assert not client.is_model_ready("left")
        client.load_model("left", config='{"max_batch_size": 2}')
        assert client.is_model_ready("left")
        client.load_model("left", config="{}", files={"file:5/model.onnx": b"sent"})
        assert client.is_model_ready("left", "5")
        client.load_model("left")
        assert client.is_model_ready("left", "1")
        with pytest.raises(InferenceServerException, match="failed to load"):
            client.load_model("nope")


def test_many_at_once_over_http(server: Live) -> None:
    library = tritonclient.http
    client = library.InferenceServerClient(server.http, concurrency=8)
    try:
        given = [np.full((1, 4), i, dtype=np.float32) for i in range(40)]
        asked = [client.async_infer("plain", inputs(library, x)) for x in given]
        for x, request in zip(given, asked, strict=True):
            assert np.array_equal(request.get_result().as_numpy("y"), x * 2)
    finally:
        client.close()


def test_streams_over_grpc(server: Live) -> None:
    library = tritonclient.grpc
    found: list[Any] = []
    with client_of(library, server) as client:
        client.start_stream(lambda result, error: found.append((result, error)))
        client.async_stream_infer("plain", inputs(library))
        client.async_stream_infer("nope", inputs(library))
        client.async_stream_infer("plain", inputs(library))
        client.stop_stream()
    assert np.array_equal(found[0][0].as_numpy("y"), X * 2)
    assert "not found" in str(found[1][1])
    assert np.array_equal(found[2][0].as_numpy("y"), X * 2)


def test_requests_of_a_stream_run_together_and_are_answered_in_order(
    server: Live, store: FakeStore
) -> None:
    library = tritonclient.grpc
    store.hold = threading.Event()
    found: list[Any] = []
    given = [np.full((1, 4), i, dtype=np.float32) for i in range(5)]
    with client_of(library, server) as client:
        client.start_stream(lambda result, error: found.append(result))
        for x in given:
            client.async_stream_infer("plain", inputs(library, x))
        until(lambda: len(store.waiting) == 5)
        assert not found
        store.hold.set()
        client.stop_stream()
    assert all(np.array_equal(r.as_numpy("y"), x * 2) for r, x in zip(found, given, strict=True))
    last = found[-1].get_response().parameters["triton_final_response"]
    assert last.bool_param


def test_a_stream_that_is_broken_off_takes_its_requests_along(
    server: Live, store: FakeStore
) -> None:
    library = tritonclient.grpc
    store.hold = threading.Event()
    with client_of(library, server) as client:
        client.start_stream(lambda result, error: None)
        for _ in range(3):
            client.async_stream_infer("plain", inputs(library))
        until(lambda: len(store.waiting) == 3)
        client.stop_stream(cancel_requests=True)
        until(lambda: all(future.cancelled() for future in store.waiting))
    store.hold.set()


@pytest.mark.parametrize("name", ["tritonclient.http.aio", "tritonclient.grpc.aio"])
def test_asyncio_clients(name: str, server: Live) -> None:
    library = importlib.import_module(name)

    async def main() -> None:
        client = library.InferenceServerClient(server.http if "http" in name else server.grpc)
        try:
            assert await client.is_server_ready()
            given = [np.full((1, 4), i, dtype=np.float32) for i in range(20)]
            answers = await asyncio.gather(
                *[client.infer("plain", inputs(library, x)) for x in given]
            )
            for x, answer in zip(given, answers, strict=True):
                assert np.array_equal(answer.as_numpy("y"), x * 2)
            with pytest.raises(InferenceServerException):
                await client.infer("nope", inputs(library))
        finally:
            await client.close()

    asyncio.run(main())


def test_deadlines_and_cancelled_calls_over_grpc(server: Live, store: FakeStore) -> None:
    library = tritonclient.grpc
    store.hold = threading.Event()
    with client_of(library, server) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.infer("plain", inputs(library), client_timeout=0.3)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert 0 < store.calls[-1]["deadline_ms"] <= 310  # gRPC rounds
        until(lambda: store.waiting[0].cancelled())
        call = client.async_infer("plain", inputs(library), lambda result, error: None)
        until(lambda: len(store.waiting) == 2)
        call.cancel()
        until(lambda: store.waiting[1].cancelled())
        store.hold.set()
        assert np.array_equal(client.infer("plain", inputs(library)).as_numpy("y"), X * 2)


def test_grpc_health_checks(server: Live) -> None:
    """With the numbers of grpc.health.v1: 1 is SERVING, 2 is NOT_SERVING."""
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        server.server.door.draining = True
        try:
            assert check(b"") == b"\x08\x02"
        finally:
            server.server.door.draining = False
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nope")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            infer(b"\xff\xff\xff noise")
        assert check(b"") == b"\x08\x01"
