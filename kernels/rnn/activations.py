"""Activation functions of recurrent gates, by their lower-case ONNX names."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.kernels.rnn.gates import DEFAULTS, MODE_DEFAULTS, Gate, arguments, resolve

__all__ = [
    "DEFAULTS",
    "FUNCTIONS",
    "MODE_DEFAULTS",
    "Activation",
    "Gate",
    "arguments",
    "resolve",
]

Activation = Callable[[Tensor, float, float], Tensor]

# Tanh and sigmoid ignore alpha and beta; the table gives every function one signature.
FUNCTIONS: dict[str, Activation] = {
    "relu": lambda x, a, b: torch.relu(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: torch.where(x >= 0, x, a * x),
    "thresholdedrelu": lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x),
    "hardsigmoid": lambda x, a, b: torch.clamp(a * x + b, 0.0, 1.0),
    "elu": lambda x, a, b: torch.where(x >= 0, x, a * torch.expm1(x)),
    "softsign": lambda x, a, b: F.softsign(x),
    "softplus": lambda x, a, b: F.softplus(x, threshold=50.0),
}
