"""Requests over HTTP that nobody should send, by a seed, and how each is to be answered.

They are for a model that takes "x", float32 [rows, 4], on a server that allows bodies of `BODY`.
"""

import gzip
import json
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fusec_testing.mutate import mutations

BODY = 1 << 20
_INFER = "/v2/models/m/infer"
_BAD = frozenset({400})
_MISSING = frozenset({404})
_LARGE = frozenset({413})
_ANY = frozenset({200, 400, 404, 405, 408, 411, 413, 414, 415, 431, 501, 505})
"""Of what may by chance be a request: anything but a fault of the server."""


@dataclass(frozen=True)
class Attack:
    """One connection's bytes."""

    what: str
    sent: bytes
    statuses: frozenset[int]
    """That may be answered; none: the client leaves without waiting."""


def attacks(seed: int, count: int) -> Iterator[Attack]:
    """Make so many of them, all kinds alike often."""
    draw = random.Random(seed)
    kinds: list[Callable[[random.Random], Attack]] = [
        _shape, _data, _datatype, _text, _mutated, _names, _binary, _header, _length, _chunks,
        _packed, _noise, _parameters, _head,
    ]  # fmt: skip
    for number in range(count):
        yield kinds[number % len(kinds)](draw)


def send(port: int, attack: Attack) -> tuple[int, bytes] | None:
    """Send one; give the status and body of the first answer, if any came."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(attack.sent)
            if not attack.statuses:
                return None
            data = b""
            while not _whole(data):
                more = client.recv(1 << 16)
                if not more:
                    break
                data += more
        except ConnectionError:
            # It closed while we still sent: what it said before may be lost.
            return None
    if not data.startswith(b"HTTP/1.1 "):
        return None
    return int(data[9:12]), data.partition(b"\r\n\r\n")[2]


def good(rows: int = 1) -> bytes:
    """Give the body of a request that is to be answered."""
    return json.dumps({"inputs": [_tensor(rows)]}).encode()


def _whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    lines = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return len(body) >= int(lines.get(b"content-length", b"0"))


def _tensor(rows: int = 1, **more: Any) -> dict[str, Any]:
    data = [0.5 * i for i in range(rows * 4)]
    return {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data, **more}


def _post(body: bytes, path: str = _INFER, method: str = "POST", **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    named = {"Content-Length": len(body), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines += [f"{name}: {value}" for name, value in named.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _infer(what: str, value: Any, statuses: frozenset[int] = _BAD, **headers: object) -> Attack:
    return Attack(what, _post(json.dumps(value).encode(), **headers), statuses)


def _shape(draw: random.Random) -> Attack:
    shape: Any = draw.choice(
        [
            [-1, 4], [1, -4], ["1", "4"], "1,4", None, {}, [], [4], [1, 4, 1], [1.0, 4], [True, 4],
            [2**31, 4], [2**63, 4], [2**64, 4], [10**30, 4], [1, 2**62, 4], [0, 4], [2**33, 2**33],
            [1] * 100, [[1, 4]], [None, 4], [1, "a"], [draw.randint(-(2**70), 2**70), 4], 4, -1,
        ]
    )  # fmt: skip
    return _infer(f"shape {shape}"[:80], {"inputs": [_tensor(shape=shape)]})


def _data(draw: random.Random) -> Attack:
    rows = draw.randint(1, 3)
    count = rows * 4
    data: Any = draw.choice(
        [
            [1.0] * draw.randint(0, count - 1),
            [1.0] * draw.randint(count + 1, 4000),
            ["1"] * count,
            [None] * count,
            [True] * count,
            [[1.0]] * count,
            [[1.0, 2.0], [3.0]],
            [{}] * count,
            "1, 2, 3, 4",
            None,
            5,
            {"0": 1},
            [1e39] * count,
            [[[[[[1.0] * count]]]]] * 2,
        ]
    )
    return _infer(f"data {data}"[:80], {"inputs": [_tensor(rows, data=data)]})


def _datatype(draw: random.Random) -> Attack:
    name: Any = draw.choice(
        ["FP64", "INT32", "BYTES", "BOOL", "fp32", "FLOAT", "", "F" * 5000, None, 7, [], "BF16"]
    )
    return _infer(f"datatype {name}"[:80], {"inputs": [_tensor(datatype=name)]})


def _text(draw: random.Random) -> Attack:
    body = good(2)
    deep = draw.choice([100, 5_000, 200_000])
    value = draw.choice(
        [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x10", b"01", b"nan", b"+1"]
    )
    text = draw.choice(
        [
            body[: draw.randint(0, len(body) - 1)],
            body.replace(b"0.5", value),
            b"[" * deep,
            b'{"a":' * deep,
            body.replace(b"[0.0", b"[" * deep + b"0.0"),
            b"\xff\xfe" + body,
            b"\xef\xbb\xbf{",
            body + body,
            body.replace(b'"x"', b'"\xff\xfe"'),
            body.replace(b'"x"', b'"\\ud800"'),
            b"",
            b"null",
            b"[]",
            b"3",
            b'""',
            b'{"inputs": null}',
            b'{"inputs": {}}',
            b'{"inputs": [null]}',
            b'{"inputs": [[]]}',
            b"{}",
            b'{"inputs": []}',
            b'{"inputs": [' + b'{"name":"x"},' * 3000 + b"{}]}",
        ]
    )
    return Attack(f"text {text[:60]!r}", _post(text), _BAD)


def _mutated(draw: random.Random) -> Attack:
    (text,) = mutations(good(draw.randint(1, 3)), draw.randrange(2**32), 1)
    return Attack(f"mutated {text[:80]!r}", _post(text), frozenset({200, 400}))


def _names(draw: random.Random) -> Attack:
    body = good()
    path, method, statuses = draw.choice(
        [
            ("/v2/models/nope/infer", "POST", _MISSING),
            ("/v2/models/m/versions/9/infer", "POST", _MISSING),
            ("/v2/models/m/versions/99999999999999999999999/infer", "POST", _MISSING),
            ("/v2/models/%00%ff/infer", "POST", _MISSING),
            ("/v2/models/..%2f..%2fetc%2fpasswd/infer", "POST", _MISSING),
            ("/v2/models/" + "m" * 5000 + "/infer", "POST", _MISSING),
            ("/v2/models/m/versions/-1/infer", "POST", _MISSING),
            ("/v2/models//infer", "POST", _MISSING),
            ("/v2/models/m/infer/", "POST", _MISSING),
            ("/../../etc/passwd", "GET", _MISSING),
            (_INFER, "PUT", frozenset({405})),
            (_INFER, "DELETE", frozenset({405})),
            ("/v2/models/m", "POST", frozenset({405})),
        ]
    )
    if draw.random() < 0.3:
        wrong: Any = draw.choice(
            [
                {"inputs": [_tensor(), _tensor()]},
                {"inputs": [_tensor(name="y")]},
                {"inputs": [_tensor(name=None)]},
                {"inputs": [_tensor()], "outputs": [{"name": "q"}]},
                {"inputs": [_tensor()], "outputs": {}},
                {"inputs": [_tensor()], "outputs": [{}]},
                {"inputs": [_tensor()], "id": 7},
                {"inputs": [_tensor()], "id": "i" * 5000},
                {"inputs": [{"name": "x"}]},
            ]
        )
        return _infer(f"names {wrong}"[:80], wrong)
    return Attack(f"{method} {path}"[:80], _post(body, path, method), statuses)


def _binary(draw: random.Random) -> Attack:
    data = draw.randbytes(16)
    size: Any = draw.choice([0, 8, 17, 2**31, 2**63, 2**70, -1, -16, "16", None, 16.0, True, []])
    tensor = _tensor(parameters={"binary_data_size": size})
    if draw.random() < 0.8:
        del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference_Header_Content_Length": len(head)}
    return Attack(f"binary size {size}", _post(head + data, **length), _BAD)


def _header(draw: random.Random) -> Attack:
    tensor = _tensor(parameters={"binary_data_size": 16})
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    length: Any = draw.choice(
        [
            -1, "x", "", "1e3", "0x10", 2**31, 2**63, 10**40, len(head) - 1, len(head) + 1, 1,
            len(head) + 15, "9" * 500, f"{len(head)}, {len(head)}", 0.5, "٣",
        ]
    )  # fmt: skip
    sent = _post(head + draw.randbytes(16), Inference_Header_Content_Length=length)
    return Attack(f"header length {length!r}"[:80], sent, _BAD)


def _length(draw: random.Random) -> Attack:
    body = good()
    claim, statuses = draw.choice(
        [
            (2**31, _LARGE),
            (BODY + 1, _LARGE),
            (2**63, frozenset({400, 413})),
            (2**64, frozenset({400, 413})),
            (10**30, frozenset({400, 413})),
            (-1, _BAD),
            ("x", _BAD),
            ("1 2", _BAD),
            (draw.randint(1, len(body) - 1), _BAD),
            (len(body) + draw.randint(1, BODY - 1000), frozenset()),
            (None, _BAD),
        ]
    )
    return Attack(f"content-length {claim}", _post(body, Content_Length=claim), statuses)


def _chunks(draw: random.Random) -> Attack:
    body = good()
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    sent, statuses = draw.choice(
        [
            (b"zz\r\n" + body, _BAD),
            (b"-1\r\n" + body, _BAD),
            (b"%x\r\n%s" % (len(body) - 1, body), _BAD),
            (b"ffffffffffffffffff\r\n" + body, _BAD),
            (b"80000000\r\n" + body, frozenset()),
            (chunk, frozenset()),
            (chunk * 2 + b"0\r\n\r\n", _BAD),
            (b"0\r\n\r\n", _BAD),
            (b"100000\r\n" + b" " * 0x100000 + b"\r\n1\r\n \r\n0\r\n\r\n", _LARGE),
        ]
    )
    head = _post(b"", Content_Length=None, Transfer_Encoding="chunked")
    return Attack(f"chunks {sent[:30]!r}", head + sent, statuses)


_BOMB = gzip.compress(b" " * (8 * BODY))


def _packed(draw: random.Random) -> Attack:
    packed = gzip.compress(good())
    encoding, body, statuses = draw.choice(
        [
            ("gzip", packed[: draw.randint(1, len(packed) - 1)], _BAD),
            ("gzip", draw.randbytes(40), _BAD),
            ("deflate", packed, _BAD),
            ("gzip", _BOMB, _LARGE),
            ("br", packed, frozenset({415})),
            ("gzip, gzip", packed, frozenset({415})),
            ("", packed, _BAD),
        ]
    )
    return Attack(f"{encoding} {len(body)}", _post(body, Content_Encoding=encoding), statuses)


def _noise(draw: random.Random) -> Attack:
    noise = draw.randbytes(draw.randint(1, 2000))
    if draw.random() < 0.5:
        return Attack("noise for a body", _post(noise), _BAD)
    (changed,) = mutations(_post(good()), draw.randrange(2**32), 1)
    # What it has broken may leave the server waiting for more, so the client leaves, too.
    return Attack("noise", draw.choice([noise, changed]), frozenset())


def _parameters(draw: random.Random) -> Attack:
    parameters: Any = draw.choice(
        [
            {"priority": -1}, {"priority": "high"}, {"timeout": "1"}, {"timeout": -5},
            {"slo_ms": 0}, {"slo_ms": "soon"}, {"slo_ms": -1}, {"tenant": 1}, {"priority": 1.5},
            {"tenant": "t" * 5000},
            {"binary_data_output": "yes"}, {"a": {"b": 1}}, {"a": [1]}, [], "x", 5,
            {f"p{i}": i for i in range(2000)}, {"priority": 2**70}, {"timeout": 1e999},
        ]
    )  # fmt: skip
    return _infer(
        f"parameters {parameters}"[:80], {"inputs": [_tensor()], "parameters": parameters}
    )


def _head(draw: random.Random) -> Attack:
    what, sent = draw.choice(
        [
            ("many headers", _post(good(), **{f"A{i}": "b" for i in range(500)})),
            ("long header", _post(good(), A="b" * 60_000)),
            ("bad name", _post(good(), **{"A B": "c"})),
            ("line breaks", _post(good(), A="b\r\n c")),
            ("old", _post(good()).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
            ("new", _post(good()).replace(b"HTTP/1.1", b"HTTP/9.9", 1)),
            ("no host", _post(good()).replace(b"Host: x\r\n", b"", 1)),
            ("upgrade", _post(good(), Connection="Upgrade", Upgrade="websocket")),
            ("odd method", _post(good(), method="BREW")),
            ("two lengths", _post(good(), **{"content-length": 3})),
            ("expect", _post(good(), Expect="200-nothing")),
            ("odd query", _post(good(), _INFER + "?%ff&&==" + "a" * 3000)),
        ]
    )
    return Attack(what, sent, _ANY)
