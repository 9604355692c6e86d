"""Random numbers and dropout.

An operator with a `seed` gives, when it runs eagerly, the numbers of NumPy's
``RandomState(seed)``, as the ONNX reference evaluator does. While tracing, they come from torch's
generator and the seed is ignored: a program draws anew at each run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value, is_traced, to_host, to_tensor, torch_dtype

_FLOAT = 1
_INT32 = 6


def _seeded(call: Call) -> np.random.RandomState | None:
    """Return the generator of the node's seed, or None where torch's is used."""
    seed = call.attr("seed", None)
    if seed is None or torch.compiler.is_compiling():
        return None
    return np.random.RandomState(int(seed) % 2**32)


def _uniform(call: Call, shape: Sequence[Any]) -> Tensor:
    """Draw from [0, 1): float64 if seeded, else float32."""
    state = _seeded(call)
    return torch.rand(list(shape)) if state is None else torch.from_numpy(state.rand(*shape))


def _random_uniform(call: Call, shape: Sequence[Any], dtype: torch.dtype) -> Tensor:
    low, high = float(call.attr("low", 0.0)), float(call.attr("high", 1.0))
    return cast_to(_uniform(call, shape) * (high - low) + low, dtype)


def _random_normal(call: Call, shape: Sequence[Any], dtype: torch.dtype) -> Tensor:
    mean, scale = float(call.attr("mean", 0.0)), float(call.attr("scale", 1.0))
    state = _seeded(call)
    draw = torch.randn(list(shape)) if state is None else torch.from_numpy(state.randn(*shape))
    return cast_to(draw * scale + mean, dtype)


def _dtype(call: Call, like: torch.dtype | None = None) -> torch.dtype:
    code = call.attr("dtype", None)
    return torch_dtype(int(code) if code else _FLOAT) if code or like is None else like


def _uniform_shape(call: Call) -> Tensor:
    return _random_uniform(call, call.attr("shape"), _dtype(call))


def _normal_shape(call: Call) -> Tensor:
    return _random_normal(call, call.attr("shape"), _dtype(call))


def _uniform_like(call: Call, x: Tensor) -> Tensor:
    return _random_uniform(call, x.shape, _dtype(call, x.dtype))


def _normal_like(call: Call, x: Tensor) -> Tensor:
    return _random_normal(call, x.shape, _dtype(call, x.dtype))


def _bernoulli(call: Call, probability: Tensor) -> Tensor:
    hit = _uniform(call, probability.shape) < probability
    return cast_to(hit, _dtype(call, probability.dtype))


def _multinomial(call: Call, logits: Tensor) -> Tensor:
    count = int(call.attr("sample_size", 1))
    edges = torch.cumsum(torch.softmax(cast_to(logits, torch.float32), dim=-1), dim=-1)
    draw = cast_to(_uniform(call, (logits.shape[0], count)), edges.dtype)
    picked = torch.searchsorted(edges, draw * edges[:, -1:], right=True)
    picked = torch.clamp(picked, max=logits.shape[1] - 1)
    return cast_to(picked, torch_dtype(int(call.attr("dtype", _INT32))))


def _dropout(
    call: Call, value: Value, ratio: Value = None, training: Value = None
) -> tuple[Value, ...]:
    x = to_tensor(value)
    idle: tuple[Value, ...] = (value,)
    if call.wants(1):
        # What was not dropped; before opset 12 ONNX Runtime leaves the mask at zero.
        mask_dtype = x.dtype if call.opset < 10 else torch.bool
        idle = (value, torch.full_like(x, call.opset >= 12, dtype=mask_dtype))
    if call.opset < 12 or training is None:
        return idle
    if isinstance(ratio, np.ndarray) and ratio.item() == 0:
        return idle
    rate = torch.full((), 0.5) if ratio is None else to_tensor(ratio)
    known = isinstance(training, np.ndarray) or not is_traced(to_tensor(training))
    if known and not to_host(training).item():
        return idle
    keep = _uniform(call, x.shape) >= rate
    dropped = torch.where(keep, x / (1 - cast_to(rate, x.dtype)), torch.zeros_like(x))
    if known:
        return dropped, keep
    flag = to_tensor(training)
    return torch.where(flag, dropped, x), keep | ~flag


OPS: Mapping[str, Op] = {
    "RandomUniform": Op(run=_uniform_shape),
    "RandomNormal": Op(run=_normal_shape),
    "RandomUniformLike": Op(run=_uniform_like),
    "RandomNormalLike": Op(run=_normal_like),
    "Bernoulli": Op(run=_bernoulli),
    "Multinomial": Op(run=_multinomial),
    "Dropout": Op(run=_dropout, either=True),
}
