"""Small device kernels for tests of compiling: none is fusec's."""

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    """Add two arrays."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n) + tl.load(y + at, mask=at < n), mask=at < n)


def plain(out, n, VALUE: tl.constexpr):
    """Not decorated: set numbers."""
    tl.store(out + n, VALUE)


@triton.jit
def products(x, y, out, BLOCK: tl.constexpr):
    """Multiply matrices that are as large as blocks: through shared memory."""
    at = tl.arange(0, BLOCK)
    places = at[:, None] * BLOCK + at[None, :]
    total = tl.dot(tl.load(x + places), tl.load(y + places), input_precision="ieee")
    tl.store(out + places, total)


@triton.jit
def shares(x, BLOCK: tl.constexpr):
    """Divide numbers by their sum: all are in registers until it is known."""
    at = tl.arange(0, BLOCK)
    numbers = tl.load(x + at)
    tl.store(x + at, numbers / tl.sum(numbers))
