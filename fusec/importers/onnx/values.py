"""The two value domains of the interpreter, and the way between them.

A *host value* is a ``numpy.ndarray``: it is known while importing (shapes, axes, indices, strings).
Under tracing its dtype may be ``object`` with ``torch.SymInt`` elements. A *tensor* is a
``torch.Tensor``: its values are known only when the program runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from fusec.ir.errors import ImportFailed

# A sequence is a list; a map is a dict (and a list of dicts for ZipMap).
Value = np.ndarray[Any, Any] | torch.Tensor | list[Any] | dict[Any, Any] | None
Array = np.ndarray[Any, Any]
Int = int | torch.SymInt

_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)

# onnx.TensorProto.DataType number -> NumPy dtype (strings are object arrays).
NUMPY: Mapping[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    8: np.dtype(object),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    14: np.dtype(np.complex64),
    15: np.dtype(np.complex128),
    16: np.dtype(ml_dtypes.bfloat16),
    17: np.dtype(ml_dtypes.float8_e4m3fn),
    18: np.dtype(ml_dtypes.float8_e4m3fnuz),
    19: np.dtype(ml_dtypes.float8_e5m2),
    20: np.dtype(ml_dtypes.float8_e5m2fnuz),
    21: np.dtype(ml_dtypes.uint4),
    22: np.dtype(ml_dtypes.int4),
    23: np.dtype(ml_dtypes.float4_e2m1fn),
    24: np.dtype(ml_dtypes.float8_e8m0fnu),
    25: np.dtype(ml_dtypes.uint2),
    26: np.dtype(ml_dtypes.int2),
    27: np.dtype(ml_dtypes.float6_e2m3fn),
    28: np.dtype(ml_dtypes.float6_e3m2fn),
}

# The same, for the types that torch has as one element per storage element.
TORCH: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
    24: torch.float8_e8m0fnu,
}

_TO_TORCH: Mapping[np.dtype[Any], torch.dtype] = {
    NUMPY[code]: dtype for code, dtype in TORCH.items()
}
_TO_NUMPY: Mapping[torch.dtype, np.dtype[Any]] = {
    dtype: NUMPY[code] for code, dtype in TORCH.items()
}
_TO_CODE: Mapping[np.dtype[Any], int] = {dtype: code for code, dtype in NUMPY.items()}
# NumPy knows these only through ml_dtypes, so bits travel as plain integers of the same width.
_BITS: Mapping[torch.dtype, tuple[torch.dtype, type[np.generic]]] = {
    torch.bfloat16: (torch.int16, np.int16),
    torch.float8_e4m3fn: (torch.uint8, np.uint8),
    torch.float8_e4m3fnuz: (torch.uint8, np.uint8),
    torch.float8_e5m2: (torch.uint8, np.uint8),
    torch.float8_e5m2fnuz: (torch.uint8, np.uint8),
    torch.float8_e8m0fnu: (torch.uint8, np.uint8),
}


def torch_dtype(elem_type: int) -> torch.dtype:
    """Return the torch dtype of an ONNX element type number.

    Raises:
        ImportFailed: torch has no such type (strings, 2-bit and 4-bit types).
    """
    dtype = TORCH.get(elem_type)
    if dtype is None:
        raise ImportFailed(f"element type {elem_type} ({NUMPY.get(elem_type)}) has no torch dtype")
    return dtype


def numpy_dtype(elem_type: int) -> np.dtype[Any]:
    """Return the NumPy (or ml_dtypes) dtype of an ONNX element type number."""
    dtype = NUMPY.get(elem_type)
    if dtype is None:
        raise ImportFailed(f"unknown ONNX element type {elem_type}")
    return dtype


def elem_type(dtype: torch.dtype | np.dtype[Any]) -> int:
    """Return the ONNX element type number of a torch or NumPy dtype (object means string)."""
    array_dtype = _TO_NUMPY[dtype] if isinstance(dtype, torch.dtype) else np.dtype(dtype)
    if array_dtype.kind in "US":
        return 8
    return _TO_CODE[array_dtype]


def has_torch_dtype(array: Array) -> bool:
    """Say whether a host value can become a tensor (strings and packed small types cannot)."""
    if array.dtype == object:
        return not is_text(array)
    return array.dtype in _TO_TORCH


def is_text(value: Value) -> bool:
    """Say whether a value is an array of strings."""
    if not isinstance(value, np.ndarray):
        return False
    if value.dtype.kind in "US":
        return True
    return value.dtype == object and not any(
        isinstance(item, (int, float, bool, *_SYMBOLS)) for item in value.ravel()[:1]
    )


def is_symbolic(value: Value) -> bool:
    """Say whether a host value holds sizes that are symbols of the trace."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype == object
        and any(isinstance(item, _SYMBOLS) for item in value.ravel())
    )


