"""Reads an ONNX model from a path, bytes or a proto, and checks that it can be imported."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from fusec.importers.onnx.external import Reader, tensors_of
from fusec.importers.onnx.graph import Graph, Unknown
from fusec.importers.onnx.parse import Parser
from fusec.importers.onnx.text import check_text
from fusec.ir.errors import ConfigError, ImportFailed

Source = str | Path | bytes | onnx.ModelProto

FIRST_OPSET: Final = 7
LAST_OPSET: Final = 28


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ValueInfo:
    """What a model says about one of its inputs or outputs.

    Attributes:
        name: its name in the file.
        kind: ``tensor``, ``sparse_tensor``, ``sequence``, ``optional`` or ``map``.
        elem_type: ONNX element type number; None where the kind is not a tensor.
        dims: per axis an extent, the name of a free extent, or None (free, unnamed); None as a
            whole when not even the rank is given.
    """

    name: str
    kind: str
    elem_type: int | None
    dims: tuple[int | str | None, ...] | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that was read, checked and parsed.

    Attributes:
        name: path or graph name, for messages.
        graph: the parsed main graph, functions expanded.
        inputs: what the file says about the inputs a caller gives, in order.
        outputs: the same for the outputs.
        opsets: version by domain.
        bound: names of inputs that were fixed; they are constants of the graph.
        unknown: nodes that cannot be evaluated; empty unless loading was told not to mind.
    """

    name: str
    graph: Graph
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    opsets: Mapping[str, int]
    bound: frozenset[str] = frozenset()
    unknown: tuple[Unknown, ...] = ()


def load_model(
    source: Source, *, first_opset: int = FIRST_OPSET, check_operators: bool = True
) -> LoadedModel:
    """Read and check a model.

    External data is read only from inside the folder of the model file.

    Args:
        source: path of a file, the bytes of one, or a proto.
        first_opset: oldest version of the default domain to accept.
        check_operators: refuse operators that cannot be evaluated.

    Raises:
        ConfigError: the file is missing, damaged, or its data is not where it says.
        ImportFailed: an opset or operators that fusec cannot import; all operators are listed.
    """
    model, folder, name = _read(source)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ConfigError(f"{name}: not an ONNX model: it has no graph")
    check_text(model, name)
    opsets = _opsets(model, name, first_opset)
    reader = Reader(folder, name)
    for tensor in tensors_of(model):
        reader.check(tensor)
    parser = Parser(model, reader)
    graph = parser.parse()
    if parser.unknown and check_operators:
        raise ImportFailed(f"{name}: {_unknown(parser.unknown)}")
    infos = {value.name: value for value in model.graph.input}
    return LoadedModel(
        name=name,
        graph=graph,
        inputs=tuple(_info(infos[input_name]) for input_name in graph.inputs),
        outputs=tuple(_info(value) for value in model.graph.output),
        opsets=opsets,
        unknown=tuple(parser.unknown),
    )


def _read(source: Source) -> tuple[onnx.ModelProto, Path | None, str]:
    if isinstance(source, onnx.ModelProto):
        return source, None, source.graph.name or "model"
    if isinstance(source, bytes):
        return _decode(source, "model bytes"), None, "model bytes"
    path = Path(source)
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; wanted an ONNX file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror or error}") from error
    return _decode(data, str(path)), path.parent, str(path)


def _decode(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise ConfigError(f"{name}: is empty; wanted an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ConfigError(
            f"{name}: not an ONNX model, or cut short ({len(data)} bytes): {error}"
        ) from error
    return model


def _opsets(model: onnx.ModelProto, name: str, first: int) -> dict[str, int]:
    opsets = {"" if o.domain == "ai.onnx" else o.domain: int(o.version) for o in model.opset_import}
    version = opsets.get("")
    if version is not None and not first <= version <= LAST_OPSET:
        raise ImportFailed(
            f"{name}: opset {version} of the default domain; fusec imports {first} to "
            f"{LAST_OPSET}; convert the file with onnx.version_converter"
        )
    if not opsets:
        raise ConfigError(f"{name}: not an ONNX model: it imports no operator set")
    return opsets


def _unknown(unknown: list[Unknown]) -> str:
    lines = "".join(f"\n  {item}" for item in unknown)
    kinds = len({(item.domain, item.op) for item in unknown})
    return f"{kinds} operator(s) cannot be imported:{lines}"


def _info(value: onnx.ValueInfoProto) -> ValueInfo:
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind not in ("tensor_type", "sparse_tensor_type"):
        short = kind.removesuffix("_type")
        return ValueInfo(name=value.name, kind=short, elem_type=None, dims=None)
    tensor = getattr(value.type, kind)
    dims = None
    if tensor.HasField("shape"):
        dims = tuple(_dim(dim) for dim in tensor.shape.dim)
    return ValueInfo(
        name=value.name,
        kind=kind.removesuffix("_type"),
        elem_type=int(tensor.elem_type) or None,
        dims=dims,
    )


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """Give an extent; some exporters write -1 or ? for one that is free and has no name."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return None if dim.dim_param in ("", "?", "-1") else str(dim.dim_param)
