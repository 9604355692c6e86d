"""The grouped softmax: rows of one instance, in blocks of lanes; lanes are added at the end."""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import exp, log
from fusec.kernels.grouped.point import finish, pointer, ready, tile_at, vector, widened

__all__ = ["softmax", "softmax_tile"]

_LOWEST = tl.constexpr(float("-inf"))


@triton.jit
def softmax(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    LOG: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of softmax stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        softmax_tile(
            table, tiles, at, status, WORDS, X_DTYPE, X_ALIGNED, N_MULTIPLE, LOG, POINT, BLOCK_M,
            BLOCK_R,
        )  # fmt: skip


@triton.jit
def softmax_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    LOG: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Run a tile of softmax stages; see `grouped` for the table's words."""
    words, block_m, _ = tile_at(table, tiles, at, WORDS)
    rows = (block_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    live = rows < tl.load(words)
    n = tl.multiple_of(tl.load(words + 1).to(tl.int32), N_MULTIPLE)
    step = tl.multiple_of(tl.load(words + 3), vector(X_DTYPE, X_ALIGNED))
    x = pointer(words, 2, X_DTYPE, X_ALIGNED) + rows * step
    lanes = tl.arange(0, BLOCK_R)[None, :]
    largest = tl.full((BLOCK_M, BLOCK_R), _LOWEST, tl.float32)
    for first in range(0, n, BLOCK_R):
        mask = live & (first + lanes < n)
        value = widened(tl.load(x + (first + lanes), mask=mask, other=_LOWEST), X_DTYPE)
        largest = tl.where(value > largest, value, largest)
    top = tl.max(largest, axis=1)[:, None]
    sums = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
    for first in range(0, n, BLOCK_R):
        mask = live & (first + lanes < n)
        value = widened(tl.load(x + (first + lanes), mask=mask, other=0), X_DTYPE)
        sums += tl.where(mask, exp(value - top), 0.0)
    total = tl.sum(sums, axis=1)[:, None]
    for first in range(0, n, BLOCK_R):
        columns = first + lanes
        mask = live & (columns < n)
        value = widened(tl.load(x + columns, mask=mask, other=0), X_DTYPE) - top
        result = value - log(total) if LOG else tl.div_rn(exp(value), total)
        finish(words, 5, POINT, result, (rows, columns), mask)
