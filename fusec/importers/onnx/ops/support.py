"""Small helpers that several operator families share."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.values import Array, Value, ints, shape_value

# An int, or a torch.SymInt under tracing: torch's stubs know the former only.
Size = Any
Sizes = Sequence[Size]

# torch stores these but has almost no arithmetic for them; int64 holds the narrow ones exactly.
WIDE = frozenset({torch.uint16, torch.uint32, torch.uint64})


def axis_of(call: Call, axis: Size, rank: int) -> int:
    """Return an axis counted from the front; fail where it is out of range."""
    number = int(axis)
    if not -rank <= number < max(rank, 1):
        call.fail(f"axis {number} is out of range for rank {rank}")
    return number + rank if number < 0 else number


def axes_of(call: Call, axes: Sequence[Size], rank: int) -> list[int]:
    """Return axes counted from the front, in the order given."""
    return [axis_of(call, axis, rank) for axis in axes]


def product(sizes: Sizes) -> Size:
    """Multiply sizes; symbols stay symbols."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def list_of(call: Call, name: str, value: Value) -> list[Size] | None:
    """Return integers given as an input or, in older opsets, as the attribute `name`."""
    if value is not None:
        return ints(value)
    given = call.attr(name, None)
    return None if given is None else list(given)


def is_host(value: Value) -> bool:
    """Say whether a value is known while importing."""
    return isinstance(value, np.ndarray)


def widened(
    function: Callable[..., torch.Tensor], unsigned: Callable[..., torch.Tensor] | None = None
) -> Callable[..., torch.Tensor]:
    """Return `function` computed in int64 where torch lacks the unsigned type.

    The result returns to the type of the first wide tensor unless it is boolean.

    Args:
        function: any function of tensors.
        unsigned: what to compute instead on the bit patterns of uint64 tensors.
    """

    def run(*tensors: Any) -> torch.Tensor:
        wide = [t.dtype for t in tensors if isinstance(t, torch.Tensor) and t.dtype in WIDE]
        if not wide:
            return function(*tensors)
        chosen = unsigned if unsigned is not None and torch.uint64 in wide else function
        result = chosen(*(widen(t) if isinstance(t, torch.Tensor) else t for t in tensors))
        return result.to(wide[0]) if result.dtype == torch.int64 else result

    return run


def cast_to(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the tensor in another type; a cast to its own type would leave nodes in a trace."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """Return int64 for the unsigned types that torch cannot compute with."""
    return tensor.to(torch.int64) if tensor.dtype in WIDE else tensor


def as_array(value: Any) -> Array:
    """Return a NumPy result as an array, one symbol as a rank-0 object array."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.generic):
        return np.asarray(value)
    result = np.empty((), dtype=object)
    result[()] = value
    return tidy(result)


def tidy(value: Array) -> Array:
    """Return an object array of plain integers as int64; leave symbols and strings alone."""
    if value.dtype != object:
        return value
    items = list(value.ravel())
    if items and all(isinstance(item, (bool, np.bool_)) for item in items):
        return value.astype(np.bool_)
    if all(isinstance(item, (int, np.integer)) for item in items):
        return value.astype(np.int64)
    if all(isinstance(item, (int, float, np.number)) for item in items):
        return value.astype(np.float32)
    return value


def concrete(sizes: Sizes) -> bool:
    """Say whether all sizes are plain integers."""
    return all(isinstance(size, int) for size in sizes)


def sizes_of(value: Value) -> list[Size]:
    """Return the sizes of a value of either domain."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return list(value.shape)
    raise TypeError(f"wanted an array or a tensor, got {type(value).__name__}")


def index_array(sizes: Sizes) -> Array:
    """Return sizes as a host value."""
    return shape_value(sizes)


def bounded(low: Size, value: Size, high: Size) -> Size:
    """Clamp a size that may be a symbol."""
    return sym_max(low, sym_min(value, high))


def sym_max(a: Size, b: Size) -> Size:
    """Return the larger size without deciding on symbols."""
    return max(a, b) if concrete((a, b)) else torch.sym_max(a, b)  # type: ignore[no-untyped-call]


def sym_min(a: Size, b: Size) -> Size:
    """Return the smaller size without deciding on symbols."""
    return min(a, b) if concrete((a, b)) else torch.sym_min(a, b)  # type: ignore[no-untyped-call]


def lowest(dtype: torch.dtype) -> float | int | bool:
    """Return the value that never wins a maximum."""
    if dtype == torch.bool:
        return False
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def highest(dtype: torch.dtype) -> float | int | bool:
    """Return the value that never wins a minimum."""
    if dtype == torch.bool:
        return True
    return torch.inf if dtype.is_floating_point else torch.iinfo(dtype).max


def wrap_negative(indices: torch.Tensor, size: Size) -> torch.Tensor:
    """Return int64 indices with negative ones counted from the end."""
    indices = cast_to(indices, torch.int64)
    return torch.where(indices < 0, indices + size, indices)
