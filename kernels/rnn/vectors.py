"""Activations over rows of floats, in place; every function ends its row masked."""

import numba
import numpy as np

from fusec.kernels.codegen.math import exp, expm1, log1p, sigmoid, tanh
from fusec.kernels.codegen.memory import vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import highest, lowest, select, splat, vabs

__all__ = ["activate", "clamp", "get", "put"]


@numba.njit(error_model="numpy")
def get(address, n):  # type: ignore[no-untyped-def]
    """Load 16 floats, or the first n if there are fewer."""
    return vload(address) if n >= 16 else vload_first(address, n)


@numba.njit(error_model="numpy")
def put(address, value, n):  # type: ignore[no-untyped-def]
    """Store 16 floats, or the first n if there are fewer."""
    if n >= 16:
        vstore(address, value)
    else:
        vstore_first(address, value, n)


@numba.njit(error_model="numpy")
def activate(code, alpha, beta, at, n):  # type: ignore[no-untyped-def]
    """Apply activation number `code` of `gates.ACTIVATIONS` to n floats, in place."""
    a, b, zero, one = splat(alpha), splat(beta), splat(np.float32(0)), splat(np.float32(1))
    for j in range(0, n, 16):
        x = get(at + 4 * j, n - j)
        if code == 0:
            x = sigmoid(x)
        elif code == 1:
            x = tanh(x)
        elif code == 2:
            x = highest(x, zero)
        elif code == 3:
            x = a * x + b
        elif code == 4:
            x = select(x >= zero, x, a * x)
        elif code == 5:
            x = select(x > a, x, zero)
        elif code == 6:
            x = a * tanh(b * x)
        elif code == 7:
            x = lowest(highest(a * x + b, zero), one)
        elif code == 8:
            x = select(x >= zero, x, a * expm1(x))
        elif code == 9:
            x = x / (one + vabs(x))
        else:
            # Beyond 50 the sum is x itself; NaN goes through the logarithm.
            x = select(x > splat(np.float32(50)), x, log1p(exp(x)))
        put(at + 4 * j, x, n - j)


@numba.njit(error_model="numpy")
def clamp(bound, x, n):  # type: ignore[no-untyped-def]
    """Bound n floats at `x` by +- `bound`, in place; NaN stays."""
    high, low = splat(bound), splat(-bound)
    for j in range(0, n, 16):
        value = lowest(highest(get(x + 4 * j, n - j), low), high)
        put(x + 4 * j, value, n - j)
