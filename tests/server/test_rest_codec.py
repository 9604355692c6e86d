"""REST requests and responses: golden bytes, binary tensors as views, and everything malformed."""

import importlib
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from fusec_testing.mutate import mutations
from fusec_testing.serving import DOUBLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusec.server import jsontext
from fusec.server.datatypes import DATATYPES
from fusec.server.errors import ServerError
from fusec.server.limits import Limits
from fusec.server.messages import InferRequest, InferResponse, Tensor
from fusec.server.restrequest import header_bytes, raw_request, read_infer
from fusec.server.restresponse import write_infer

LIMITS = Limits()
SAME = [HealthCheck.function_scoped_fixture]
"""The parser is the same for all examples of a test."""
NUMBERS = [n for n, d in DATATYPES.items() if d.json and n not in ("BOOL", "BYTES")]


@pytest.fixture(params=["orjson", "json"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all of it with either parser."""
    if request.param == "orjson":
        monkeypatch.setattr(jsontext, "_fast", pytest.importorskip("orjson"))
    else:
        monkeypatch.setattr(jsontext, "_fast", None)


def body(**changes: Any) -> bytes:
    record = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}
    request: dict[str, Any] = {"inputs": [record]}
    for key, value in changes.items():
        (request if key in ("id", "inputs", "outputs", "parameters") else record)[key] = value
    return json.dumps(request).encode()


def binary(data: bytes, datatype: str = "FP32", shape: Any = (2, 2), size: Any = None) -> tuple:
    record = {
        "name": "x",
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": len(data) if size is None else size},
    }
    text = json.dumps({"inputs": [record]}).encode()
    return text + data, len(text)


def read(text: bytes, json_bytes: int | None = None) -> InferRequest:
    return read_infer(text, json_bytes, LIMITS)


def test_a_request_as_the_protocol_shows_it() -> None:
    text = b"""{"id": "42", "parameters": {"priority": 1, "tenant": "ann"},
        "inputs": [{"name": "a", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
                   {"name": "b", "shape": [3], "datatype": "BOOL", "data": [true, false, true]}],
        "outputs": [{"name": "y"}, {"name": "z", "parameters": {"classification": 2}}]}"""
    request = read(text)
    assert (request.id, dict(request.parameters)) == ("42", {"priority": 1, "tenant": "ann"})
    a, b = request.inputs
    assert a.array.dtype == np.uint32
    assert a.array.tolist() == [[1, 2], [3, 4]]
    assert b.array.tolist() == [True, False, True]
    assert [(w.name, w.binary, w.classes) for w in request.outputs] == [
        ("y", False, 0),
        ("z", False, 2),
    ]


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
@pytest.mark.parametrize("datatype", NUMBERS)
def test_flat_and_nested_data_of_every_datatype(datatype: str, data: Any) -> None:
    (tensor,) = read(body(datatype=datatype, data=data)).inputs
    assert tensor.array.dtype == DATATYPES[datatype].numpy
    assert tensor.array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("datatype", [n for n in NUMBERS if "INT" in n])
def test_the_ends_of_integers_are_exact(datatype: str) -> None:
    info = np.iinfo(str(DATATYPES[datatype].numpy))
    ends = [info.min, info.max]
    (tensor,) = read(body(datatype=datatype, shape=[2], data=ends)).inputs
    assert tensor.array.tolist() == ends
    for beyond in (info.min - 1, info.max + 1):
        with pytest.raises(ServerError):
            read(body(datatype=datatype, shape=[1], data=[beyond]))


def test_strings_are_bytes() -> None:
    (tensor,) = read(body(datatype="BYTES", shape=[2], data=["é", ""])).inputs
    assert tensor.array.tolist() == ["é".encode(), b""]


@pytest.mark.parametrize("datatype", [n for n in DATATYPES if n != "BYTES"])
def test_binary_tensors_are_views_of_the_body(datatype: str) -> None:
    dtype = DATATYPES[datatype].numpy
    data = np.arange(4).astype(dtype)
    text, size = binary(data.tobytes(), datatype)
    (tensor,) = read(text, size).inputs
    assert tensor.array.tobytes() == data.tobytes()
    assert tensor.array.shape == (2, 2)
    assert np.shares_memory(tensor.array, np.frombuffer(text, np.uint8))


def test_binary_strings() -> None:
    data = b"".join(struct.pack("<I", len(x)) + x for x in (b"ab", b"", b"\xff", b"c"))
    text, size = binary(data, "BYTES")
    assert read(text, size).inputs[0].array.tolist() == [[b"ab", b""], [b"\xff", b"c"]]


def test_several_binary_tensors_lie_in_order() -> None:
    records = [
        {"name": n, "shape": [1], "datatype": t, "parameters": {"binary_data_size": s}}
        for n, t, s in (("a", "INT16", 2), ("b", "FP64", 8))
    ]
    text = json.dumps({"inputs": records, "parameters": {"binary_data_output": True}}).encode()
    request = read(text + struct.pack("<hd", 7, 0.5), len(text))
    assert [t.array.tolist() for t in request.inputs] == [[7], [0.5]]
    assert request.binary


BAD_BODIES = {
    "nothing": b"",
    "no json": b"{",
    "no object": b"[]",
    "null": b"null",
    "nan": body(data=[1, 2, 3, None]).replace(b"null", b"NaN"),
    "infinity": body(data=[1, 2, 3, None]).replace(b"null", b"Infinity"),
    "too large for a double": body(data=[1, 2, 3, None]).replace(b"null", b"1e999"),
    "not utf-8": b'{"inputs":[{"name":"\xff\xfe"}]}',
    "deep": b'{"inputs":' + b"[" * 100_000,
    "deep and closed": b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "deep data": body(data=None).replace(b"null", b"[" * 900 + b"1" + b"]" * 900),
    "no inputs": b"{}",
    "inputs no list": body(inputs={"x": 1}),
    "inputs no objects": body(inputs=[1]),
    "too many inputs": body(inputs=[{}] * 2000),
    "input twice": body(inputs=json.loads(body())["inputs"] * 2),
    "no name": body(inputs=[{"shape": [1], "datatype": "FP32", "data": [1]}]),
    "name no string": body(name=3),
    "long name": body(name="x" * 5000),
    "long id": body(id="x" * 5000),
    "id no string": body(id=3),
    "negative shape": body(shape=[-1, 4]),
    "negative shape of the right size": body(shape=[-2, -2]),
    "string shape": body(shape="[2,2]"),
    "strings in shape": body(shape=["2", "2"]),
    "fractional shape": body(shape=[2.0, 2]),
    "boolean shape": body(shape=[True, 4]),
    "nested shape": body(shape=[[2, 2]]),
    "null shape": body(shape=None),
    "empty shape": body(shape=[]),
    "huge shape": body(shape=[2**62, 2**62]),
    "huge beside zero": body(shape=[0, 2**80], data=[]),
    "huge shape, no data": body(shape=[2**31, 2**31], data=[]),
    "long shape": body(shape=[1] * 100),
    "short data": body(data=[1, 2, 3]),
    "long data": body(data=[1, 2, 3, 4, 5]),
    "no data": body(data=[]),
    "data no list": body(data=1),
    "data an object": body(data={"a": 1}),
    "data a string": body(data="AAAA"),
    "ragged": body(data=[[1, 2, 3], [4]]),
    "nested otherwise": body(data=[[1], [2], [3], [4]]),
    "too nested": body(data=[[[1], [2]], [[3], [4]]]),
    "half nested": body(data=[[1, 2], 3, 4]),
    "string among numbers": body(data=[1, 2, "3", 4]),
    "boolean among numbers": body(data=[1, 2, True, 4]),
    "null among numbers": body(data=[1, 2, None, 4]),
    "object among numbers": body(data=[1, 2, {}, 4]),
    "fraction in integers": body(datatype="INT32", data=[1, 2, 3.5, 4]),
    "whole fraction in integers": body(datatype="INT32", data=[1, 2, 3.0, 4]),
    "number in booleans": body(datatype="BOOL", data=[1, 0, 1, 0]),
    "number in strings": body(datatype="BYTES", data=["a", "b", "c", 4]),
    "lone surrogate": body(datatype="BYTES", data=["\ud800", "", "", ""]),
    "does not fit": body(data=[1e300, 0, 0, 0]),
    "integer beyond floats": body(data=[10**400, 0, 0, 0]),
    "unknown datatype": body(datatype="FP8"),
    "datatype no string": body(datatype=32),
    "fp16 as json": body(datatype="FP16"),
    "bf16 as json": body(datatype="BF16"),
    "parameters no object": body(parameters=[1]),
    "parameter an object": body(parameters={"a": {}}),
    "many parameters": body(parameters={str(i): 1 for i in range(2000)}),
    "flag no boolean": body(parameters={"binary_data_output": 1}),
    "outputs no list": body(outputs="y"),
    "output no object": body(outputs=["y"]),
    "output without name": body(outputs=[{}]),
    "output twice": body(outputs=[{"name": "y"}, {"name": "y"}]),
    "classes no number": body(outputs=[{"name": "y", "parameters": {"classification": "2"}}]),
    "shared memory": body(outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]),
}


@pytest.mark.parametrize("why", BAD_BODIES)
def test_malformed_bodies_are_the_clients_fault(why: str) -> None:
    with pytest.raises(ServerError) as caught:
        read(BAD_BODIES[why])
    assert 400 <= caught.value.fault.http < 500
    assert len(str(caught.value)) < 1000


BAD_BINARY = {
    "short": binary(b"\0" * 12),
    "long": binary(b"\0" * 20),
    "size lies above": binary(b"\0" * 16, size=17),
    "size lies below": binary(b"\0" * 16, size=12),
    "size is negative": binary(b"\0" * 16, size=-16),
    "size is a string": binary(b"\0" * 16, size="16"),
    "size is a boolean": binary(b"\0" * 16, size=True),
    "two gigabytes": binary(b"\0" * 16, size=2**31),
    "beyond words": binary(b"\0" * 16, size=2**64),
    "huge shape": binary(b"\0" * 16, shape=(2**40, 2**20)),
    "strings too few": binary(struct.pack("<I", 1) + b"a", "BYTES", (2,)),
    "strings too many": binary(struct.pack("<I", 1) + b"abcdef", "BYTES", (1,)),
    "string of two gigabytes": binary(struct.pack("<I", 2**31) + b"abcd", "BYTES", (1,)),
    "huge shape of strings": binary(b"\0" * 16, "BYTES", (2**31,)),
}


TEXT, SIZE = binary(b"\0" * 16)
BAD_BINARY["bytes behind all tensors"] = (TEXT + b"more", SIZE)


@pytest.mark.parametrize("why", BAD_BINARY)
def test_malformed_binary_data_is_the_clients_fault(why: str) -> None:
    text, size = BAD_BINARY[why]
    with pytest.raises(ServerError) as caught:
        read(text, size)
    assert caught.value.fault.http == 400


def test_json_that_is_longer_than_the_body() -> None:
    with pytest.raises(ServerError, match="has"):
        read(body(), len(body()) + 1)


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"0x10", b"", b"abc", b"9" * 30, "²".encode()])
def test_bad_lengths_of_the_header(value: bytes) -> None:
    with pytest.raises(ServerError, match="unsigned integer"):
        header_bytes(value)


def test_lengths_of_the_header() -> None:
    assert header_bytes(None) is None
    assert header_bytes(b" 12 ") == 12


def test_claims_allocate_nothing() -> None:
    tracemalloc.start()
    try:
        for text, size in BAD_BINARY.values():
            with pytest.raises(ServerError):
                read(text, size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_raw_requests() -> None:
    port = DOUBLES.inputs[0]
    data = np.arange(8, dtype=np.float32)
    request = raw_request(data.tobytes(), "x", port.datatype, port.shape)
    assert request.inputs[0].array.tolist() == data.reshape(2, 4).tolist()
    assert request.binary
    for bad in (b"", b"\0" * 15, b"\0" * 18):
        with pytest.raises(ServerError, match="raw_input"):
            raw_request(bad, "x", port.datatype, port.shape)
    with pytest.raises(ServerError, match="raw_input"):
        raw_request(b"\0" * 32, "x", port.datatype, (1, 4))
    with pytest.raises(ServerError, match="raw_input"):
        raw_request(b"\0" * 32, "x", port.datatype, (-1, -1))


def answer(**arrays: np.ndarray) -> InferResponse:
    names = {d.numpy: d for n, d in DATATYPES.items() if n != "BF16"}
    outputs = tuple(Tensor(n, names[a.dtype], a) for n, a in arrays.items())
    return InferResponse(id="7", model="m", version="1", outputs=outputs)


def test_a_response_as_the_protocol_shows_it() -> None:
    y = np.array([[0.5, -1.0]], dtype=np.float32)
    written = write_infer(answer(y=y), [False])
    assert json.loads(written.body) == {
        "id": "7",
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}],
    }
    assert written.json_bytes is None


def test_binary_and_json_outputs_of_one_response() -> None:
    y, n = np.array([[1.5, 2.5]], dtype=np.float32), np.array([3], dtype=np.int64)
    written = write_infer(answer(y=y[:, ::-1], n=n), [True, False])
    assert written.json_bytes is not None
    head = json.loads(written.body[: written.json_bytes])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "data" not in head["outputs"][0]
    assert head["outputs"][1]["data"] == [3]
    assert written.body[written.json_bytes :] == struct.pack("<2f", 2.5, 1.5)


def test_numbers_that_json_lacks_become_null() -> None:
    y = np.array([np.nan, np.inf, 1.0], dtype=np.float32)
    assert json.loads(write_infer(answer(y=y), [False]).body)["outputs"][0]["data"] == [
        None,
        None,
        1.0,
    ]


def test_halves_are_never_json() -> None:
    half = answer(y=np.zeros(2, dtype=np.float16))
    with pytest.raises(ServerError, match="binary"):
        write_infer(half, [False])
    assert write_infer(half, [True]).body.endswith(b"\0" * 4)


def test_a_response_without_elements() -> None:
    empty = answer(y=np.zeros((0, 4), dtype=np.float32))
    assert json.loads(write_infer(empty, [False]).body)["outputs"][0]["data"] == []
    assert b'"binary_data_size":0' in write_infer(empty, [True]).body


@settings(max_examples=60, suppress_health_check=SAME)
@given(st.integers(0, 2**32), st.sampled_from([(body(), None), binary(b"\0" * 16)]))
def test_mutations_never_do_harm(seed: int, start: tuple) -> None:
    """Thousands of them: whatever comes is read, or is the client's fault."""
    text, size = start
    for changed in mutations(text, seed, 50):
        for moved in (size, len(changed) // 2):
            try:
                request = read(changed, moved)
            except ServerError as e:
                assert 400 <= e.fault.http < 500
            else:
                assert sum(t.array.nbytes for t in request.inputs) <= 8 * len(changed)


@settings(max_examples=60, suppress_health_check=SAME)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    record = {"name": "x", "shape": [1], "datatype": "FP32", "data": value}
    for candidate in (
        value,
        {"inputs": value},
        {"inputs": [record]},
        {"inputs": [record | {"shape": value}]},
    ):
        try:
            read(json.dumps(candidate).encode())
        except ServerError as e:
            assert e.fault.http == 400


def test_the_fallback_is_what_runs_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert jsontext._orjson() is None
