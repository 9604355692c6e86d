"""The grouped gather: rows picked by a tensor, or single elements along an axis."""

import triton
import triton.language as tl

from fusec.kernels.grouped.point import finish, layer_at, pointer, ready, tile_at, vector, widened

__all__ = ["gather", "gather_tile"]

_OUT_OF_RANGE = tl.constexpr(1)
"""As `encode.OUT_OF_RANGE`."""


@triton.jit
def gather(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    FORM: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    INDEX: tl.constexpr,
    WRAP: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of gathers."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        gather_tile(
            table, tiles, at, status, WORDS, FORM, X_DTYPE, X_ALIGNED, INDEX, WRAP, N_MULTIPLE,
            POINT, BLOCK_M, BLOCK_N,
        )  # fmt: skip


@triton.jit
def gather_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    FORM: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    INDEX: tl.constexpr,
    WRAP: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Run a tile of gathers; see `grouped` for the table's words.

    An index out of range reads nothing, gives zeros and sets the status.
    """
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    sample = layer_at(tiles, at)
    rows = (block_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    columns = (block_n * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    limit = tl.load(words + 4)
    live = rows < tl.load(words + 2)
    inner = tl.multiple_of(tl.load(words + 3), N_MULTIPLE)
    mask = live & (columns < inner)
    indices = pointer(words, 1, INDEX, 4)
    indices += sample * tl.load(words + 8) + rows * tl.load(words + 9)
    if FORM == "along":
        picked = tl.load(indices + columns * tl.load(words + 10), mask=mask, other=0)
    else:
        picked = tl.load(indices, mask=live, other=0)
    picked = picked.to(tl.int64)
    if WRAP:
        picked = tl.where(picked < 0, picked + limit, picked)
    inside = (picked >= 0) & (picked < limit)
    wrong = mask & ~inside
    bad = tl.max(tl.max(wrong.to(tl.int32), axis=1), axis=0)
    if bad != 0:
        tl.store(status, _OUT_OF_RANGE)
    x = pointer(words, 0, X_DTYPE, X_ALIGNED)
    if FORM == "panels":
        nr = tl.load(words + 12)
        x += (picked // nr) * tl.load(words + 6) + picked % nr + columns * nr
    else:
        step = tl.multiple_of(tl.load(words + 6), vector(X_DTYPE, X_ALIGNED))
        x += tl.multiple_of(sample * tl.load(words + 5), vector(X_DTYPE, X_ALIGNED))
        x += picked * step
        x += columns * (tl.load(words + 7) if FORM == "along" else 1)
    value = widened(tl.load(x, mask=mask & inside, other=0), X_DTYPE)
    finish(words, 13, POINT, value, (sample, rows, columns), mask)
