"""The grouped gemm: a tile of rows and columns of one instance, all of k."""

import triton
import triton.language as tl

from fusec.kernels.grouped.point import finish, pointer, ready, tile_at, vector, widened

__all__ = ["CHUNK", "gemm", "gemm_tile", "products"]

CHUNK = tl.constexpr(256)
"""Steps of k that are added up by themselves."""


@triton.jit
def gemm(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    K_MULTIPLE: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of gemm stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        gemm_tile(
            table, tiles, at, status, WORDS, A_DTYPE, A_ALIGNED, B_DTYPE, K_MULTIPLE, N_MULTIPLE,
            BIAS, POINT, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip


@triton.jit
def gemm_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    K_MULTIPLE: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Run a tile of gemm stages; see `grouped` for the table's words."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    a = pointer(words, 0, A_DTYPE, A_ALIGNED)
    b = pointer(words, 1, B_DTYPE, 16)
    m = tl.load(words + 3)
    k = tl.multiple_of(tl.load(words + 4), K_MULTIPLE)
    n = tl.multiple_of(tl.load(words + 5), N_MULTIPLE)
    step = tl.multiple_of(tl.load(words + 6), vector(A_DTYPE, A_ALIGNED))
    nr = tl.multiple_of(tl.load(words + 7), 16)
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    panels = (columns // nr) * (k * nr) + columns % nr
    panels = tl.max_contiguous(tl.multiple_of(panels, 16), 16)
    sums = products(
        a + rows[:, None] * step,
        b + panels[None, :],
        (rows < m)[:, None],
        (columns < n)[None, :],
        k,
        nr,
        PRECISION,
        WIDEN,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    if BIAS != "":
        bias = tl.load(pointer(words, 2, BIAS, 2) + columns, mask=columns < n, other=0)
        sums += widened(bias, BIAS)[None, :]
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    finish(words, 8, POINT, sums, (rows[:, None], columns[None, :]), mask)


@triton.jit
def products(
    a_rows,
    b_columns,
    row_mask,
    column_mask,
    k,
    b_step,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SUM: tl.constexpr = tl.float32,
):
    """Add up products over k, in chunks, each one chain in order; chunks in order.

    Args:
        a_rows: addresses of rows [BLOCK_M, 1], k contiguous.
        b_columns: addresses of columns [1, BLOCK_N].
        row_mask: which rows there are.
        column_mask: which columns there are.
        k: how many products.
        b_step: elements from one step of k to the next in b.
        PRECISION: of float32 factors: "ieee", or "tf32" if asked for.
        WIDEN: multiply float32, whatever the factors are.
        BLOCK_M: rows.
        BLOCK_N: columns.
        BLOCK_K: steps of k at a time; divides the chunk.
        SUM: type of the sums.
    """
    total = tl.zeros((BLOCK_M, BLOCK_N), SUM)
    for first in range(0, k, CHUNK):
        part = tl.zeros((BLOCK_M, BLOCK_N), SUM)
        for start in range(first, tl.minimum(first + CHUNK, k), BLOCK_K):
            steps = start + tl.arange(0, BLOCK_K)
            x = tl.load(a_rows + steps[None, :], mask=row_mask & (steps < k)[None, :], other=0)
            y = tl.load(
                b_columns + steps[:, None] * b_step,
                mask=(steps < k)[:, None] & column_mask,
                other=0,
            )
            if (WIDEN and tl.float32 == SUM) or x.dtype != y.dtype:
                part = tl.dot(
                    x.to(tl.float32),
                    y.to(tl.float32),
                    part,
                    input_precision=PRECISION,
                    out_dtype=tl.float32,
                )
            else:
                part = tl.dot(x, y, part, input_precision=PRECISION, out_dtype=SUM)
        total += part
    return total
