"""Linear quantisation arithmetic, shared by the standard and the contributed operators."""

from typing import Any

import torch
from torch import Tensor

from fusec.importers.onnx.narrow import NARROW, wrap
from fusec.importers.onnx.ops.cast import cast_tensor
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.values import TORCH, Value, is_traced, numpy_dtype, to_host

# Integer types by ONNX element type number: least and greatest value.
RANGES: dict[int, tuple[int, int]] = {
    2: (0, 255),
    3: (-128, 127),
    4: (0, 65535),
    5: (-32768, 32767),
    6: (-(2**31), 2**31 - 1),
    21: (0, 15),
    22: (-8, 7),
    25: (0, 3),
    26: (-2, 1),
}

# Products of two 8-bit differences stay below 2**16, so that a float32 sum of this many is exact
# in any order: every partial sum is an integer below 2**24.
EXACT_IN_FLOAT32 = 256


def spread(scale: Tensor, x: Tensor, axis: int, block: int = 0) -> Tensor:
    """Shape a scale or zero point so that it broadcasts over `x`.

    Args:
        scale: one element (per tensor), [x.shape[axis]] (per axis), or the rank of `x` with
            ceil(x.shape[axis] / block) along `axis` (blocked).
        x: what is quantised.
        axis: counted from the front or the back.
        block: elements that share a scale, or 0.
    """
    if scale.dim() == 0:
        return scale
    if block and scale.dim() == x.dim():
        axis = axis % x.dim()
        return scale.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    if scale.dim() == 1 and scale.shape[0] == 1:
        return scale.reshape(())
    if scale.dim() != 1:
        return scale
    axis = 0 if x.dim() == 1 else axis % x.dim()
    return scale.reshape([-1 if i == axis else 1 for i in range(x.dim())])


def quantise(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    code: int,
    *,
    saturate: bool = True,
) -> Tensor:
    """Divide by the scale, round to even, add the zero point, clamp to the type's range.

    Args:
        x: values; the division happens in its dtype.
        scale: broadcastable to `x`, same dtype.
        zero_point: broadcastable to `x` or None.
        code: ONNX element type number of the result.
        saturate: for float8 results only.

    Returns:
        A tensor of that type, or of the container of a narrow type.
    """
    y = x / scale
    if code not in RANGES:
        y = y if zero_point is None else y + cast_to(zero_point, y.dtype)
        if code in NARROW:
            return wrap(y, code)
        return cast_tensor(y, code, saturate)
    # float16 cannot hold a 16-bit zero point plus its range.
    wide = cast_to(torch.round(y), torch.float32) if y.element_size() < 4 else torch.round(y)
    if zero_point is not None:
        wide = wide + cast_to(zero_point, wide.dtype)
    low, high = RANGES[code]
    dtype = NARROW[code].container if code in NARROW else TORCH[code]
    return cast_to(torch.clamp(wide, low, high), dtype)


def dequantise(x: Tensor, scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return (x - zero_point) * scale, computed in float32 (or double) and rounded to `dtype`.

    Args:
        x: quantised values, or the container of a narrow type.
        scale: broadcastable to `x`.
        zero_point: broadcastable to `x` or None.
        dtype: of the result.
    """
    work = torch.float64 if torch.float64 in (dtype, scale.dtype) else torch.float32
    if x.dtype == torch.int32 and zero_point is not None:
        y = cast_to(x - zero_point, work)
    else:
        y = cast_to(x, work) if zero_point is None else cast_to(x, work) - cast_to(zero_point, work)
    return cast_to(y * cast_to(scale, work), dtype)


def narrowed(x: Tensor, code: int) -> Value:
    """Give a narrow result its host form; while tracing it stays in its container."""
    if code not in NARROW or is_traced(x):
        return x
    return to_host(x).astype(numpy_dtype(code))


def integer_dtype(terms: Any) -> torch.dtype:
    """Return the float dtype in which a sum of `terms` 8-bit products is exact."""
    small = isinstance(terms, int) and terms <= EXACT_IN_FLOAT32
    return torch.float32 if small else torch.float64


def as_int32(total: Tensor, terms: Any) -> Tensor:
    """Turn an exact integer sum into int32; sums that may pass 2**31 wrap as two's complement."""
    if isinstance(terms, int) and terms < 2**31 // 255**2:
        return cast_to(total, torch.int32)
    return cast_to(cast_to(total, torch.int64), torch.int32)


def shifted(x: Tensor, zero_point: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return x - zero_point in `dtype`."""
    return (
        cast_to(x, dtype) if zero_point is None else cast_to(x, dtype) - cast_to(zero_point, dtype)
    )


def as_float(x: Tensor) -> Tensor:
    """Return a tensor as float32."""
    return cast_to(x, torch.float32)