def is_traced(tensor: torch.Tensor) -> bool:
    """Say whether a tensor stands for data that only a run will bring."""
    return isinstance(tensor, (FakeTensor, FunctionalTensor))


def to_tensor(value: Value) -> torch.Tensor:
    """Turn a value into a tensor; a host value becomes a constant.

    One-element host values become ``aten.full`` under tracing, so that the number stays in the
    graph as an attribute; others become constant tensors.

    Raises:
        ImportFailed: torch has no dtype for it (strings, 2-bit and 4-bit types), or the value is
            a sequence, a map or absent.
    """
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, np.ndarray):
        raise ImportFailed(f"wanted a tensor, got {type(value).__name__}")
    if value.dtype == object and not is_text(value):
        return _symbols_to_tensor(value)
    dtype = _TO_TORCH.get(value.dtype)
    if dtype is None:
        raise ImportFailed(f"values of type {value.dtype} cannot become a tensor")
    if value.ndim == 0 and dtype not in _BITS and not dtype.is_complex:
        return torch.full((), value.item(), dtype=dtype)
    return from_numpy(value)


def from_numpy(array: Array) -> torch.Tensor:
    """Copy an array into a tensor bit for bit, including the ml_dtypes that torch has."""
    dtype = _TO_TORCH[array.dtype]
    array = np.array(array, order="C")
    if dtype in _BITS:
        return torch.from_numpy(array.view(_BITS[dtype][1])).view(dtype)
    return torch.from_numpy(array)


def _symbols_to_tensor(value: Array) -> torch.Tensor:
    """Build a tensor whose elements are sizes of the trace."""
    items = list(value.ravel())
    is_float = any(isinstance(item, (float, torch.SymFloat)) for item in items)
    dtype = torch.float32 if is_float else torch.int64
    if not items:
        return torch.zeros(value.shape, dtype=dtype)
    parts = [torch.ops.aten.scalar_tensor(item, dtype=dtype) for item in items]
    return torch.stack(parts).reshape(value.shape) if value.ndim else parts[0]


def to_host(value: Value) -> Array:
    """Turn a value into a host value.

    Raises:
        ImportFailed: the value is a tensor whose data only a run will bring, or not an array.
    """
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, torch.Tensor):
        raise ImportFailed(f"wanted a value known while importing, got {type(value).__name__}")
    if is_traced(value):
        raise ImportFailed(
            "needs a value known while importing, but it is computed from the data of the "
            "request; fix the input it comes from with bind={name: value}"
        )
    return to_numpy(value)


def to_numpy(tensor: torch.Tensor) -> Array:
    """Copy a real tensor into an array bit for bit, with ml_dtypes where NumPy needs them."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype in _BITS:
        bits: Array = tensor.view(_BITS[tensor.dtype][0]).numpy()
        return bits.view(_TO_NUMPY[tensor.dtype])
    array: Array = tensor.numpy()
    return array


def ints(value: Value) -> list[Int]:
    """Return a 0-D or 1-D host value as a list of Python ints (or symbols of the trace)."""
    return [_int(item) for item in to_host(value).ravel()]


def _int(item: Any) -> Int:
    return item if isinstance(item, torch.SymInt) else int(item)


def shape_value(sizes: Sequence[Int]) -> Array:
    """Return sizes as an int64 host value (an object array where some are symbols)."""
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, dtype=np.int64)
    value = np.empty(len(sizes), dtype=object)
    value[:] = list(sizes)
    return value


def from_sparse(values: Array, indices: Array, dims: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Write a sparse tensor out in full.

    Args:
        values: [nnz].
        indices: [nnz] positions in the flattened tensor, or [nnz, rank] coordinates.
        dims: shape of the tensor.
        dtype: its dtype.
    """
    dense = np.zeros(tuple(dims), dtype=dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense
