"""The two limits of a roofline, as kernels.

machine_read    sums memory with 8 independent vectors: bound by loads
machine_fma     24 independent chains of fused multiply-adds in registers: bound by arithmetic
"""

import numpy as np

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import prefetch, vload, vstore
from fusec.kernels.codegen.vectors import fma, splat

__all__ = ["KERNELS"]

_AHEAD_BYTES = 1024


def _read(address, n_bytes, out):  # type: ignore[no-untyped-def]
    """Sum n_bytes (a multiple of 512) of floats."""
    zero = splat(np.float32(0.0))
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for at in range(address, address + n_bytes, 512):
        for line in range(8):
            prefetch(at + _AHEAD_BYTES + 64 * line)
        a = a + vload(at)
        b = b + vload(at + 64)
        c = c + vload(at + 128)
        d = d + vload(at + 192)
        e = e + vload(at + 256)
        f = f + vload(at + 320)
        g = g + vload(at + 384)
        h = h + vload(at + 448)
    vstore(out, ((a + b) + (c + d)) + ((e + f) + (g + h)))


def _fma(rounds, out):  # type: ignore[no-untyped-def]
    """Do rounds * 24 vector multiply-adds: rounds * 768 floating-point operations."""
    x, y = splat(np.float32(0.999)), splat(np.float32(0.001))
    a0, a1, a2, a3, a4, a5, a6, a7 = y, y, y, y, y, y, y, y
    b0, b1, b2, b3, b4, b5, b6, b7 = y, y, y, y, y, y, y, y
    c0, c1, c2, c3, c4, c5, c6, c7 = y, y, y, y, y, y, y, y
    for _ in range(rounds):
        a0, a1, a2, a3 = fma(a0, x, y), fma(a1, x, y), fma(a2, x, y), fma(a3, x, y)
        a4, a5, a6, a7 = fma(a4, x, y), fma(a5, x, y), fma(a6, x, y), fma(a7, x, y)
        b0, b1, b2, b3 = fma(b0, x, y), fma(b1, x, y), fma(b2, x, y), fma(b3, x, y)
        b4, b5, b6, b7 = fma(b4, x, y), fma(b5, x, y), fma(b6, x, y), fma(b7, x, y)
        c0, c1, c2, c3 = fma(c0, x, y), fma(c1, x, y), fma(c2, x, y), fma(c3, x, y)
        c4, c5, c6, c7 = fma(c4, x, y), fma(c5, x, y), fma(c6, x, y), fma(c7, x, y)
    s = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
    t = ((b0 + b1) + (b2 + b3)) + ((b4 + b5) + (b6 + b7))
    u = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7))
    vstore(out, s + t + u)


KERNELS = (
    KernelSource(name="machine_read", function=_read, arguments=3),
    KernelSource(name="machine_fma", function=_fma, arguments=2),
)
