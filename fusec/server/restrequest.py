"""Infer requests over REST: JSON, JSON with binary tensors behind it, or one raw tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusec.server.bytestensor import unpack_bytes
from fusec.server.datatypes import BYTES, DATATYPES, Datatype
from fusec.server.errors import ServerError
from fusec.server.jsondata import read_data
from fusec.server.jsontext import parse_json
from fusec.server.limits import Limits
from fusec.server.messages import NO_PARAMETERS, InferRequest, Parameters, Tensor, Wanted
from fusec.server.parameters import read_parameters, read_text
from fusec.server.shapes import read_shape

__all__ = ["header_bytes", "raw_request", "read_infer", "tensor_of_bytes"]

_HEADER = "Inference-Header-Content-Length"
_NO_OUTPUTS: tuple[Wanted, ...] = ()


def header_bytes(given: bytes | None) -> int | None:
    """Read the header that says where JSON ends; None: there is none, and all is JSON.

    Raises:
        ServerError: no unsigned integer.
    """
    if given is None:
        return None
    text = given.strip()
    if not (text.isdigit() and len(text) <= 18):
        shown = text[:40].decode("latin-1")
        raise ServerError(f"{_HEADER} must be an unsigned integer, got {shown!r}")
    return int(text)


def read_infer(
    body: bytes | bytearray | memoryview, json_bytes: int | None, limits: Limits
) -> InferRequest:
    """Read an infer request; its arrays are views of the body where they were sent as binary data.

    Args:
        body: all of it, not compressed.
        json_bytes: how many of its bytes are JSON; None: all of them.
        limits: of what may be in it.

    Raises:
        ServerError: anything that is not as the protocol says.
    Cost: 10 us for a tensor sent as binary data, 20 us for 256 numbers of JSON.
    """
    view = memoryview(body)
    if json_bytes is None:
        json_bytes = len(view)
    if json_bytes > len(view):
        raise ServerError(f"{_HEADER} is {json_bytes}, but the body has {len(view)} bytes")
    data = parse_json(view[:json_bytes])
    if not isinstance(data, dict):
        raise ServerError("an infer request must be a JSON object")
    parameters = read_parameters(data.get("parameters"), "the request", limits)
    binary = _flag(parameters, "binary_data_output")
    return InferRequest(
        id=read_text(data.get("id", ""), "'id'", limits),
        parameters=parameters,
        inputs=_inputs(data, view[json_bytes:], limits),
        outputs=_outputs(data, binary, limits),
        binary=binary,
    )


def raw_request(
    body: bytes | bytearray | memoryview, name: str, datatype: Datatype, shape: Sequence[int]
) -> InferRequest:
    """Take a whole body as the one input of a model; one extent may be -1.

    Raises:
        ServerError: there are too few or too many bytes.
    """
    view = memoryview(body)
    what = f"input {name!r}"
    known = [max(1, extent) for extent in shape]
    if datatype is BYTES:
        array = _element(view)
        shape = [1] * len(shape)
    else:
        array = np.frombuffer(
            view[: len(view) // datatype.numpy.itemsize * datatype.numpy.itemsize],
            dtype=datatype.numpy,
        )
        each = int(np.prod(known))
        left = array.size // each
        free = [i for i, extent in enumerate(shape) if extent < 0]
        if len(free) > 1 or not array.size:
            raise ServerError(f"input byte size mismatch for input 'raw_input' ({what})")
        shape = [left if i in free else extent for i, extent in enumerate(shape)]
        if array.nbytes != len(view) or int(np.prod(shape)) != array.size:
            raise ServerError(
                f"input byte size mismatch for input 'raw_input' ({what}). "
                f"Expected {each * datatype.numpy.itemsize}, got {len(view)}"
            )
    tensor = Tensor(name, datatype, array.reshape(shape))
    return InferRequest(
        id="", parameters=NO_PARAMETERS, inputs=(tensor,), outputs=_NO_OUTPUTS, binary=True
    )


def tensor_of_bytes(
    data: memoryview, datatype: Datatype, shape: tuple[int, ...], count: int, what: str
) -> np.ndarray:
    """See raw bytes as a tensor, without copying them; BYTES become objects.

    Raises:
        ServerError: there are too few or too many.
    """
    if datatype is BYTES:
        return unpack_bytes(data, count, what).reshape(shape)
    wanted = count * datatype.numpy.itemsize
    if wanted != len(data):
        raise ServerError(
            f"input byte size mismatch for {what}. Expected {wanted}, got {len(data)}"
        )
    return np.frombuffer(data, dtype=datatype.numpy).reshape(shape)


def _inputs(data: dict[str, Any], rest: memoryview, limits: Limits) -> tuple[Tensor, ...]:
    if "inputs" not in data:
        raise ServerError(
            "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"
        )
    given = _objects(data["inputs"], "inputs", limits)
    tensors: list[Tensor] = []
    at = 0
    for record in given:
        tensor, size = _input(record, rest[at:], limits)
        tensors.append(tensor)
        at += size
    if at != len(rest):
        raise ServerError(
            f"the body has {len(rest) - at} bytes behind the last tensor that its JSON tells of"
        )
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise ServerError("an input is given twice")
    return tuple(tensors)


def _input(record: dict[str, Any], rest: memoryview, limits: Limits) -> tuple[Tensor, int]:
    """Read an input; give it and how many bytes of the rest are its own."""
    name = read_text(_member(record, "name", "an input"), "name of an input", limits)
    what = f"input {name!r}"
    datatype = DATATYPES.get(read_text(_member(record, "datatype", what), what, limits))
    if datatype is None:
        raise ServerError(f"{what} has datatype {record['datatype'][:40]!r}, which is not known")
    shape, count = read_shape(_member(record, "shape", what), what, limits)
    parameters = read_parameters(record.get("parameters"), what, limits)
    size = parameters.get("binary_data_size")
    if size is None:
        data = _member(record, "data", what)
        return Tensor(name, datatype, read_data(data, datatype, shape, count, what)), 0
    # KServe writes null beside a binary tensor without elements.
    if record.get("data") is not None:
        raise ServerError(f"{what} has both 'data' and 'binary_data_size'")
    if type(size) is not int or size < 0:
        raise ServerError(f"Unable to parse 'binary_data_size' of {what}: no unsigned integer")
    if size > len(rest):
        raise ServerError(f"{what} should have {size} bytes, but only {len(rest)} are left")
    return Tensor(name, datatype, tensor_of_bytes(rest[:size], datatype, shape, count, what)), size


def _outputs(data: dict[str, Any], binary: bool, limits: Limits) -> tuple[Wanted, ...]:
    given = data.get("outputs")
    if not given and (given is None or isinstance(given, list)):
        return _NO_OUTPUTS
    wanted = []
    for record in _objects(given, "outputs", limits):
        name = read_text(_member(record, "name", "an output"), "name of an output", limits)
        what = f"output {name!r}"
        parameters = read_parameters(record.get("parameters"), what, limits)
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise ServerError(f"Unable to parse 'classification' of {what}: no unsigned integer")
        wanted.append(Wanted(name, _flag(parameters, "binary_data", default=binary), classes))
    if len({w.name for w in wanted}) != len(wanted):
        raise ServerError("an output is asked for twice")
    return tuple(wanted)


def _objects(given: Any, what: str, limits: Limits) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(record, dict) for record in given):
        raise ServerError(f"Unable to parse {what!r}: it must be a list of objects")
    if len(given) > limits.tensors:
        raise ServerError(f"{len(given)} {what}, at most {limits.tensors} can be")
    return given


def _member(record: dict[str, Any], name: str, what: str) -> Any:
    if name not in record:
        raise ServerError(
            f"Unable to parse {name!r}: attempt to access non-existing object member of {what}"
        )
    return record[name]


def _flag(parameters: Parameters, name: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise ServerError(f"Unable to parse {name!r}: it must be true or false")
    return value


def _element(view: memoryview) -> np.ndarray:
    value = np.empty(1, dtype=object)
    value[0] = bytes(view)
    return value
