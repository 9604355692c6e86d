"""Activation functions of recurrent gates, by their lower-case ONNX names."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.ir.errors import ConfigError

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

# Default alpha and beta; None means that the function has no such argument and consumes none.
DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (1.0, None),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None),
}

# What an empty list of activations stands for, per mode.
MODE_DEFAULTS: dict[str, tuple[str, ...]] = {
    "lstm": ("sigmoid", "tanh", "tanh"),
    "gru": ("sigmoid", "tanh"),
    "rnn": ("tanh",),
}

Gate = tuple[str, float, float]


def resolve(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> tuple[Gate, ...]:
    """Give each activation its own alpha and beta.

    The values of `alpha` (and of `beta`) are consumed in order, each by the next function that has
    such an argument; a function that finds the list empty takes its default. For a bidirectional
    layer resolve the whole list once and pass each direction its part.

    Args:
        names: activation names, any case.
        alpha: values of ONNX `activation_alpha`.
        beta: values of ONNX `activation_beta`.

    Returns:
        One (name, alpha, beta) per activation; an argument that does not exist is 0.

    Raises:
        ConfigError: an unknown activation name.
    """
    alphas, betas = iter(alpha), iter(beta)
    gates: list[Gate] = []
    for name in (n.lower() for n in names):
        if name not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            raise ConfigError(f"recurrent activation {name!r} is unknown; known: {known}")
        default_alpha, default_beta = DEFAULTS.get(name, (None, None))
        a = 0.0 if default_alpha is None else next(alphas, default_alpha)
        b = 0.0 if default_beta is None else next(betas, default_beta)
        gates.append((name, a, b))
    return tuple(gates)


def arguments(gates: Sequence[Gate]) -> tuple[list[str], list[float], list[float]]:
    """Turn resolved gates back into the names, alphas and betas that `fusec::rnn` takes."""
    names = [name for name, _, _ in gates]
    alphas = [a for name, a, _ in gates if DEFAULTS.get(name, (None, None))[0] is not None]
    betas = [b for name, _, b in gates if DEFAULTS.get(name, (None, None))[1] is not None]
    return names, alphas, betas
