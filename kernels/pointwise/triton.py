"""The grouped pointwise kernel: a tile of rows and columns of one instance."""

import triton
import triton.language as tl

from fusec.kernels.grouped.point import finish, ready, tile_at

__all__ = ["pointwise", "pointwise_tile", "row_frame"]


@triton.jit
def pointwise(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    AXES: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of pointwise stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        pointwise_tile(table, tiles, at, status, WORDS, AXES, N_MULTIPLE, POINT, BLOCK_M, BLOCK_N)


@triton.jit
def pointwise_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    AXES: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Run a tile of pointwise stages; see `grouped` for the table's words."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    limit = tl.multiple_of(tl.load(words + 1), N_MULTIPLE)
    mask = (rows < tl.load(words))[:, None] & (columns < limit)[None, :]
    frame = row_frame(words + 2, rows, AXES - 1) + (columns[None, :],)
    finish(words, AXES, POINT, columns[None, :].to(tl.int64), frame, mask)


@triton.jit
def row_frame(extents, rows, AXES: tl.constexpr):
    """Split numbers of rows into coordinates [rows, 1] of axes.

    Args:
        extents: addresses of the extents of all axes but the first.
        rows: numbers.
        AXES: how many there are.
    """
    frame = ()
    rest = rows
    for axis in tl.static_range(AXES - 1):
        extent = tl.load(extents + (AXES - 2 - axis)).to(tl.int32)
        frame = ((rest % extent)[:, None],) + frame
        rest = rest // extent
    return (rest[:, None],) + frame
