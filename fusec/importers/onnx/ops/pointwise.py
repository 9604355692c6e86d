"""Elementwise functions of one tensor: activations and mathematics."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import as_array, tidy, widened
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array

Tensor = torch.Tensor


def _plain(function: Callable[..., Any], numpy: Callable[..., Any] | None = None) -> Op:
    """Return an operator that is one function of one tensor without attributes."""
    host = None if numpy is None else (lambda call, x: as_array(numpy(x)))
    return Op(run=lambda call, x: widened(function)(x), numpy=host)


def _each(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """Return `function` element by element, for sizes that are symbols."""
    objects = np.frompyfunc(function, 1, 1)

    def run(x: Array) -> Array:
        return tidy(as_array(objects(x))) if x.dtype == object else as_array(objects(x))

    return run


def _floor(x: Array) -> Any:
    return _each(math.floor)(x) if x.dtype == object else np.floor(x)


def _ceil(x: Array) -> Any:
    return _each(math.ceil)(x) if x.dtype == object else np.ceil(x)


def _sqrt(x: Array) -> Any:
    return _each(torch.sym_sqrt)(x) if x.dtype == object else np.sqrt(x)


def _leaky_relu(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.attr("alpha", 0.01))


def _thresholded_relu(call: Call, x: Tensor) -> Tensor:
    return torch.where(x > call.attr("alpha", 1.0), x, 0.0)


def _elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.attr("alpha", 1.0))


def _celu(call: Call, x: Tensor) -> Tensor:
    return F.celu(x, call.attr("alpha", 1.0))


def _selu(call: Call, x: Tensor) -> Tensor:
    alpha = call.attr("alpha", 1.67326319217681884765625)
    gamma = call.attr("gamma", 1.05070102214813232421875)
    y: Tensor = torch.ops.aten.elu.default(x, alpha, gamma)
    return y


def _hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    alpha, beta = call.attr("alpha", 0.2), call.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def _softplus(call: Call, x: Tensor) -> Tensor:
    # Beyond the threshold torch returns x itself: exact to the last bit only if exp(-x) vanishes.
    return F.softplus(x, 1, 40) if x.dtype == torch.float64 else F.softplus(x)


def _gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.attr("approximate", "none"))


def _swish(call: Call, x: Tensor) -> Tensor:
    alpha = call.attr("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


def _swiglu(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return _swish(call, a) * b


def _shrink(call: Call, x: Tensor) -> Tensor:
    bias, lambd = call.attr("bias", 0.0), call.attr("lambd", 0.5)
    wide = x.to(torch.float64) if not x.dtype.is_floating_point else x
    inner = torch.where(wide > lambd, wide - bias, 0.0)
    return torch.where(wide < -lambd, wide + bias, inner).to(x.dtype)


def _is_inf(call: Call, x: Tensor) -> Tensor:
    if x.dtype not in (torch.float16, torch.float32, torch.float64, torch.bfloat16):
        x = x.to(torch.float32)
    positive = bool(call.attr("detect_positive", 1))
    negative = bool(call.attr("detect_negative", 1))
    if positive and negative:
        return torch.isinf(x)
    if positive:
        return x == torch.inf
    return x == -torch.inf if negative else torch.zeros_like(x, dtype=torch.bool)


def _is_nan(x: Tensor) -> Tensor:
    small = x.dtype.is_floating_point and x.dtype.itemsize == 1
    return torch.isnan(x.to(torch.float32) if small else x)


def _sign(x: Tensor) -> Tensor:
    return torch.sign(x)


def _prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    if call.opset < 7 and slope.ndim == 1 and x.ndim > 2:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    if x.dtype.is_floating_point and x.ndim >= 2:
        if slope.numel() == 1:
            return F.prelu(x, slope.reshape(1))
        per_channel = slope.ndim == x.ndim - 1 and slope.numel() == slope.shape[0]
        if per_channel and slope.shape[0] == x.shape[1]:
            return F.prelu(x, slope.reshape(-1))
    return widened(lambda a, b: torch.where(a < 0, a * b, a))(x, slope)


def _clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = call.attr("min", None) if low is None else low
    high = call.attr("max", None) if high is None else high
    if low is None and high is None:
        return x
    if isinstance(low, Tensor) != isinstance(high, Tensor):
        low = _like(low, x)
        high = _like(high, x)
    return widened(torch.clamp)(x, low, high)


def _like(bound: Any, x: Tensor) -> Tensor | None:
    if bound is None or isinstance(bound, Tensor):
        return bound
    return torch.full((), bound, dtype=x.dtype)


def _clip_any(call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    """Clamp with bounds kept as numbers wherever they are known."""
    low, high = (_number(bound) for bound in (low, high))
    if isinstance(x, np.ndarray):
        return as_array(np.clip(x, low, high)) if (low, high) != (None, None) else x
    return _clip(call, x, low, high)


def _number(bound: Any) -> Any:
    if not isinstance(bound, np.ndarray):
        return bound
    if bound.size != 1:
        return torch.from_numpy(bound)
    return bound.reshape(()).item()


OPS: Final[Mapping[str, Op]] = {
    "Abs": _plain(torch.abs, np.abs),
    "Acos": _plain(torch.acos),
    "Acosh": _plain(torch.acosh),
    "Asin": _plain(torch.asin),
    "Asinh": _plain(torch.asinh),
    "Atan": _plain(torch.atan),
    "Atanh": _plain(torch.atanh),
    "Ceil": _plain(torch.ceil, _ceil),
    "Celu": Op(run=_celu),
    "Clip": Op(run=_clip_any, either=True),
    "Cos": _plain(torch.cos),
    "Cosh": _plain(torch.cosh),
    "Elu": Op(run=_elu),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Floor": _plain(torch.floor, _floor),
    "Gelu": Op(run=_gelu),
    "HardSigmoid": Op(run=_hard_sigmoid),
    "HardSwish": _plain(F.hardswish),
    "IsInf": Op(run=_is_inf),
    "IsNaN": _plain(_is_nan),
    "LeakyRelu": Op(run=_leaky_relu),
    "Log": _plain(torch.log),
    "Mish": _plain(F.mish),
    "Neg": _plain(torch.neg, np.negative),
    "PRelu": Op(run=_prelu),
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(torch.relu, lambda x: np.maximum(x, 0)),
    "Round": _plain(torch.round),
    "Selu": Op(run=_selu),
    "Shrink": Op(run=_shrink),
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(_sign),
    "Sin": _plain(torch.sin),
    "Sinh": _plain(torch.sinh),
    "Softplus": Op(run=_softplus),
    "Softsign": _plain(F.softsign),
    "Sqrt": _plain(torch.sqrt, _sqrt),
    "SwiGLU": Op(run=_swiglu),
    "Swish": Op(run=_swish),
    "Tan": _plain(torch.tan),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": Op(run=_thresholded_relu),
}
