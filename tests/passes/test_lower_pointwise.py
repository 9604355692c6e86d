"""Elementwise operators: each becomes a pointwise stage, and answers as torch does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.lowered import check_lowered
from torch import nn

from fusec.importers.torch_capture import Dynamic
from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def integers(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-9, 10, shape, generator=generator).to(dtype)


X, Y, ROW = floats(2, 3, 20), floats(2, 3, 20, seed=2), floats(20, seed=3)
WHOLE, SHORT = integers(2, 3, 20), integers(3, 20, dtype=torch.int32)
FUNCTIONS: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "neg": (torch.neg, (X,)),
    "abs": (torch.abs, (X,)),
    "sign": (torch.sign, (X,)),
    "exp": (torch.exp, (X,)),
    "exp2": (torch.exp2, (X,)),
    "expm1": (torch.expm1, (X,)),
    "log": (torch.log, (X,)),
    "log2": (torch.log2, (X.abs(),)),
    "log10": (torch.log10, (X.abs(),)),
    "log1p": (torch.log1p, (X.abs(),)),
    "sqrt": (torch.sqrt, (X,)),
    "rsqrt": (torch.rsqrt, (X.abs() + 0.1,)),
    "reciprocal": (torch.reciprocal, (X,)),
    "tanh": (torch.tanh, (X,)),
    "sigmoid": (torch.sigmoid, (X,)),
    "erf": (torch.erf, (X,)),
    "sin": (torch.sin, (X * 100,)),
    "cos": (torch.cos, (X * 100,)),
    "floor": (torch.floor, (X,)),
    "ceil": (torch.ceil, (X,)),
    "round": (torch.round, (X * 2,)),
    "trunc": (torch.trunc, (X,)),
    "relu": (F.relu, (X,)),
    "gelu": (F.gelu, (X,)),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), (X,)),
    "silu": (F.silu, (X,)),
    "mish": (F.mish, (X,)),
    "hardswish": (F.hardswish, (X,)),
    "hardsigmoid": (F.hardsigmoid, (X,)),
    "selu": (F.selu, (X,)),
    "elu": (lambda x: F.elu(x, 0.7), (X,)),
    "celu": (lambda x: F.celu(x, 0.7), (X,)),
    "softplus": (F.softplus, (X * 5,)),
    "softplus_beta": (lambda x: F.softplus(x, 2.0, 5.0), (X,)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), (X,)),
    "threshold": (lambda x: F.threshold(x, 0.3, 0.1), (X,)),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 2.0), (X,)),
    "relu6": (F.relu6, (X,)),
    "log_sigmoid": (F.logsigmoid, (X,)),
    "tanhshrink": (F.tanhshrink, (X,)),
    "hardshrink": (F.hardshrink, (X,)),
    "glu": (lambda x: F.glu(x, 2), (X,)),
    "prelu": (F.prelu, (X, floats(3))),
    "add": (torch.add, (X, ROW)),
    "add_alpha": (lambda a, b: torch.add(a, b, alpha=2.5), (X, ROW)),
    "add_int_float": (torch.add, (WHOLE, X)),
    "add_int_number": (lambda a: a + 3, (WHOLE,)),
    "add_int_fraction": (lambda a: a + 0.5, (WHOLE,)),
    "add_mixed_ints": (torch.add, (WHOLE, SHORT)),
    "add_single_double": (torch.add, (X, torch.tensor(0.3, dtype=torch.float64))),
    "sub": (torch.sub, (X, floats(3, 1))),
    "rsub": (lambda a: 2.5 - a, (X,)),
    "rsub_alpha": (lambda a, b: torch.rsub(a, b, alpha=3), (X, Y)),
    "mul": (torch.mul, (X, floats(3, 1))),
    "mul_double": (torch.mul, (X.double(), Y.double())),
    "div": (torch.div, (X, Y)),
    "div_ints": (torch.div, (WHOLE, WHOLE + 20)),
    "div_floor": (lambda a, b: torch.div(a, b, rounding_mode="floor"), (X, Y)),
    "div_trunc": (lambda a, b: torch.div(a, b, rounding_mode="trunc"), (X, Y)),
    "floor_divide_int": (lambda a: a // 4, (WHOLE,)),
    "remainder": (torch.remainder, (X, Y)),
    "remainder_int": (lambda a: a % 4, (WHOLE,)),
    "remainder_int_negative": (lambda a: a % -4, (WHOLE,)),
    "fmod": (torch.fmod, (X, Y)),
    "fmod_int": (lambda a: torch.fmod(a, 4), (WHOLE,)),
    "maximum": (torch.maximum, (X, Y)),
    "minimum": (torch.minimum, (X, ROW)),
    "clamp": (lambda x: x.clamp(-1, 2), (X,)),
    "clamp_low": (lambda x: x.clamp(min=-1), (X,)),
    "clamp_int": (lambda x: x.clamp(-2, 3), (WHOLE,)),
    "clamp_int_float": (lambda x: x.clamp(-2.5, 3), (WHOLE,)),
    "clamp_tensors": (lambda x, a, b: x.clamp(a, b), (X, ROW - 1, ROW + 1)),
    **{
        f"pow_{e}": (lambda x, e=e: torch.pow(x, e), (X,))
        for e in (0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.7, -3)
    },
    "pow_int": (lambda x: x**2, (WHOLE,)),
    "pow_tensor": (torch.pow, (X.abs(), Y)),
    "pow_of_number": (lambda x: torch.pow(2.0, x), (X,)),
    "pow_of_another": (lambda x: torch.pow(3.5, x), (X,)),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.3), (X, Y)),
    "lerp_high": (lambda a, b: torch.lerp(a, b, 0.7), (X, Y)),
    "addcmul": (lambda a, b, c: torch.addcmul(a, b, c, value=0.5), (X, Y, ROW)),
    "addcdiv": (lambda a, b, c: torch.addcdiv(a, b, c, value=0.5), (X, Y, ROW)),
    "where": (lambda x, y: torch.where(x > y, x, y), (X, Y)),
    "where_number": (lambda x: torch.where(x > 0, x, 0.25), (X,)),
    "where_ints": (lambda x: torch.where(x > 0, x, -x), (WHOLE,)),
    "masked_fill": (lambda x: x.masked_fill(x > 1, float("-inf")), (X,)),
    "compare_chain": (lambda x, y: (x > y) & (x < 1) | ~(y >= 0.5), (X, Y)),
    "compare_int_fraction": (lambda x: x > 0.5, (WHOLE,)),
    "compare_int_float": (lambda x, y: x <= y, (WHOLE, X)),
    "eq": (lambda x: x == 3, (WHOLE,)),
    "ne": (lambda x, y: x != y, (X, Y)),
    "logical_and": (torch.logical_and, (X, WHOLE)),
    "logical_or": (torch.logical_or, (X > 0, WHOLE)),
    "logical_xor": (torch.logical_xor, (X, WHOLE)),
    "logical_not": (torch.logical_not, (WHOLE,)),
    "bitwise": (lambda a, b: (a & 5) ^ ~b, (WHOLE, SHORT)),
    "isnan": (lambda x: torch.isnan(torch.log(x)), (X,)),
    "isinf": (lambda x: torch.isinf(1 / x.round()), (X,)),
    "nan_to_num": (lambda x: torch.nan_to_num(torch.log(x.round()), 1, 2, 3), (X,)),
    "to_int": (lambda x: x.to(torch.int64), (X,)),
    "to_int32": (lambda x: x.to(torch.int32), (X,)),
    "to_uint8": (lambda x: x.abs().to(torch.uint8), (X,)),
    "to_int8": (lambda x: x.to(torch.int8), (WHOLE,)),
    "to_bool": (lambda x: x.to(torch.bool), (WHOLE,)),
    "to_double": (lambda x: x.to(torch.float64), (X,)),
    "to_half": (lambda x: x.to(torch.float16), (X,)),
    "from_bool": (lambda x: (x > 0).to(torch.float32), (X,)),
    "from_uint8": (lambda x: x.to(torch.float32) / 255, ((WHOLE + 9).to(torch.uint8),)),
    "from_half": (lambda x: x.float() * 2, (X.half(),)),
    "from_bfloat16": (lambda x: x.float() * 2, (X.bfloat16().float(),)),
}  # fmt: skip


def _groups() -> dict[str, list[str]]:
    """Put functions of the same inputs together: capturing takes most of the time."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, (_, inputs) in FUNCTIONS.items():
        groups.setdefault(tuple(map(id, inputs)), []).append(name)
    parts = [names[i : i + 12] for names in groups.values() for i in range(0, len(names), 12)]
    return {" ".join(names): names for names in parts}


class Calls(nn.Module):
    """Functions of the same inputs as a module."""

    def __init__(self, functions: list[Callable[..., torch.Tensor]]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(f(*inputs) for f in self.functions)


@pytest.mark.parametrize("names", _groups().values(), ids=_groups())
def test_operators(names: list[str]) -> None:
    module = Calls([FUNCTIONS[name][0] for name in names])
    inputs = FUNCTIONS[names[0]][1]
    check_lowered(module, *inputs, expect={TileOp.POINTWISE})


def test_shapes_that_vary() -> None:
    dynamic: Dynamic = {0: {0: Symbol("n", 1, 99)}}
    module = Call(lambda x, y: F.gelu(x * 2 + y).clamp(min=-0.1))
    others = [(floats(n, 33), floats(33)) for n in (1, 2, 50)]
    check_lowered(
        module,
        floats(7, 33),
        floats(33),
        expect={TileOp.POINTWISE},
        dynamic=dynamic,
        others=others,
    )
