"""The grouped matmul: a tile of one matrix of one instance, all of k."""

import triton
import triton.language as tl

from fusec.kernels.gemm.triton import products
from fusec.kernels.grouped.point import finish, layer_at, pointer, ready, tile_at, vector, widened

__all__ = ["matmul", "matmul_tile"]


@triton.jit
def matmul(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_ALIGNED: tl.constexpr,
    B_NEAR: tl.constexpr,
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
    """Run tiles of matmul stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        matmul_tile(
            table, tiles, at, status, WORDS, A_DTYPE, A_ALIGNED, B_DTYPE, B_ALIGNED, B_NEAR,
            K_MULTIPLE, N_MULTIPLE, BIAS, POINT, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip


@triton.jit
def matmul_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_ALIGNED: tl.constexpr,
    B_NEAR: tl.constexpr,
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
    """Run a tile of matmul stages; see `grouped` for the table's words."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    inner = tl.load(words + 6).to(tl.int32)
    first = layer_at(tiles, at) // inner
    second = layer_at(tiles, at) % inner
    m = tl.load(words + 3)
    k = tl.multiple_of(tl.load(words + 4), K_MULTIPLE)
    n = tl.multiple_of(tl.load(words + 5), N_MULTIPLE)
    a = pointer(words, 0, A_DTYPE, A_ALIGNED)
    a += tl.multiple_of(
        first * tl.load(words + 7) + second * tl.load(words + 8), vector(A_DTYPE, A_ALIGNED)
    )
    b = pointer(words, 1, B_DTYPE, B_ALIGNED)
    b += tl.multiple_of(
        first * tl.load(words + 10) + second * tl.load(words + 11), vector(B_DTYPE, B_ALIGNED)
    )
    step = tl.multiple_of(tl.load(words + 9), vector(A_DTYPE, A_ALIGNED))
    k_step = tl.load(words + 12)
    n_step = tl.load(words + 13)
    if B_NEAR == "column":
        k_step = tl.multiple_of(k_step, vector(B_DTYPE, B_ALIGNED))
        n_step = 1
    elif B_NEAR == "k":
        k_step = 1
        n_step = tl.multiple_of(n_step, vector(B_DTYPE, B_ALIGNED))
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = products(
        a + rows[:, None] * step,
        b + columns[None, :] * n_step,
        (rows < m)[:, None],
        (columns < n)[None, :],
        k,
        k_step,
        PRECISION,
        WIDEN,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        tl.float64 if A_DTYPE == "float64" else tl.float32,
    )
    if BIAS != "":
        bias = tl.load(pointer(words, 2, BIAS, 2) + columns, mask=columns < n, other=0)
        sums += widened(bias, BIAS)[None, :]
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    finish(words, 14, POINT, sums, (first, second, rows[:, None], columns[None, :]), mask)
