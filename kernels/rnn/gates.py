"""Names and numbers of recurrent activations, without torch."""

from collections.abc import Sequence

from fusec.ir.errors import ConfigError

__all__ = ["ACTIVATIONS", "DEFAULTS", "GATES", "MODE_DEFAULTS", "Gate", "arguments", "resolve"]

ACTIVATIONS = (
    "sigmoid", "tanh", "relu", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh",
    "hardsigmoid", "elu", "softsign", "softplus",
)  # fmt: skip
"""Lower-case ONNX names; a function's place is its number in the native kernel."""

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
"""How many times H the columns of a mode's weights are."""

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
        if name not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
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
