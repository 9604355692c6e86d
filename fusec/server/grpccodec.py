"""Infer requests and responses over gRPC; who sends raw contents is answered with raw contents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fusec.server.datatypes import BYTES, DATATYPES, Datatype
from fusec.server.errors import ServerError
from fusec.server.limits import Limits
from fusec.server.messages import NO_PARAMETERS, InferRequest, InferResponse, Tensor, Wanted
from fusec.server.parameters import read_parameters, read_text
from fusec.server.restrequest import tensor_of_bytes
from fusec.server.restresponse import wire_bytes
from fusec.server.shapes import read_shape

__all__ = ["parameters_of", "read_infer_message", "write_infer_message"]


def read_infer_message(message: Any, limits: Limits) -> InferRequest:
    """Read a ModelInferRequest; arrays are views of its raw contents.

    Raises:
        ServerError: anything that is not as the protocol says.
    Cost: 15 us.
    """
    raw = message.raw_input_contents
    inputs = message.inputs
    if len(inputs) > limits.tensors or len(message.outputs) > limits.tensors:
        raise ServerError(f"more than {limits.tensors} inputs or outputs")
    if raw and len(raw) != len(inputs):
        raise ServerError(f"{len(raw)} raw_input_contents for {len(inputs)} inputs")
    tensors = tuple(
        [_tensor(given, raw[i] if raw else None, limits) for i, given in enumerate(inputs)]
    )
    if len({t.name for t in tensors}) != len(tensors):
        raise ServerError("an input is given twice")
    outputs = tuple([_wanted(given, limits) for given in message.outputs])
    if len({w.name for w in outputs}) != len(outputs):
        raise ServerError("an output is asked for twice")
    return InferRequest(
        id=read_text(message.id, "'id'", limits),
        parameters=parameters_of(message.parameters, "the request", limits),
        inputs=tensors,
        outputs=outputs,
        binary=bool(raw),
    )


def write_infer_message(response: InferResponse, raw: bool, make: Any) -> Any:
    """Write a ModelInferResponse.

    Args:
        response: what to say.
        raw: whether its contents are to be raw; they are, where a datatype has no others.
        make: the message's class.
    """
    message = make(model_name=response.model, model_version=response.version, id=response.id)
    raw = raw or any(not tensor.datatype.json for tensor in response.outputs)
    for tensor in response.outputs:
        output = message.outputs.add(
            name=tensor.name, datatype=tensor.datatype.name, shape=tensor.array.shape
        )
        if raw:
            message.raw_output_contents.append(bytes(wire_bytes(tensor)))
        else:
            field = getattr(output.contents, tensor.datatype.contents or "")
            field.extend(tensor.array.ravel().tolist())
    return message


def parameters_of(given: Mapping[str, Any], what: str, limits: Limits) -> Any:
    """Read a map of InferParameter.

    Raises:
        ServerError: one has no value; too many, or too long.
    """
    if not given:
        return NO_PARAMETERS
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("value")
        if kind is None:
            raise ServerError(f"parameter {name[:80]!r} of {what} has no value")
        found[name] = getattr(value, kind)
    return read_parameters(found, what, limits)


def _tensor(given: Any, raw: bytes | None, limits: Limits) -> Tensor:
    name = read_text(given.name, "name of an input", limits)
    what = f"input {name!r}"
    datatype = DATATYPES.get(given.datatype)
    if datatype is None:
        raise ServerError(f"{what} has datatype {given.datatype[:40]!r}, which is not known")
    shape, count = read_shape(list(given.shape), what, limits)
    if given.parameters:
        parameters_of(given.parameters, what, limits)
    if raw is not None:
        if given.HasField("contents"):
            raise ServerError(f"{what} has contents beside raw_input_contents")
        array = tensor_of_bytes(memoryview(raw), datatype, shape, count, what)
        return Tensor(name, datatype, array)
    return Tensor(name, datatype, _typed(given.contents, datatype, shape, count, what))


def _typed(
    contents: Any, datatype: Datatype, shape: tuple[int, ...], count: int, what: str
) -> np.ndarray:
    if datatype.contents is None:
        raise ServerError(f"{what}: {datatype.name} can only be sent in raw_input_contents")
    values = getattr(contents, datatype.contents)
    if len(values) != count:
        raise ServerError(
            f"{what} has {len(values)} elements in {datatype.contents}, its shape {list(shape)} "
            f"has {count}"
        )
    if datatype is BYTES:
        texts = np.empty(count, dtype=object)
        texts[:] = list(values)
        return texts.reshape(shape)
    array = np.array(list(values), dtype=_wide(datatype))
    narrow = array.astype(datatype.numpy)
    if datatype.numpy.kind in "iu" and not np.array_equal(narrow, array):
        raise ServerError(f"{what} has a number that does not fit {datatype.name}")
    return narrow.reshape(shape)


def _wide(datatype: Datatype) -> np.dtype[np.generic]:
    """Give the dtype that holds whatever the typed field of a datatype can."""
    narrow = datatype.numpy.kind in "iu" and datatype.numpy.itemsize < 4
    return np.dtype(f"{datatype.numpy.kind}4") if narrow else datatype.numpy


def _wanted(given: Any, limits: Limits) -> Wanted:
    name = read_text(given.name, "name of an output", limits)
    parameters = parameters_of(given.parameters, f"output {name!r}", limits)
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise ServerError(f"'classification' of output {name!r} must be an unsigned integer")
    return Wanted(name, classes=classes)
