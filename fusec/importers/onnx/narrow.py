"""Element types narrower than torch has: 2-bit and 4-bit integers and 4-bit and 6-bit floats.

As host values they are ml_dtypes arrays, one element per byte. As tensors they travel in a wider
*container* that holds every value exactly: signed integers in int8, unsigned ones in uint8, floats
in float32.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.values import Array, Value, from_numpy, to_tensor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """One narrow type.

    Attributes:
        array: its ml_dtypes dtype.
        container: the torch dtype its values travel in.
        low: smallest value.
        high: greatest value.
        bits: width in bits.
    """

    array: np.dtype[Any]
    container: torch.dtype
    low: float
    high: float
    bits: int


def _narrow(array: Any, container: torch.dtype, low: float, high: float, bits: int) -> Narrow:
    return Narrow(array=np.dtype(array), container=container, low=low, high=high, bits=bits)


NARROW: Mapping[int, Narrow] = {
    21: _narrow(ml_dtypes.uint4, torch.uint8, 0, 15, 4),
    22: _narrow(ml_dtypes.int4, torch.int8, -8, 7, 4),
    23: _narrow(ml_dtypes.float4_e2m1fn, torch.float32, -6.0, 6.0, 4),
    25: _narrow(ml_dtypes.uint2, torch.uint8, 0, 3, 2),
    26: _narrow(ml_dtypes.int2, torch.int8, -2, 1, 2),
    27: _narrow(ml_dtypes.float6_e2m3fn, torch.float32, -7.5, 7.5, 6),
    28: _narrow(ml_dtypes.float6_e3m2fn, torch.float32, -28.0, 28.0, 6),
}

# Exponent range of the normal numbers and mantissa bits of the narrow floats.
_FLOATS: Mapping[int, tuple[int, int, int]] = {23: (0, 2, 1), 27: (0, 2, 3), 28: (-2, 4, 2)}
_ARRAYS: Mapping[torch.dtype, Any] = {
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.float32: np.float32,
}
_CONTAINERS: Mapping[np.dtype[Any], torch.dtype] = {n.array: n.container for n in NARROW.values()}


def widen(value: Value) -> Tensor:
    """Return a value as a tensor; a narrow host value goes into its container."""
    if isinstance(value, np.ndarray) and value.dtype in _CONTAINERS:
        return from_numpy(value.astype(_ARRAYS[_CONTAINERS[value.dtype]]))
    return to_tensor(value)


def wrap(x: Tensor, code: int) -> Tensor:
    """Cast a tensor to a narrow type's container; integers keep their low bits.

    Args:
        x: any real tensor.
        code: ONNX element type number of the narrow type.
    """
    kind = NARROW[code]
    if code in _FLOATS:
        return _round_float(x, code)
    mask = (1 << kind.bits) - 1
    low_bits = torch.bitwise_and(x.to(torch.int32), mask)
    if kind.low < 0:
        sign = 1 << (kind.bits - 1)
        low_bits = torch.bitwise_xor(low_bits, sign) - sign
    return low_bits.to(kind.container)


def _round_float(x: Tensor, code: int) -> Tensor:
    """Round to the nearest value of a narrow float, ties to even; out of range saturates."""
    kind = NARROW[code]
    first, last, mantissa = _FLOATS[code]
    x = torch.clamp(x.to(torch.float32), kind.low, kind.high)
    size = torch.abs(x)
    out = torch.zeros_like(x)
    for exponent in range(first, last + 1):
        step = 2.0 ** (exponent - mantissa)
        # Below the first power of two the steps are those of the subnormal numbers.
        inside = size >= (2.0**exponent if exponent > first else 0.0)
        out = torch.where(inside, torch.round(x / step) * step, out)
    return out


def bits_of(value: Array) -> Array:
    """Return the bit pattern of a host value as unsigned integers, one element each."""
    pattern = np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}").reshape(value.shape)
    for kind in NARROW.values():
        if kind.array == value.dtype:
            return pattern & np.uint8((1 << kind.bits) - 1)
    return pattern
