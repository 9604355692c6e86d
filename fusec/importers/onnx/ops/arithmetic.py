"""Arithmetic of two or more tensors, with NumPy twins for arithmetic on sizes."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import as_array, cast_to, tidy, widen, widened
from fusec.importers.onnx.ops.unsigned import divide, ordered, remainder
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array

Tensor = torch.Tensor
BOTH = frozenset({0, 1})


def _binary(
    function: Callable[..., Tensor],
    numpy: Callable[[Array, Array], Any],
    unsigned: Callable[..., Tensor] | None = None,
) -> Op:
    return Op(
        run=lambda call, a, b: widened(function, unsigned)(a, b),
        numpy=lambda call, a, b: tidy(as_array(numpy(a, b))),
        scalar=BOTH,
    )


def _is_float(value: Any) -> bool:
    return value.dtype.is_floating_point if isinstance(value, Tensor) else True


def _div(a: Any, b: Any) -> Tensor:
    if _is_float(a) and _is_float(b):
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")


def _div_host(a: Array, b: Array) -> Any:
    if a.dtype == object or b.dtype == object:
        return np.frompyfunc(_div_size, 2, 1)(a, b)
    if a.dtype.kind in "iu":
        quotient = np.abs(a) // np.abs(b)
        return (quotient * (np.sign(a) * np.sign(b))).astype(a.dtype)
    return np.divide(a, b)


def _div_size(a: Any, b: Any) -> Any:
    """Divide sizes; float division only where one of them is a float."""
    if isinstance(a, (float, torch.SymFloat)) or isinstance(b, (float, torch.SymFloat)):
        return a / b
    return a // b


def _mod(call: Call, a: Any, b: Any) -> Tensor:
    function = torch.fmod if call.attr("fmod", 0) else torch.remainder
    return widened(function, remainder)(a, b)


def _mod_host(call: Call, a: Array, b: Array) -> Array:
    return tidy(as_array(np.fmod(a, b) if call.attr("fmod", 0) else np.mod(a, b)))


def _pow(call: Call, base: Any, exponent: Any) -> Tensor:
    """Raise to a power; the result has the type of the base."""
    if not isinstance(base, Tensor):
        return torch.pow(base, exponent)
    if isinstance(exponent, Tensor):
        exponent = widen(exponent)
        if exponent.dtype.is_floating_point and not base.dtype.is_floating_point:
            return torch.pow(base.to(torch.float64), exponent.to(torch.float64)).to(base.dtype)
    return cast_to(torch.pow(widen(base), exponent), base.dtype)


def _pow_any(call: Call, base: Any, exponent: Any) -> Any:
    """Keep a known one-element exponent as a number, whatever its type."""
    if isinstance(base, np.ndarray) and isinstance(exponent, np.ndarray):
        return tidy(as_array(_host_pow(base, exponent)))
    if isinstance(exponent, np.ndarray):
        if exponent.size == 1 and exponent.ndim <= base.ndim:
            return _pow(call, base, exponent.reshape(()).item())
        exponent = torch.from_numpy(exponent)
    if isinstance(base, np.ndarray):
        base = torch.from_numpy(base)
    return _pow(call, base, exponent)


def _host_pow(base: Array, exponent: Array) -> Any:
    result = np.power(base, exponent)
    return result.astype(base.dtype) if base.dtype != object else result


def _bit_shift(call: Call, a: Tensor, b: Tensor) -> Tensor:
    bits = a.dtype.itemsize * 8
    signed = torch.iinfo(a.dtype).min < 0
    wide_a, wide_b = a.to(torch.int64), b.to(torch.int64)
    if call.attr("direction") == "RIGHT" and signed:
        return torch.bitwise_right_shift(wide_a, wide_b.clamp(max=bits - 1)).to(a.dtype)
    left = call.attr("direction") == "LEFT"
    shifted = torch.bitwise_left_shift(wide_a, wide_b) if left else _right(wide_a, wide_b, bits)
    return torch.where(wide_b >= bits, 0, shifted).to(a.dtype)


def _right(a: Tensor, b: Tensor, bits: int) -> Tensor:
    if bits < 64:
        return torch.bitwise_right_shift(a, b)
    # A logical shift: the sign bits that an arithmetic one brings in are masked away.
    mask = torch.bitwise_left_shift(torch.full_like(a, -1), 64 - b)
    return torch.where(b == 0, a, torch.bitwise_right_shift(a, b) & ~mask)


def _fold(
    function: Callable[..., Tensor],
    numpy: Callable[[Array, Array], Any],
    unsigned: Callable[..., Tensor] | None = None,
) -> Op:
    def run(call: Call, first: Tensor, *rest: Tensor) -> Tensor:
        for value in rest:
            first = widened(function, unsigned)(first, value)
        return first

    def host(call: Call, first: Array, *rest: Array) -> Array:
        for value in rest:
            first = as_array(numpy(first, value))
        return tidy(first)

    return Op(run=run, numpy=host)


def _mean(call: Call, first: Tensor, *rest: Tensor) -> Tensor:
    total = first
    for value in rest:
        total = total + value
    return total / (len(rest) + 1)


def _largest(a: Array, b: Array) -> Any:
    return _pick(torch.sym_max, a, b) if object in (a.dtype, b.dtype) else np.maximum(a, b)


def _smallest(a: Array, b: Array) -> Any:
    return _pick(torch.sym_min, a, b) if object in (a.dtype, b.dtype) else np.minimum(a, b)


def _pick(function: Callable[[Any, Any], Any], a: Array, b: Array) -> Any:
    return np.frompyfunc(function, 2, 1)(a, b)


OPS: Final[Mapping[str, Op]] = {
    "Add": _binary(torch.add, np.add),
    "BitShift": Op(run=_bit_shift),
    "Div": _binary(_div, _div_host, divide),
    "Max": _fold(torch.maximum, _largest, ordered(torch.maximum)),
    "Mean": Op(run=_mean),
    "Min": _fold(torch.minimum, _smallest, ordered(torch.minimum)),
    "Mod": Op(run=_mod, numpy=_mod_host),
    "Mul": _binary(torch.mul, np.multiply),
    "Pow": Op(run=_pow_any, either=True),
    "Sub": _binary(torch.sub, np.subtract),
    "Sum": _fold(torch.add, np.add),
}
