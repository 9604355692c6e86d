"""gRPC messages: the same numbers as clients have, typed and raw contents, malformed requests."""

from typing import Any

import numpy as np
import pytest
from fusec_testing.mutate import mutations
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.server.datatypes import DATATYPES
from fusec.server.errors import ServerError
from fusec.server.limits import Limits
from fusec.server.messages import InferResponse, Tensor

pytest.importorskip("google.protobuf")

from google.protobuf.message import DecodeError

from fusec.server.grpccodec import read_infer_message, write_infer_message
from fusec.server.grpctypes import types

LIMITS = Limits()
TYPED = [name for name, d in DATATYPES.items() if d.json and name != "BYTES"]


def request(
    datatype: str = "FP32", shape: Any = (2, 2), raw: bytes | None = None, **fields: Any
) -> Any:
    message = types()["ModelInferRequest"](model_name="m", **fields)
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    else:
        field = DATATYPES[datatype].contents
        values = [True, False, True, True] if datatype == "BOOL" else [1, 2, 3, 4]
        getattr(tensor.contents, field or "").extend(values)
    return message


def read(message: Any) -> Any:
    again = types()["ModelInferRequest"].FromString(message.SerializeToString())
    return read_infer_message(again, LIMITS)


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents(datatype: str) -> None:
    found = read(request(datatype))
    (tensor,) = found.inputs
    assert tensor.array.dtype == DATATYPES[datatype].numpy
    assert tensor.array.shape == (2, 2)
    assert tensor.array.ravel().astype(int).tolist()[0] == 1
    assert not found.binary


@pytest.mark.parametrize("datatype", [n for n in DATATYPES if n != "BYTES"])
def test_raw_contents(datatype: str) -> None:
    data = np.arange(4).astype(DATATYPES[datatype].numpy)
    found = read(request(datatype, raw=data.tobytes()))
    assert found.binary
    assert found.inputs[0].array.tobytes() == data.tobytes()


def test_strings_both_ways() -> None:
    message = request("BYTES", shape=[2], raw=b"\1\0\0\0a\0\0\0\0")
    assert read(message).inputs[0].array.tolist() == [b"a", b""]
    typed = types()["ModelInferRequest"]()
    typed.inputs.add(name="x", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"\xff")
    assert read(typed).inputs[0].array.tolist() == [b"\xff"]


def test_parameters_of_every_kind() -> None:
    message = request()
    message.parameters["priority"].uint64_param = 1
    message.parameters["timeout"].int64_param = 2
    message.parameters["tenant"].string_param = "ann"
    message.parameters["slo_ms"].double_param = 2.5
    message.parameters["sequence_end"].bool_param = True
    assert dict(read(message).parameters) == {
        "priority": 1,
        "timeout": 2,
        "tenant": "ann",
        "slo_ms": 2.5,
        "sequence_end": True,
    }


def test_malformed_requests_are_the_clients_fault() -> None:
    two = request(raw=b"\0" * 16)
    two.inputs.add(name="z", datatype="FP32", shape=[1])
    both = request()
    both.raw_input_contents.append(b"\0" * 16)
    twice = request()
    twice.inputs.add().CopyFrom(twice.inputs[0])
    empty = request()
    empty.parameters["a"].SetInParent()
    wanted = request()
    wanted.outputs.add(name="y")
    wanted.outputs.add(name="y")
    narrow = types()["ModelInferRequest"]()
    narrow.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    cases = [
        two,
        both,
        twice,
        empty,
        wanted,
        narrow,
        request(shape=[3]),
        request(shape=[-1, -4]),
        request(shape=[2**62, 2**62]),
        request(shape=[1] * 100),
        request(raw=b"\0" * 15),
        request(raw=b"\0" * 16, shape=[2**31, 2**31]),
        request("BYTES", raw=b"\xff\xff\xff\xff", shape=[1]),
        request("BYTES", raw=b"", shape=[2**40]),
        request("FP16", raw=b"\0" * 3, shape=[1]),
        request(id="x" * 5000),
    ]
    unknown = request()
    unknown.inputs[0].datatype = "FP8"
    half = request()
    half.inputs[0].datatype = "FP16"
    for message in [*cases, unknown, half]:
        with pytest.raises(ServerError) as caught:
            read(message)
        assert caught.value.fault.http == 400


def answer(array: np.ndarray, datatype: str) -> InferResponse:
    outputs = (Tensor("y", DATATYPES[datatype], array),)
    return InferResponse(id="7", model="m", version="3", outputs=outputs)


def test_answers_are_as_their_requests_were() -> None:
    make = types()["ModelInferResponse"]
    array = np.array([[1.5, 2.5]], dtype=np.float32)
    raw = write_infer_message(answer(array, "FP32"), True, make)
    assert raw.raw_output_contents[0] == array.tobytes()
    assert not raw.outputs[0].HasField("contents")
    typed = write_infer_message(answer(array, "FP32"), False, make)
    assert list(typed.outputs[0].contents.fp32_contents) == [1.5, 2.5]
    assert not typed.raw_output_contents
    assert (typed.id, typed.model_name, typed.model_version) == ("7", "m", "3")
    half = write_infer_message(answer(array.astype(np.float16), "FP16"), False, make)
    assert len(half.raw_output_contents[0]) == 4


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([None, b"\0" * 16]))
def test_mutations_never_do_harm(seed: int, raw: bytes | None) -> None:
    start = request(raw=raw, id="7")
    start.parameters["timeout"].int64_param = 2
    for text in mutations(start.SerializeToString(), seed, 50, (b"\xff", b"\0", b"\x7f\xff")):
        try:
            message = types()["ModelInferRequest"].FromString(text)
        except DecodeError:
            continue
        try:
            read_infer_message(message, LIMITS)
        except ServerError as e:
            assert e.fault.http == 400


def test_field_numbers_are_those_of_clients() -> None:
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2").DESCRIPTOR
    nested = {
        "TensorMetadata": "ModelMetadataResponse",
        "InferInputTensor": "ModelInferRequest",
        "InferRequestedOutputTensor": "ModelInferRequest",
        "InferOutputTensor": "ModelInferResponse",
        "ModelIndex": "RepositoryIndexResponse",
    }
    compared = 0
    for name, made in types().classes.items():
        if name in nested:
            message = theirs.message_types_by_name[nested[name]].nested_types_by_name[name]
        elif name in ("TraceSettingValue", "LogSettingValue"):
            outer = name.replace("Value", "Request").replace("LogSetting", "LogSettings")
            message = theirs.message_types_by_name[outer].nested_types_by_name["SettingValue"]
        elif name in theirs.message_types_by_name:
            message = theirs.message_types_by_name[name]
        else:
            continue
        for field in made.DESCRIPTOR.fields:
            other = message.fields_by_name[field.name]
            assert (other.number, other.type, other.is_repeated) == (
                field.number,
                field.type,
                field.is_repeated,
            ), (name, field.name)
            compared += 1
    assert compared > 100
