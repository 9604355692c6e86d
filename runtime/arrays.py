"""Arrays at the border: NumPy or torch in, the same out. torch is only here if a caller has it.

Who hands in a torch tensor has imported torch; so a process that never did is never asked to.
"""

import sys
from typing import Any, TypeAlias

import numpy as np

from fusec.ir.dtypes import NO_NUMPY, numpy_dtype
from fusec.ir.errors import ConfigError

__all__ = ["Array", "array_of", "dtype_of", "is_tensor", "read_value", "tensor_of_array", "widened"]

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""

_NO_NUMBERS = "OUSMmV"
"""Kinds of NumPy dtypes that no model takes: objects, text, times, records."""

_NAMES = {
    np.dtype(name): name for name in ("float32", "float64", "int64", "int32", "bool", "uint8")
}
"""NumPy works a name out each time; these come often."""


def is_tensor(value: object) -> bool:
    """Tell whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def dtype_of(array: Array) -> str:
    """Give a plan's name of an array's dtype."""
    if is_tensor(array):
        return str(array.dtype).removeprefix("torch.")
    return _NAMES.get(array.dtype) or str(array.dtype.name)


def read_value(what: str, value: object, dtype: str) -> Array:
    """Take a caller's value as an array or tensor; its memory may be the caller's.

    Args:
        what: the input, in words.
        value: an array, a tensor, a number or a list of numbers.
        dtype: that a bare number gets.

    Raises:
        ConfigError: the value is none of these, or holds no numbers.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind in _NO_NUMBERS:
            raise ConfigError(f"{what} has dtype {value.dtype}, the model takes {dtype}")
        return value
    if is_tensor(value):
        return _read_tensor(what, value)
    if isinstance(value, bool | int | float | list | np.generic):
        return _read_numbers(what, value, dtype)
    raise ConfigError(f"{what} is a {type(value).__name__}; give a NumPy array or a torch tensor")


def _read_tensor(what: str, tensor: Any) -> Array:
    if tensor.device.type == "meta":
        raise ConfigError(f"{what} is a meta tensor and holds no data; give real data")
    return tensor.detach()


def _read_numbers(what: str, value: object, dtype: str) -> Array:
    try:
        if dtype in NO_NUMPY:
            import torch

            return torch.as_tensor(value, dtype=getattr(torch, dtype))
        found = np.asarray(value).dtype
        if found.kind in _NO_NUMBERS:
            raise TypeError(f"it holds {found}")
        with np.errstate(over="ignore"):
            return np.array(value, dtype=numpy_dtype(dtype))
    except (TypeError, ValueError, RuntimeError, OverflowError) as e:
        raise ConfigError(f"{what} cannot be read as {dtype}: {e}") from e


def array_of(array: Array) -> np.ndarray:
    """Give a C-contiguous array in native byte order, aligned; the memory itself where it can be.

    Dtypes that NumPy lacks come as unsigned integers of the same width.
    """
    if is_tensor(array):
        array = _array_of_tensor(array)
    flags = array.flags
    if type(array) is np.ndarray and flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.flags.c_contiguous and native.flags.aligned:
        return np.asarray(native)
    return np.array(native, order="C", copy=True, subok=False)


def _array_of_tensor(tensor: Any) -> np.ndarray:
    import torch

    name = dtype_of(tensor)
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if name in NO_NUMPY:
        integer = {1: torch.uint8, 2: torch.int16}[plain.element_size()]
        plain = plain.view(integer)
    given: np.ndarray = plain.numpy()
    return given.view(numpy_dtype(name)) if name in NO_NUMPY else given


def tensor_of_array(array: np.ndarray, dtype: str) -> Any:
    """See an array of a plan's dtype as a torch tensor, without copying."""
    import torch

    if dtype in NO_NUMPY:
        integer = {1: np.uint8, 2: np.int16}[array.dtype.itemsize]
        return torch.from_numpy(array.view(integer)).view(getattr(torch, dtype))
    return torch.from_numpy(array)


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    """Give an array in a dtype that NumPy has; values of those it lacks are exact in float32."""
    if dtype not in NO_NUMPY:
        return array
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    wide: np.ndarray = tensor_of_array(array, dtype).float().numpy()
    return wide
