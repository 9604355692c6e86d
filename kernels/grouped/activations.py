"""Activation functions of pointwise steps, float32."""

import triton
import triton.language as tl

from fusec.kernels.grouped.extremes import maximum, minimum
from fusec.kernels.grouped.floats import exp, expm1, horner, log1p, sigmoid, turned

__all__ = [
    "celu",
    "cosine",
    "elu",
    "gelu",
    "gelu_tanh",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "mish",
    "selu",
    "silu",
    "sine",
    "softplus",
]


@triton.jit
def _share(x, u):
    """Give x / (1 + e ** -u)."""
    return x * sigmoid(u)


@triton.jit
def silu(x):
    """X / (1 + e ** -x)."""
    return _share(x, x)


@triton.jit
def gelu(x):
    """Scale x by its share q = erfc(|x| / sqrt 2) / 2 of the normal distribution, or by 1 - q."""
    t = tl.abs(x)
    p = horner(
        t,
        (
            -0.7978854179382324,
            -0.3183000981807709,
            -0.03637295216321945,
            0.004849233664572239,
            -2.6578349206829444e-05,
            -0.0001818526507122442,
            4.978146534995176e-05,
            -7.09775213181274e-06,
            5.52553501620423e-07,
            -1.8472709584216318e-08,
        ),
    )
    q = exp(p * t) * 0.5
    return x * tl.where(x > 0.0, 1.0 - q, q)


@triton.jit
def gelu_tanh(x):
    """Gelu by a hyperbolic tangent."""
    cube = x * x * x
    return _share(x, tl.fma(cube, tl.zeros_like(x) + 0.044715, x) * 1.5957691216057308)


@triton.jit
def mish(x):
    """Multiply x by tanh(ln(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    e = exp(tl.where(x > 20.0, 20.0, x))
    n = e * (e + 2.0)
    return x * tl.div_rn(n, n + 2.0)


@triton.jit
def softplus(x):
    """ln(1 + e ** x)."""
    return tl.where(x > 20.0, x, log1p(exp(x)))


@triton.jit
def _clip(x):
    return minimum(maximum(x + 3.0, tl.zeros_like(x)), tl.zeros_like(x) + 6.0)


@triton.jit
def hardsigmoid(x):
    """Straight from 0 at -3 to 1 at 3."""
    return tl.div_rn(_clip(x), tl.zeros_like(x) + 6.0)


@triton.jit
def hardswish(x):
    """X times its hardsigmoid."""
    return x * hardsigmoid(x)


@triton.jit
def selu(x):
    """Elu, scaled."""
    below = expm1(x) * (1.0507009873554805 * 1.6732632423543772)
    return tl.where(x > 0.0, x * 1.0507009873554805, below)


@triton.jit
def elu(x, alpha):
    """X, below 0 alpha (e ** x - 1)."""
    return tl.where(x > 0.0, x, expm1(x) * alpha)


@triton.jit
def celu(x, alpha):
    """X, below 0 alpha (e ** (x / alpha) - 1)."""
    return tl.where(x > 0.0, x, expm1(tl.div_rn(x, tl.zeros_like(x) + alpha)) * alpha)


@triton.jit
def leaky_relu(x, slope):
    """X, below 0 times a slope."""
    return tl.where(x > 0.0, x, x * slope)


@triton.jit
def sine(x):
    """Sine."""
    return turned(x, 0)


@triton.jit
def cosine(x):
    """Cosine."""
    return turned(x, 1)
