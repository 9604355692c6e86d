"""A signal to end while much runs: new requests are served on, those that run end, none is lost."""

import importlib
import json
import re
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from fusec_testing.live_server import finish, model, request, until
from fusec_testing.served_process import Served, started

SLOW, NEW = 50, 200


def begin(server: Served, rows: int) -> socket.socket:
    """Send a request and do not wait for its answer."""
    body = json.dumps(request(rows)).encode()
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client = socket.create_connection(("127.0.0.1", server.http), timeout=60)
    client.sendall(head.encode() + body)
    return client


def asked(server: Served, path: str) -> tuple[int, Any]:
    client = socket.create_connection(("127.0.0.1", server.http), timeout=60)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    status, body = finish(client)
    return status, json.loads(body)


def submitted(server: Served) -> int:
    """Give how many requests the store has been given."""
    client = socket.create_connection(("127.0.0.1", server.metrics), timeout=60)
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    found = re.search(rb"^fusec_submitted_total (\d+)$", finish(client)[1], re.M)
    assert found
    return int(found[1])


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionError:
        return True
    return False


def slow_messages(grpc: Any, server: Served) -> tuple[Any, list[Any]]:
    from fusec.server.grpctypes import SERVICE, types

    message = types()["ModelInferRequest"](model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    message.raw_input_contents.append(struct.pack("<8f", *range(8)))
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc}")
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    calls = [call.future(message.SerializeToString(), timeout=60) for _ in range(SLOW // 5)]
    return channel, calls


def test_a_signal_under_load_loses_no_request(tmp_path: Path) -> None:
    model(tmp_path / "models", "m")
    release = tmp_path / "release"
    with started("fusec_testing.slow_server", tmp_path / "models", release) as server:
        grpc = importlib.import_module("grpc")
        before = submitted(server)
        slow = [begin(server, 2) for _ in range(SLOW)]
        channel, calls = slow_messages(grpc, server)
        until(lambda: submitted(server) == before + SLOW + len(calls))
        server.process.send_signal(signal.SIGTERM)
        until(lambda: asked(server, "/v2/health/ready")[0] == 503)
        new = [finish(begin(server, 1)) for _ in range(NEW)]
        assert {status for status, _ in new} == {200}
        assert server.post("/v2/models/m/infer", json.dumps(request(1)).encode())[0] == 200
        # A second signal cuts the time short that balancers have, not that of requests.
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refused(server.http))
        until(lambda: refused(server.grpc))
        assert server.process.poll() is None
        release.touch()
        answers = [finish(client) for client in slow]
        assert {status for status, _ in answers} == {200}
        data = [json.loads(body)["outputs"][0]["data"] for _, body in answers]
        assert data == [[0, 2, 4, 6, 8, 10, 12, 14]] * SLOW
        assert all(call.result() for call in calls)
        channel.close()
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == 0, said
