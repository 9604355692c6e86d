"""Cast, CastLike and BitCast between all element types."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.narrow import NARROW, bits_of, wrap
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import (
    TORCH,
    Array,
    Value,
    elem_type,
    is_symbolic,
    is_text,
    is_traced,
    numpy_dtype,
    to_host,
    to_tensor,
)

_STRING = 8
_E8M0 = 24
_FLOAT8 = frozenset({17, 18, 19, 20})
_E4M3FN, _E4M3FN_TIE = 17, 464.0
_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})


def cast_value(value: Value, code: int, saturate: bool = True, round_mode: str = "up") -> Value:
    """Cast a value of either domain to an ONNX element type; it stays in its domain if it can.

    Args:
        value: host value or tensor.
        code: ONNX element type number.
        saturate: float8 overflow gives the greatest value instead of NaN or infinity.
        round_mode: "up", "down" or "nearest", for float8e8m0 only.
    """
    if is_symbolic(value):
        if code in _INTEGERS:
            return value
        value = to_tensor(value)
    if isinstance(value, np.ndarray):
        return _cast_host(value, code, saturate, round_mode)
    tensor = to_tensor(value)
    if code in TORCH:
        return cast_tensor(tensor, code, saturate, round_mode)
    if code in NARROW and is_traced(tensor):
        return wrap(tensor, code)
    return _cast_host(to_host(tensor), code, saturate, round_mode)


def cast_tensor(x: Tensor, code: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """Cast a tensor to an element type that torch has; see `cast_value`."""
    if code == _E8M0:
        return _to_e8m0(x, saturate, round_mode)
    if code in _FLOAT8:
        x = x if x.dtype.is_floating_point else x.float()
        x = x.float() if x.element_size() == 1 else x
        limit = torch.finfo(TORCH[code]).max
        if saturate:
            x = torch.clamp(x, -limit, limit)
        elif code == _E4M3FN:
            # torch saturates here; from the tie above the greatest value on it must be NaN.
            x = torch.where(torch.abs(x) > _E4M3FN_TIE, torch.nan, x)
        return x.to(TORCH[code])
    if x.dtype.is_floating_point and x.element_size() == 1:
        x = x.float()
    return x.to(TORCH[code])


def _to_e8m0(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """Keep the exponent of |x|, rounded as asked; NaN and infinity become NaN (0xFF)."""
    pattern = x.float().contiguous().view(torch.int32)
    exponent = torch.bitwise_and(torch.bitwise_right_shift(pattern, 23), 0xFF)
    fraction = torch.bitwise_and(pattern, 0x7FFFFF)
    if round_mode == "up":
        carry = fraction > 0
    elif round_mode == "nearest":
        # A tie rounds up unless it is the tie between zero and the smallest power.
        carry = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    else:
        carry = torch.zeros_like(fraction, dtype=torch.bool)
    top = 0xFE if saturate else 0xFF
    rounded = torch.clamp(exponent + carry.to(torch.int32), max=top)
    rounded = torch.where(exponent == 0xFF, exponent, rounded)
    return rounded.to(torch.uint8).view(torch.float8_e8m0fnu)


def _cast_host(value: Array, code: int, saturate: bool, round_mode: str) -> Array:
    if code == _STRING:
        return _to_text(value)
    if is_text(value):
        value = _from_text(value, code)
    if code == _E8M0 or code in _FLOAT8:
        wide = torch.from_numpy(np.array(value.astype(np.float32)))
        return to_host(cast_tensor(wide, code, saturate, round_mode))
    dtype = numpy_dtype(code)
    if code in NARROW and NARROW[code].container != torch.float32 and value.dtype.kind == "f":
        value = value.astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(value.astype(dtype))


def _to_text(value: Array) -> Array:
    out = np.empty(value.shape, dtype=object)
    out.ravel()[:] = [_text_of(item, value.dtype) for item in value.ravel()]
    return out


def _text_of(item: Any, dtype: np.dtype[Any]) -> str:
    """Spell a number as ONNX Runtime does: 8 significant digits, NaN, INF."""
    if dtype.kind in "OUS":
        return str(item)
    if dtype.kind == "b":
        return "1" if item else "0"
    if dtype.kind in "iu":
        return str(int(item))
    number = float(item)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "INF" if number > 0 else "-INF"
    return f"{number:.8g}"


def _from_text(value: Array, code: int) -> Array:
    if code in _INTEGERS or (code in NARROW and NARROW[code].container != torch.float32):
        numbers = np.array([_integer_of(str(item)) for item in value.ravel()], dtype=object)
        return numbers.astype(np.uint64 if code == 13 else np.int64).reshape(value.shape)
    return np.array([float(str(item)) for item in value.ravel()]).reshape(value.shape)


def _integer_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def _cast(call: Call, x: Value) -> Value:
    saturate, mode = bool(call.attr("saturate", 1)), str(call.attr("round_mode", "up"))
    return cast_value(x, int(call.attr("to")), saturate, mode)


def _cast_like(call: Call, x: Value, like: Value) -> Value:
    if not isinstance(like, (np.ndarray, Tensor)):
        call.fail("the second input is not a tensor")
    code = _STRING if is_text(like) else elem_type(torch.int64 if is_symbolic(like) else like.dtype)
    saturate, mode = bool(call.attr("saturate", 1)), str(call.attr("round_mode", "up"))
    return cast_value(x, code, saturate, mode)


def _bit_cast(call: Call, x: Value) -> Value:
    code = int(call.attr("to"))
    if isinstance(x, Tensor) and code in TORCH:
        if x.element_size() != TORCH[code].itemsize:
            call.fail(f"cannot reinterpret {x.dtype} as {TORCH[code]}: the widths differ")
        return x.contiguous().view(TORCH[code])
    pattern, dtype = bits_of(to_host(x)), numpy_dtype(code)
    if pattern.dtype.itemsize != dtype.itemsize:
        call.fail(f"cannot reinterpret {to_host(x).dtype} as {dtype}: the widths differ")
    if code in NARROW:
        # Sign extension: ml_dtypes keeps a narrow signed integer as a whole byte.
        shift = 8 - NARROW[code].bits
        if NARROW[code].container == torch.int8:
            return ((pattern.view(np.int8) << shift) >> shift).astype(dtype)
        if NARROW[code].container == torch.uint8:
            return pattern.astype(dtype)
    return pattern.view(dtype)


OPS: Mapping[str, Op] = {
    "Cast": Op(run=_cast, either=True),
    "CastLike": Op(run=_cast_like, either=True),
    "BitCast": Op(run=_bit_cast, either=True),
}
