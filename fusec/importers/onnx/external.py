"""Reads tensor data: inline, or from files that stay inside the model's folder."""

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, TensorProto, numpy_helper

from fusec.importers.onnx.values import Array, numpy_dtype
from fusec.ir.errors import ConfigError

_HALF_BYTE: Final = frozenset({TensorProto.UINT4, TensorProto.INT4, 23})
_QUARTER_BYTE: Final = frozenset({25, 26})
_STRING: Final = TensorProto.STRING


class Reader:
    """Reads the tensors of one model.

    Args:
        folder: where external data may be; None when the model came from bytes or a proto.
        source: what to call the model in messages.
    """

    def __init__(self, folder: Path | None, source: str) -> None:
        self._folder = folder.resolve() if folder is not None else None
        self._source = source

    def __call__(self, tensor: TensorProto) -> Array:
        """Return the data of a tensor, bit-identical to the file."""
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor)
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._where(tensor)}: damaged data: {error}") from error

    def check(self, tensor: TensorProto) -> None:
        """Check type, shape and amount of data without reading it.

        Raises:
            ConfigError: the tensor claims more or less than there is, or a file outside.
        """
        if any(size < 0 for size in tensor.dims):
            raise ConfigError(f"{self._where(tensor)}: negative size in shape {list(tensor.dims)}")
        want = _bytes_of(tensor)
        if tensor.data_location == TensorProto.EXTERNAL:
            path, offset, length = self._locate(tensor)
            self._check_range(tensor, path, offset, length, want)
        elif tensor.HasField("raw_data"):
            self._check_amount(tensor, len(tensor.raw_data), want, "bytes")
        elif tensor.data_type == _STRING:
            self._check_amount(tensor, len(tensor.string_data), math.prod(tensor.dims), "strings")
        else:
            self._check_typed(tensor)

    def _check_typed(self, tensor: TensorProto) -> None:
        fields = (
            tensor.float_data,
            tensor.int32_data,
            tensor.int64_data,
            tensor.double_data,
            tensor.uint64_data,
        )
        held = max(len(field) for field in fields)
        count = math.prod(tensor.dims)
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            count *= 2
        elif tensor.data_type in _HALF_BYTE:
            count = -(-count // 2)
        elif tensor.data_type in _QUARTER_BYTE:
            count = -(-count // 4)
        self._check_amount(tensor, held, count, "elements")

    def _check_amount(self, tensor: TensorProto, got: int, want: int, unit: str) -> None:
        if got != want:
            raise ConfigError(
                f"{self._where(tensor)}: shape {list(tensor.dims)} needs {want} {unit}, "
                f"the file holds {got}; the file is damaged"
            )

    def _external(self, tensor: TensorProto) -> Array:
        path, offset, length = self._locate(tensor)
        want = _bytes_of(tensor)
        with path.open("rb") as file:
            self._check_file(tensor, path, os.fstat(file.fileno()))
            self._check_range(tensor, path, offset, length, want)
            file.seek(offset)
            data = file.read(want)
        copy = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=data)
        return numpy_helper.to_array(copy)

    def _locate(self, tensor: TensorProto) -> tuple[Path, int, int | None]:
        """Return file, offset and length of external data, all checked for escape."""
        where = self._where(tensor)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self._folder is None:
            raise ConfigError(
                f"{where}: data is in the external file '{location}', which cannot be found from "
                "bytes or a proto; pass the path of the model file"
            )
        if not location or "\0" in location:
            raise ConfigError(f"{where}: external data without a file name")
        plain = Path(location.replace("\\", "/"))
        if plain.is_absolute() or ".." in plain.parts or Path(location).drive:
            raise ConfigError(
                f"{where}: external data '{location}' leads out of the model's folder"
            )
        path = (self._folder / plain).resolve()
        if not path.is_relative_to(self._folder):
            raise ConfigError(
                f"{where}: external data '{location}' is a link that leads out of {self._folder}"
            )
        if not path.exists():
            raise ConfigError(f"{where}: external data file {path} is missing")
        self._check_file(tensor, path, path.stat())
        offset = self._number(tensor, entries, "offset") or 0
        return path, offset, self._number(tensor, entries, "length")

    def _number(self, tensor: TensorProto, entries: dict[str, str], key: str) -> int | None:
        text = entries.get(key)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise ConfigError(
                f"{self._where(tensor)}: external data {key} is '{text}', not a number"
            )
        return int(text)

    def _check_file(self, tensor: TensorProto, path: Path, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{self._where(tensor)}: external data {path} is not a regular file")
        if info.st_nlink > 1:
            raise ConfigError(
                f"{self._where(tensor)}: external data {path} is a hard link, which may lead out "
                "of the model's folder; copy the file"
            )

    def _check_range(
        self, tensor: TensorProto, path: Path, offset: int, length: int | None, want: int
    ) -> None:
        size = path.stat().st_size
        held = size - offset if length is None else length
        if offset + held > size or held < want or (length is not None and length != want):
            raise ConfigError(
                f"{self._where(tensor)}: shape {list(tensor.dims)} needs {want} bytes from offset "
                f"{offset} (length given: {length}), but {path} has {size} bytes"
            )

    def _where(self, tensor: TensorProto) -> str:
        return f"{self._source}: tensor '{tensor.name}'"


def _bytes_of(tensor: TensorProto) -> int:
    """Return how many bytes the raw form of a tensor takes."""
    count: int = math.prod(tensor.dims)
    if tensor.data_type in _HALF_BYTE:
        return -(-count // 2)
    if tensor.data_type in _QUARTER_BYTE:
        return -(-count // 4)
    if tensor.data_type == _STRING:
        return count
    return count * np.dtype(numpy_dtype(tensor.data_type)).itemsize


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor with data in a model: initialisers, attributes, subgraphs, functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _attribute_tensors(node.attribute)
        yield from _attribute_tensors(function.attribute_proto)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        if node.attribute:
            yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    for attr in attributes:
        match attr.type:
            case AttributeProto.TENSOR:
                yield attr.t
            case AttributeProto.TENSORS:
                yield from attr.tensors
            case AttributeProto.SPARSE_TENSOR:
                yield attr.sparse_tensor.values
                yield attr.sparse_tensor.indices
            case AttributeProto.GRAPH:
                yield from _graph_tensors(attr.g)
