"""Requests that nobody should send, in thousands: all refused, and the server is as before."""

import importlib
import json
import struct
from collections.abc import Iterator

import pytest
import torch
from fusec_testing.hostile import BODY, attacks, good, send
from fusec_testing.hostile_grpc import good as good_message
from fusec_testing.hostile_grpc import messages, splash, wires
from fusec_testing.served_process import Served, serving
from torch import nn

import fusec

SEED = 7


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a model that is what it says: twice its input."""

    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    path = tmp_path_factory.mktemp("plan") / "m.fusec"
    fusec.compile({"m": Double().eval()}, examples={"m": torch.ones(1, 4)}).save(path)
    with serving(path, "--max-request-bytes", BODY, "--drain-seconds", 0) as running:
        yield running


def check_alive(server: Served) -> None:
    status, body = server.post("/v2/models/m/infer", good(2))
    assert status == 200, body
    assert json.loads(body)["outputs"][0]["data"] == [float(i) for i in range(8)]


def hammer(server: Served, count: int) -> list[str]:
    """Send attacks, a good request after each; tell what was not answered as it should be."""
    wrong = []
    server.hang_up()
    for attack in attacks(SEED, count):
        answer = send(server.http, attack)
        if attack.statuses and answer is not None:
            status, body = answer
            text = body.decode("utf-8", "replace")
            if status not in attack.statuses:
                wrong.append(f"{attack.what}: {status} {text[:200]}")
            elif status != 200 and text.startswith("{") and list(json.loads(text)) != ["error"]:
                wrong.append(f"{attack.what}: {text[:200]}")
        elif attack.statuses:
            wrong.append(f"{attack.what}: no answer")
        check_alive(server)
    return wrong


def hammer_grpc(server: Served, count: int) -> list[str]:
    """Do the same over gRPC; and throw bytes at its port that are no calls."""
    grpc = importlib.import_module("grpc")
    from fusec.server.grpctypes import SERVICE, types

    make, wrong = types()["ModelInferRequest"], []
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        wanted = good_message(make).SerializeToString()
        noise = wires(SEED, count // 4)
        for number, message in enumerate(messages(SEED, count - count // 4, make)):
            if number % 3 == 0 and (data := next(noise, None)) is not None:
                splash(server.grpc, data)
            try:
                call(message.data, timeout=30)
                code = "OK"
            except grpc.RpcError as e:
                code = e.code().name
            if code not in message.codes:
                wrong.append(f"{message.what}: {code}")
            answer = types()["ModelInferResponse"].FromString(call(wanted, timeout=30))
            assert answer.raw_output_contents[0] == struct.pack("<4f", 0, 1, 2, 3)
    return wrong


def test_hostile_requests_over_http(server: Served) -> None:
    assert hammer(server, 600) == []
    assert server.process.poll() is None


def test_hostile_messages_over_grpc(server: Served) -> None:
    assert hammer_grpc(server, 400) == []
    assert server.process.poll() is None


@pytest.mark.slow
def test_ten_thousand_leave_the_memory_as_it_was(server: Served) -> None:
    hammer(server, 1000)
    hammer_grpc(server, 1000)
    before = server.resident_bytes()
    assert hammer(server, 6000) == []
    assert hammer_grpc(server, 4000) == []
    assert server.process.poll() is None
    assert server.resident_bytes() - before < 8 << 20
