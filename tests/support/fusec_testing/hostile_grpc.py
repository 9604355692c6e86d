"""Messages over gRPC that nobody should send, by a seed, and the codes that may answer them.

They are for the model and server of `fusec_testing.hostile`.
"""

import random
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fusec_testing.hostile import BODY
from fusec_testing.mutate import mutations

_BAD = frozenset({"INVALID_ARGUMENT"})
_MISSING = frozenset({"NOT_FOUND"})
_LARGE = frozenset({"RESOURCE_EXHAUSTED"})
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Message:
    """One ModelInferRequest, in bytes."""

    what: str
    data: bytes
    codes: frozenset[str]


def messages(seed: int, count: int, make: Callable[..., Any]) -> Iterator[Message]:
    """Make so many of them, all kinds alike often.

    Args:
        seed: of the draws.
        count: of messages.
        make: the class of ModelInferRequest.
    """
    draw = random.Random(seed)
    kinds = [_shape, _raw, _typed, _names, _bytes, _parameters]
    for number in range(count):
        yield kinds[number % len(kinds)](draw, make)


def wires(seed: int, count: int) -> Iterator[bytes]:
    """Make so many connections' bytes that are no call, or one whose length lies."""
    draw = random.Random(seed)
    for _ in range(count):
        claim = draw.choice([2**31, 2**32 - 1, 100, BODY + 1])
        body = struct.pack(">BI", draw.choice([0, 1, 255]), claim) + draw.randbytes(40)
        call = _PREFACE + _frame(4, 0, 0) + _frame(1, 4, 1, _HEADERS) + _frame(0, 0, 1, body)
        yield draw.choice(
            [
                call,
                call[: draw.randint(1, len(call))],
                _PREFACE + draw.randbytes(300),
                draw.randbytes(300),
                _PREFACE + _frame(4, 0, 0) + _frame(1, 4, 1, draw.randbytes(50)),
                _PREFACE + _frame(0, 0, 99, body) * 20,
                b"GET / HTTP/1.1\r\n\r\n",
            ]
        )


def splash(port: int, data: bytes) -> None:
    """Connect, send, and leave."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(data)


def good(make: Callable[..., Any]) -> Any:
    """Give a message that is to be answered."""
    message = make(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.raw_input_contents.append(struct.pack("<4f", 0, 0.5, 1, 1.5))
    return message


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


_HEADERS = b"".join(
    _literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def _frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data


def _message(what: str, message: Any, codes: frozenset[str] = _BAD) -> Message:
    return Message(what[:80], message.SerializeToString(), codes)


def _shape(draw: random.Random, make: Any) -> Message:
    message = good(make)
    shape = draw.choice(
        [
            [-1, 4], [], [4], [1, 4, 1], [2**31, 4], [2**62, 4], [2**33, 2**33], [1, -4], [1] * 100,
            [2**63 - 1], [-(2**63), 4], [draw.randint(2, 1000), 4], [0, 4], [1, 0],
        ]
    )  # fmt: skip
    del message.inputs[0].shape[:]
    message.inputs[0].shape.extend(shape)
    return _message(f"shape {shape}", message)


def _raw(draw: random.Random, make: Any) -> Message:
    message = good(make)
    sizes = draw.choice([[0], [15], [17], [], [16, 16], [16, 0], [draw.randint(20, 5000)]])
    del message.raw_input_contents[:]
    message.raw_input_contents.extend([draw.randbytes(size) for size in sizes])
    if draw.random() < 0.2:
        sizes = [BODY + 1]
        message.raw_input_contents[:] = [bytes(BODY + 1)]
        return _message("too large", message, _LARGE)
    return _message(f"raw {sizes}", message)


def _typed(draw: random.Random, make: Any) -> Message:
    message = good(make)
    if draw.random() < 0.7:
        del message.raw_input_contents[:]
    field = draw.choice(["fp32_contents", "int_contents", "fp64_contents", "uint64_contents"])
    count = draw.choice([0, 1, 3, 5, 1000])
    getattr(message.inputs[0].contents, field).extend([1] * count)
    if message.raw_input_contents:
        message.inputs[0].contents.bool_contents.append(True)
    return _message(f"{field} {count}", message)


def _names(draw: random.Random, make: Any) -> Message:
    message = good(make)
    what = draw.randrange(9)
    if what < 4:
        message.model_name = draw.choice(["", "nope", "m" * 5000, "../m"])
        return _message(f"model {message.model_name}", message, _MISSING | _BAD)
    if what == 4:
        message.model_version = draw.choice(["9", "x", "-1", "9" * 50])
        return _message(f"version {message.model_version}", message, _MISSING | _BAD)
    if what == 5:
        message.inputs[0].name = draw.choice(["", "y", "x" * 5000])
    elif what == 6:
        message.inputs[0].datatype = draw.choice(["", "FP64", "INT32", "fp32", "BYTES", "F" * 5000])
    elif what == 7:
        message.outputs.add(name=draw.choice(["", "q"]))
    else:
        message.inputs.add().CopyFrom(message.inputs[0])
        message.raw_input_contents.append(bytes(16))
    return _message(f"names {what}", message)


def _bytes(draw: random.Random, make: Any) -> Message:
    text = good(make).SerializeToString()
    if draw.random() < 0.5:
        return Message("noise", b"\x0a\xff" + draw.randbytes(draw.randint(1, 300)), _BAD | _MISSING)
    (changed,) = mutations(text, draw.randrange(2**32), 1)
    return Message("mutated", changed, _BAD | _MISSING | {"OK", "UNIMPLEMENTED"})


def _parameters(draw: random.Random, make: Any) -> Message:
    message = good(make)
    name = draw.choice(["priority", "timeout", "slo_ms", "tenant", "a", "many"])
    if name == "many":
        for i in range(2000):
            message.parameters[f"p{i}"].int64_param = i
    elif name == "tenant":
        message.parameters[name].int64_param = 1
    elif name == "a":
        message.parameters[name].SetInParent()
    else:
        message.parameters[name].int64_param = draw.choice([-1, -(2**63)])
    return _message(f"parameter {name}", message)
