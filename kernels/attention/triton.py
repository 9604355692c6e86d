"""The grouped attention: a block of queries of one head, keys in blocks and in order.

Sums over keys are rescaled whenever a block brings a larger score, so scores are never in memory.
"""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import exp, float_of
from fusec.kernels.grouped.point import finish, layer_at, pointer, ready, tile_at, vector, widened

__all__ = ["attention", "attention_tile"]

_LOWEST = tl.constexpr(float("-inf"))


@triton.jit
def attention(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    Q_ALIGNED: tl.constexpr,
    K_ALIGNED: tl.constexpr,
    V_ALIGNED: tl.constexpr,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of attention stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        attention_tile(
            table, tiles, at, status, WORDS, X_DTYPE, Q_ALIGNED, K_ALIGNED, V_ALIGNED, MASK,
            CAUSAL, POINT, BLOCK_D, BLOCK_E, PRECISION, WIDEN, BLOCK_M, BLOCK_T,
        )  # fmt: skip


@triton.jit
def attention_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    Q_ALIGNED: tl.constexpr,
    K_ALIGNED: tl.constexpr,
    V_ALIGNED: tl.constexpr,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """Run a tile of attention stages; see `grouped` for the table's words."""
    words, block_m, _ = tile_at(table, tiles, at, WORDS)
    heads = tl.load(words + 6).to(tl.int32)
    sample = layer_at(tiles, at) // heads
    head = layer_at(tiles, at) % heads
    shared = head // tl.load(words + 7).to(tl.int32)
    s = tl.load(words + 4).to(tl.int32)
    t = tl.load(words + 5).to(tl.int32)
    d = tl.load(words + 8)
    e = tl.load(words + 9)
    scale = float_of(tl.load(words + 10).to(tl.int32))
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    depth = tl.arange(0, BLOCK_D)
    wide = tl.arange(0, BLOCK_E)
    q = _matrix(words, 0, 11, sample, head, X_DTYPE, Q_ALIGNED)
    q += rows[:, None] * tl.multiple_of(tl.load(words + 13), vector(X_DTYPE, Q_ALIGNED))
    k = _matrix(words, 1, 14, sample, shared, X_DTYPE, K_ALIGNED)
    k_step = tl.multiple_of(tl.load(words + 16), vector(X_DTYPE, K_ALIGNED))
    v = _matrix(words, 2, 17, sample, shared, X_DTYPE, V_ALIGNED)
    v_step = tl.multiple_of(tl.load(words + 19), vector(X_DTYPE, V_ALIGNED))
    queries = tl.load(q + depth[None, :], mask=(rows < s)[:, None] & (depth < d)[None, :], other=0)
    if WIDEN:
        queries = queries.to(tl.float32)
    largest = tl.full((BLOCK_M,), _LOWEST, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_E), tl.float32)
    end = tl.minimum(t, (block_m + 1) * BLOCK_M) if CAUSAL else t
    for first in range(0, end, BLOCK_T):
        places = first + tl.arange(0, BLOCK_T)
        keys = tl.load(
            k + places[None, :] * k_step + depth[:, None],
            mask=(places < t)[None, :] & (depth < d)[:, None],
            other=0,
        )
        values = tl.load(
            v + places[:, None] * v_step + wide[None, :],
            mask=(places < t)[:, None] & (wide < e)[None, :],
            other=0,
        )
        if WIDEN:
            keys = keys.to(tl.float32)
            values = values.to(tl.float32)
        scores = tl.dot(queries, keys, input_precision=PRECISION, out_dtype=tl.float32) * scale
        seen = (rows < s)[:, None] & (places < t)[None, :]
        if CAUSAL:
            seen = seen & (places[None, :] <= rows[:, None])
        if MASK != "":
            mask = pointer(words, 3, MASK, 1)
            mask += sample * tl.load(words + 20) + head * tl.load(words + 21)
            mask += rows[:, None] * tl.load(words + 22) + places[None, :] * tl.load(words + 23)
            given = widened(tl.load(mask, mask=seen, other=0), MASK)
            if MASK == "bool":
                seen = seen & given
            else:
                scores += given
        scores = tl.where(seen, scores, _LOWEST)
        larger = tl.maximum(largest, tl.max(scores, axis=1))
        # Rows that have seen nothing yet have no largest score.
        base = tl.where(larger == _LOWEST, 0.0, larger)
        powers = exp(scores - base[:, None])
        again = exp(largest - base)
        total = total * again + tl.sum(powers, axis=1)
        sums = tl.dot(
            powers.to(values.dtype),
            values,
            sums * again[:, None],
            input_precision=PRECISION,
            out_dtype=tl.float32,
        )
        largest = larger
    result = tl.div_rn(sums, tl.where(total == 0.0, 1.0, total)[:, None])
    mask = (rows < s)[:, None] & (wide < e)[None, :]
    finish(words, 24, POINT, result, (sample, head, rows[:, None], wide[None, :]), mask)


@triton.jit
def _matrix(
    words,
    AT: tl.constexpr,
    STRIDES: tl.constexpr,
    sample,
    head,
    DTYPE: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Give where the rows of a head begin."""
    offset = sample * tl.load(words + STRIDES) + head * tl.load(words + STRIDES + 1)
    return pointer(words, AT, DTYPE, ALIGNED) + tl.multiple_of(offset, vector(DTYPE, ALIGNED))
