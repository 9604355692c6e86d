"""Cases of elementwise operators, made from the operators' schemas."""

from __future__ import annotations

from typing import Any

import torch
from fusec_testing.merge_cases import BOOL, C64, I64, B, Case, T, c, f, i

NUMBERS: dict[str, tuple[float, ...]] = {
    "clamp.default": (0.2, 0.6), "hardtanh.default": (), "nan_to_num.default": (),
    "threshold.default": (0.3, 0.1), "full_like.default": (1.5,),
    "leaky_relu.default": (0.2,), "clamp_min.default": (0.4,), "clamp_max.default": (0.4,),
}  # fmt: skip

WRITTEN: dict[str, list[Case]] = {
    "div.Tensor_mode": [c(f(B, 3, 4), T((4,)), rounding_mode="floor")],
    "div.Scalar_mode": [c(f(B, 3, 4), 0.3, rounding_mode="trunc")],
    "polygamma.default": [c(1, T((B, 3)))],
    "conj.default": [c(T((B, 3), C64, -1, 1))],
    "_conj.default": [c(T((B, 3), C64, -1, 1))],
    "imag.default": [c(T((B, 3), C64, -1, 1))],
    "real.default": [c(T((B, 3), C64, -1, 1))],
    "view_as_real.default": [c(T((B, 3), C64, -1, 1))],
    "view_as_complex.default": [c(f(B, 3, 2))],
    "complex.default": [c(f(B, 3), f(3))],
    "lerp.Scalar": [c(f(B, 3, 4), f(4), 0.3)],
    "masked_fill.Scalar": [c(f(B, 3, 4), T((4,), BOOL, 0, 1), 0.5)],
    "masked_fill.Tensor": [
        c(f(B, 3, 4), T((4,), BOOL, 0, 1), f()), c(f(3), T((2, 3), BOOL, 0, 1), f()),
    ],
    "fill.Tensor": [c(f(B, 3), f()), c(f(), f())],
    "type_as.default": [c(f(B, 3), i(2))],
    "to.other": [c(f(B, 3), i(2))],
    "prelu.default": [c(f(B, 3, 4), f(3)), c(f(B, 3), f(1)), c(f(3), f(1))],
    "_prelu_kernel.default": [c(f(B, 3, 4), f(1, 3, 1))],
    "clamp.Tensor": [c(f(B, 3, 4), f(4), f(3, 4)), c(f(B, 3), None, f(3)), c(f(B, 3), f())],
    "where.self": [
        c(T((B, 3), BOOL, 0, 1), f(3), f()), c(T((3,), BOOL, 0, 1), f(2, 3), i(2, 3)),
    ],
    "where.Scalar": [c(T((B, 3), BOOL, 0, 1), 1.0, 2.0)],
    "where.ScalarOther": [c(T((B, 3), BOOL, 0, 1), f(3), 2.0)],
    "where.ScalarSelf": [c(T((B, 3), BOOL, 0, 1), 2.0, f(3))],
    "isin.Tensor_Scalar": [c(i(B, 3), 2)],
    "_to_copy.default": [c(f(B, 3), dtype=torch.float64), c(f(B, 3), dtype=torch.float16)],
    "to.dtype": [c(f(B, 3), torch.float64)],
    "to.dtype_layout": [c(f(B, 3), dtype=torch.float64)],
    "to.device": [c(f(B, 3), "cpu", torch.float64)],
    "contiguous.default": [c(f(1, 3, 2, 2), memory_format=torch.channels_last), c(f(B, 3))],
    "clone.default": [c(f(1, 3, 2, 2), memory_format=torch.channels_last), c(f(B, 3))],
    "pow.Scalar": [c(2.0, f(B, 3))],
    "xlogy.Scalar_Self": [c(2.0, T((B, 3)))],
    "remainder.Scalar_Tensor": [c(2.0, T((B, 3)))],
    "acosh.default": [c(T((B, 3), torch.float32, 1.1, 3))],
    "conj_physical.default": [c(T((B, 3), C64, -1, 1))],
    "gcd.default": [c(i(B, 3, high=20), i(3, high=20))],
    "lcm.default": [c(i(B, 3, high=9, low=1), i(3, high=9, low=1))],
    "round.decimals": [c(f(B, 3), decimals=1)],
    "special_zeta.default": [c(T((B, 3), torch.float32, 1.5, 4), T((3,), torch.float32, 1, 3))],
    "special_zeta.other_scalar": [c(T((B, 3), torch.float32, 1.5, 4), 2.0)],
    "special_zeta.self_scalar": [c(2.0, T((B, 3), torch.float32, 1, 3))],
    "ldexp.Tensor": [c(f(B, 3), i(3))],
    "floor_divide.default": [c(f(B, 3), T((3,)))],
    "add.Tensor": [
        c(f(B, 3, 4), f(4), alpha=2), c(f(), f()), c(f(4), f()),
        c(f(4), T((), torch.float64)), c(i(4), T((), torch.float64)),
        c(T((), torch.float64), f()), c(i(), f(3, 4)), c(T((), torch.float16), f()),
    ],
    "mul.Tensor": [c(f(B, 3, 4), f(1, 3, 1)), c(f(3), T((), torch.float64)), c(i(), i(2))],
    "addcmul.default": [c(f(B, 3, 4), f(4), f(3, 1), value=0.5)],
    "addcdiv.default": [c(f(B, 3, 4), f(4), T((3, 1)), value=0.5)],
}  # fmt: skip


def pointwise_cases(name: str) -> list[Case]:
    """Give cases of an elementwise operator: ranks that differ, tensors without axes."""
    if name in WRITTEN:
        return WRITTEN[name]
    packet, overload = name.split(".")
    schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
    kind = _kind(packet)
    shapes: list[tuple[tuple[int, ...], ...]] = [((B, 3, 4), (4,), (3, 1)), ((), (4,), (1,))]
    return [Case(tuple(_arguments(name, schema, kind, ranks))) for ranks in shapes]


def _kind(packet: str) -> T:
    if packet.startswith("bitwise"):
        return T((), I64, 0, 5)
    if packet.startswith("logical"):
        return T((), BOOL, 0, 1)
    return T(())


def _arguments(name: str, schema: Any, kind: T, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    found: list[Any] = []
    ranks = iter(shapes)
    numbers = iter(NUMBERS.get(name, ()))
    for argument in schema.arguments:
        text = str(argument.type)
        if argument.kwarg_only:
            break
        if text == "Tensor":
            found.append(T(next(ranks), kind.dtype, kind.low, kind.high))
        elif name in NUMBERS and text not in ("Tensor", "bool", "str"):
            value = next(numbers, None)
            if value is None:
                break
            found.append(value)
        elif argument.has_default_value():
            break
        else:
            found.append(2 if kind.dtype is I64 else 0.5)
    return found
