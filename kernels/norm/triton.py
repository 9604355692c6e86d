"""The grouped norm: rows of one instance, in blocks of lanes; lanes are added at the end."""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import float_of
from fusec.kernels.grouped.point import finish, pointer, ready, tile_at, view_offset, widened

__all__ = ["norm", "norm_tile"]


@triton.jit
def norm(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    AXES: tl.constexpr,
    KIND: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of norm stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        norm_tile(
            table, tiles, at, status, WORDS, AXES, KIND, X_DTYPE, X_ALIGNED, N_MULTIPLE, WEIGHT,
            BIAS, POINT, BLOCK_M, BLOCK_R,
        )  # fmt: skip


@triton.jit
def norm_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    AXES: tl.constexpr,
    KIND: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Run a tile of norm stages; see `grouped` for the table's words."""
    words, block_m, _ = tile_at(table, tiles, at, WORDS)
    rows = (block_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    live = rows < tl.load(words)
    n = tl.multiple_of(tl.load(words + 1).to(tl.int32), N_MULTIPLE)
    groups = tl.load(words + 2).to(tl.int32)
    inner = tl.load(words + 3).to(tl.int32)
    x = pointer(words, 7, X_DTYPE, X_ALIGNED)
    lanes = tl.arange(0, BLOCK_R)[None, :]
    mean = tl.zeros((BLOCK_M, 1), tl.float32)
    if KIND != "rms":
        sums = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
        for first in range(0, n, BLOCK_R):
            mask = live & (first + lanes < n)
            frame, _unused = _frame(KIND, rows, first + lanes, groups, inner, n)
            place = x + view_offset(words, 8, True, frame)
            sums += widened(tl.load(place, mask=mask, other=0), X_DTYPE)
        mean = tl.div_rn(tl.sum(sums, axis=1)[:, None], n.to(tl.float32))
    sums = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
    for first in range(0, n, BLOCK_R):
        mask = live & (first + lanes < n)
        frame, _unused = _frame(KIND, rows, first + lanes, groups, inner, n)
        place = x + view_offset(words, 8, True, frame)
        value = widened(tl.load(place, mask=mask, other=0), X_DTYPE) - mean
        value = tl.where(mask, value, 0.0)
        sums = tl.fma(value, value, sums)
    eps = float_of(tl.load(words + 6).to(tl.int32))
    spread = tl.div_rn(tl.sum(sums, axis=1)[:, None], n.to(tl.float32)) + eps
    scale = tl.div_rn(tl.zeros_like(spread) + 1.0, tl.sqrt_rn(spread))
    for first in range(0, n, BLOCK_R):
        mask = live & (first + lanes < n)
        frame, channel = _frame(KIND, rows, first + lanes, groups, inner, n)
        place = x + view_offset(words, 8, True, frame)
        value = widened(tl.load(place, mask=mask, other=0), X_DTYPE) - mean
        value = value * scale
        if WEIGHT != "":
            weight = pointer(words, 4, WEIGHT, 2) + channel
            value = value * widened(tl.load(weight, mask=mask, other=0), WEIGHT)
        if BIAS != "":
            bias = pointer(words, 5, BIAS, 2) + channel
            value = value + widened(tl.load(bias, mask=mask, other=0), BIAS)
        finish(words, 8 + AXES, POINT, value, frame, mask)


@triton.jit
def _frame(KIND: tl.constexpr, rows, columns, groups, inner, n):
    """Give coordinates of elements, and their places in weight and bias."""
    if KIND == "group":
        channel = columns // inner
        frame = (rows // groups, rows % groups, channel, columns % inner)
        return frame, (rows % groups) * (n // inner) + channel
    elif KIND == "columns":
        channel = (rows % groups) * inner + columns % inner
        return (rows // groups, columns // inner, channel), channel
    else:
        return (rows, columns), columns + tl.zeros_like(rows)
