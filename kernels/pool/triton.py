"""The grouped pooling and resizing: a tile of output pixels and channels of one image."""

import triton
import triton.language as tl

from fusec.kernels.grouped.extremes import maximum
from fusec.kernels.grouped.floats import float_of
from fusec.kernels.grouped.point import finish, layer_at, pointer, ready, tile_at, widened

__all__ = ["pool", "pool_tile"]


@triton.jit
def pool(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    MODE: tl.constexpr,
    X_DTYPE: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    INCLUDE_PAD: tl.constexpr,
    CORNERS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of pooling or resizing stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        pool_tile(
            table, tiles, at, status, WORDS, MODE, X_DTYPE, NEAR, N_MULTIPLE, INCLUDE_PAD, CORNERS,
            POINT, BLOCK_M, BLOCK_N,
        )  # fmt: skip


@triton.jit
def pool_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    MODE: tl.constexpr,
    X_DTYPE: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    INCLUDE_PAD: tl.constexpr,
    CORNERS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Run a tile of pooling or resizing stages; see `grouped` for the table's words."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    image = layer_at(tiles, at)
    rows = (block_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    columns = (block_n * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    channels = tl.multiple_of(tl.load(words + 2), N_MULTIPLE)
    mask = (rows < tl.load(words + 1)) & (columns < channels)
    out_width = tl.load(words + 6).to(tl.int32)
    y = rows // out_width
    x = rows % out_width
    start = pointer(words, 0, X_DTYPE, 1) + image * tl.load(words + 18)
    start += columns * (1 if NEAR else tl.load(words + 21))
    if MODE == "bilinear" or MODE == "nearest" or MODE == "nearest_exact":
        value = _resized(words, start, y, x, mask, MODE, X_DTYPE, CORNERS)
    else:
        value = _pooled(words, start, y, x, mask, MODE, X_DTYPE, INCLUDE_PAD)
    finish(words, 22, POINT, value, (image, y, x, columns), mask)


@triton.jit
def _window(words, i, AXIS: tl.constexpr, ADAPTIVE: tl.constexpr):
    """Give a window's first place, its step, its taps, and its places with padding."""
    size = tl.load(words + 3 + AXIS).to(tl.int32)
    if ADAPTIVE:
        out = tl.load(words + 5 + AXIS).to(tl.int32)
        first = i * size // out
        taps = ((i + 1) * size + out - 1) // out - first
        return first, 1, taps, taps
    else:
        kernel = tl.load(words + 7 + AXIS).to(tl.int32)
        padding = tl.load(words + 11 + AXIS).to(tl.int32)
        first = i * tl.load(words + 9 + AXIS).to(tl.int32) - padding
        taps = kernel + tl.zeros_like(i)
        padded = tl.minimum(first + kernel, size + padding) - first
        return first, tl.load(words + 13 + AXIS).to(tl.int32), taps, padded


@triton.jit
def _pooled(
    words,
    start,
    y,
    x,
    mask,
    MODE: tl.constexpr,
    X_DTYPE: tl.constexpr,
    INCLUDE_PAD: tl.constexpr,
):
    ADAPTIVE: tl.constexpr = MODE == "adaptive_max" or MODE == "adaptive_avg"
    LARGEST: tl.constexpr = MODE == "max" or MODE == "adaptive_max"
    height = tl.load(words + 3).to(tl.int32)
    width = tl.load(words + 4).to(tl.int32)
    top, step_y, taps_y, padded_y = _window(words, y, 0, ADAPTIVE)
    left, step_x, taps_x, padded_x = _window(words, x, 1, ADAPTIVE)
    worst = float("-inf") if LARGEST else 0.0
    total = tl.zeros(mask.shape, tl.float32) + worst
    there = tl.zeros(mask.shape, tl.float32)
    # Pixels behind the last may want more taps than there are; they are masked.
    most_y = tl.max(tl.max(tl.minimum(taps_y, height + taps_y * 0), axis=1), axis=0)
    most_x = tl.max(tl.max(tl.minimum(taps_x, width + taps_x * 0), axis=1), axis=0)
    if not ADAPTIVE:
        most_y = tl.load(words + 7).to(tl.int32)
        most_x = tl.load(words + 8).to(tl.int32)
    for i in range(most_y):
        for j in range(most_x):
            row = top + i * step_y
            column = left + j * step_x
            taken = (i < taps_y) & (j < taps_x) & (row >= 0) & (row < height)
            taken = mask & taken & (column >= 0) & (column < width)
            place = start + row * tl.load(words + 19) + column * tl.load(words + 20)
            value = widened(tl.load(place, mask=taken, other=0), X_DTYPE)
            if LARGEST:
                total = tl.where(taken, maximum(value, total), total)
            else:
                total += value
                there += taken.to(tl.float32)
    if LARGEST:
        return total
    else:
        divisor = tl.load(words + 15).to(tl.float32)
        if INCLUDE_PAD:
            there = (padded_y * padded_x).to(tl.float32) + tl.zeros_like(total)
        return tl.div_rn(total, tl.where(divisor != 0.0, divisor, there))


@triton.jit
def _resized(
    words, start, y, x, mask, MODE: tl.constexpr, X_DTYPE: tl.constexpr, CORNERS: tl.constexpr
):
    top, bottom, down = _between(words, y, 0, MODE, CORNERS)
    left, right, along = _between(words, x, 1, MODE, CORNERS)
    upper = start + top * tl.load(words + 19)
    value = widened(tl.load(upper + left * tl.load(words + 20), mask=mask, other=0), X_DTYPE)
    if MODE == "bilinear":
        lower = start + bottom * tl.load(words + 19)
        b = widened(tl.load(upper + right * tl.load(words + 20), mask=mask, other=0), X_DTYPE)
        c = widened(tl.load(lower + left * tl.load(words + 20), mask=mask, other=0), X_DTYPE)
        d = widened(tl.load(lower + right * tl.load(words + 20), mask=mask, other=0), X_DTYPE)
        value = value * (1.0 - along) + b * along
        value = value * (1.0 - down) + (c * (1.0 - along) + d * along) * down
    return value


@triton.jit
def _between(words, i, AXIS: tl.constexpr, MODE: tl.constexpr, CORNERS: tl.constexpr):
    """Give the places that a pixel lies between, and how far along it is."""
    size = tl.load(words + 3 + AXIS).to(tl.int32)
    out = tl.load(words + 5 + AXIS).to(tl.int32)
    if CORNERS:
        spans = tl.where(out > 1, out - 1, 1).to(tl.float32)
        scale = tl.where(out > 1, tl.div_rn((size - 1).to(tl.float32), spans), 0.0)
    else:
        given = float_of(tl.load(words + 16 + AXIS).to(tl.int32))
        scale = tl.where(given > 0.0, given, tl.div_rn(size.to(tl.float32), out.to(tl.float32)))
    position = i.to(tl.float32)
    if MODE == "bilinear":
        if CORNERS:
            position = position * scale
        else:
            position = (position + 0.5) * scale - 0.5
            position = tl.where(position > 0.0, position, 0.0)
    elif MODE == "nearest_exact":
        position = (position + 0.5) * scale
    else:
        position = position * scale
    first = tl.minimum(tl.floor(position).to(tl.int32), size - 1)
    weight = position - first.to(tl.float32)
    weight = tl.where(weight > 0.0, tl.where(weight < 1.0, weight, 1.0), 0.0)
    return first, tl.minimum(first + 1, size - 1), weight
