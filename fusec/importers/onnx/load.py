"""Reads an ONNX model from a path, bytes or a proto."""

import dataclasses
from pathlib import Path

import onnx
from onnx import numpy_helper

from fusec.importers.onnx.graph import Graph, Parser
from fusec.ir.errors import ImportFailed


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that was read and parsed."""

    proto: onnx.ModelProto
    graph: Graph


def load_model(source: str | Path | bytes | onnx.ModelProto) -> LoadedModel:
    """Read a model."""
    proto = source if isinstance(source, onnx.ModelProto) else onnx.load_model_from_string(source)
    parser = Parser(proto, numpy_helper.to_array)
    graph = parser.parse()
    if parser.unknown:
        raise ImportFailed("unknown operators: " + ", ".join(map(str, parser.unknown)))
    return LoadedModel(proto, graph)
