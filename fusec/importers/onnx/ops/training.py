"""Optimiser steps of ai.onnx.preview.training: Adagrad, Adam, Momentum."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op

_DOMAIN = "ai.onnx.preview.training"
_Step = Callable[..., tuple[Tensor, ...]]


def _update(
    call: Call, rate: Tensor, count: Tensor, tensors: tuple[Tensor, ...], step: _Step, states: int
) -> tuple[Tensor, ...]:
    """Run `step` per optimised tensor; inputs and outputs are grouped by role, as ONNX wants."""
    per_tensor = 2 + states
    if not tensors or len(tensors) % per_tensor:
        call.fail(f"{len(tensors)} tensors given, want a multiple of {per_tensor}")
    n = len(tensors) // per_tensor
    done = [step(call, rate, count, *tensors[i::n]) for i in range(n)]
    return tuple(result[role] for role in range(1 + states) for result in done)


def _regularised(call: Call, x: Tensor, grad: Tensor) -> Tensor:
    return float(call.attr("norm_coefficient", 0.0)) * x + grad


def _adagrad_step(
    call: Call, rate: Tensor, count: Tensor, x: Tensor, grad: Tensor, h: Tensor
) -> tuple[Tensor, ...]:
    decay, epsilon = float(call.attr("decay_factor", 0.0)), float(call.attr("epsilon", 1e-6))
    rate = rate / (1 + cast_to(count, rate.dtype) * decay)
    grad = _regularised(call, x, grad)
    h = h + grad * grad
    return x - rate * grad / (torch.sqrt(h) + epsilon), h


def _adam_step(
    call: Call, rate: Tensor, count: Tensor, x: Tensor, grad: Tensor, v: Tensor, h: Tensor
) -> tuple[Tensor, ...]:
    alpha, beta = float(call.attr("alpha", 0.9)), float(call.attr("beta", 0.999))
    grad = _regularised(call, x, grad)
    v = alpha * v + (1 - alpha) * grad
    h = beta * h + (1 - beta) * grad * grad
    power = cast_to(count, rate.dtype)
    corrected = rate * torch.sqrt(1 - beta**power) / (1 - alpha**power)
    rate = torch.where(count > 0, corrected, rate)
    moved = x - rate * v / (torch.sqrt(h) + float(call.attr("epsilon", 1e-6)))
    return (1 - float(call.attr("norm_coefficient_post", 0.0))) * moved, v, h


def _momentum_step(
    call: Call, rate: Tensor, count: Tensor, x: Tensor, grad: Tensor, v: Tensor
) -> tuple[Tensor, ...]:
    alpha = float(call.attr("alpha"))
    grad = _regularised(call, x, grad)
    beta = cast_to(torch.where(count > 0, float(call.attr("beta")), 1.0), x.dtype)
    v = alpha * v + beta * grad
    step = grad + alpha * v if call.attr("mode") == "nesterov" else v
    return x - rate * step, v


def _adagrad(call: Call, rate: Tensor, count: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return _update(call, rate, count, tensors, _adagrad_step, states=1)


def _adam(call: Call, rate: Tensor, count: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return _update(call, rate, count, tensors, _adam_step, states=2)


def _momentum(call: Call, rate: Tensor, count: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return _update(call, rate, count, tensors, _momentum_step, states=1)


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (_DOMAIN, "Adagrad"): Op(run=_adagrad),
    (_DOMAIN, "Adam"): Op(run=_adam),
    (_DOMAIN, "Momentum"): Op(run=_momentum),
}
