"""Grouped convolutions: a tile of pixels and channels of one image, as a product or by tap."""

import triton
import triton.language as tl

from fusec.kernels.gemm.triton import CHUNK
from fusec.kernels.grouped.point import finish, layer_at, pointer, ready, tile_at, vector, widened

__all__ = ["conv", "conv_tile", "depthwise", "depthwise_tile"]


@triton.jit
def _tap(words, rows, ky, kx, TRANSPOSED: tl.constexpr, VECTOR: tl.constexpr):
    """Give where a tap reads for output pixels, and whether it does.

    Args:
        words: a row of the table.
        rows: output pixels.
        ky: row of the tap.
        kx: its column.
        TRANSPOSED: pixels are those that are spread to this one.
        VECTOR: what strides are multiples of.
    """
    height = tl.load(words + 7).to(tl.int32)
    width = tl.load(words + 8).to(tl.int32)
    out_width = tl.load(words + 9).to(tl.int32)
    stride_y = tl.load(words + 12).to(tl.int32)
    stride_x = tl.load(words + 13).to(tl.int32)
    padding_y = tl.load(words + 14).to(tl.int32)
    padding_x = tl.load(words + 15).to(tl.int32)
    far_y = ky * tl.load(words + 16).to(tl.int32)
    far_x = kx * tl.load(words + 17).to(tl.int32)
    y = rows // out_width
    x = rows % out_width
    if TRANSPOSED:
        y = y + padding_y - far_y
        x = x + padding_x - far_x
        reads = (y >= 0) & (x >= 0) & (y % stride_y == 0) & (x % stride_x == 0)
        y = y // stride_y
        x = x // stride_x
    else:
        y = y * stride_y - padding_y + far_y
        x = x * stride_x - padding_x + far_x
        reads = (y >= 0) & (x >= 0)
    reads = reads & (y < height) & (x < width)
    step_y = tl.multiple_of(tl.load(words + 19), VECTOR)
    step_x = tl.multiple_of(tl.load(words + 20), VECTOR)
    return y * step_y + x * step_x, reads


@triton.jit
def conv(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_COLUMNS: tl.constexpr,
    C_MULTIPLE: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of convolutions."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        conv_tile(
            table, tiles, at, status, WORDS, A_DTYPE, A_ALIGNED, B_DTYPE, B_COLUMNS, C_MULTIPLE,
            NEAR, N_MULTIPLE, TRANSPOSED, BIAS, POINT, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip


@triton.jit
def conv_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_COLUMNS: tl.constexpr,
    C_MULTIPLE: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Run a tile of convolutions; see `grouped` for the table's words."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    groups = tl.load(words + 6).to(tl.int32)
    image = layer_at(tiles, at) // groups
    group = layer_at(tiles, at) % groups
    n = tl.multiple_of(tl.load(words + 4).to(tl.int32), N_MULTIPLE)
    channels = tl.multiple_of(tl.load(words + 5).to(tl.int32), C_MULTIPLE)
    kernel_x = tl.load(words + 11).to(tl.int32)
    k = tl.load(words + 10).to(tl.int32) * kernel_x * channels
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    live = rows < tl.load(words + 3)
    VECTOR: tl.constexpr = vector(A_DTYPE, A_ALIGNED)
    near = 1 if NEAR else tl.load(words + 21)
    x = pointer(words, 0, A_DTYPE, A_ALIGNED)
    x += tl.multiple_of(image * tl.load(words + 18), vector(A_DTYPE, A_ALIGNED))
    x += group * channels * near
    nr = tl.multiple_of(tl.load(words + 25), B_COLUMNS)
    k_step = tl.multiple_of(tl.load(words + 24), B_COLUMNS)
    panels = (columns // nr) * tl.load(words + 23) + columns % nr
    panels = tl.max_contiguous(tl.multiple_of(panels, B_COLUMNS), B_COLUMNS)
    b = pointer(words, 1, B_DTYPE, B_COLUMNS) + group * tl.load(words + 22)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, k, CHUNK):
        part = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(first, tl.minimum(first + CHUNK, k), BLOCK_K):
            steps = start + tl.arange(0, BLOCK_K)
            if C_MULTIPLE >= BLOCK_K:
                # All steps are channels of one tap.
                tap = start // channels
                channel = start % channels + tl.arange(0, BLOCK_K)[None, :]
                place, reads = _tap(
                    words, rows, tap // kernel_x, tap % kernel_x, TRANSPOSED, VECTOR
                )
                place = place[:, None]
                reads = reads[:, None] & (steps < k)[None, :]
            else:
                tap = (steps // channels)[None, :]
                channel = (steps % channels)[None, :]
                place, reads = _tap(
                    words, rows[:, None], tap // kernel_x, tap % kernel_x, TRANSPOSED, VECTOR
                )
                reads = reads & (steps < k)[None, :]
            left = tl.load(x + place + channel * near, mask=reads & live[:, None], other=0)
            right = tl.load(
                b + steps[:, None] * k_step + panels[None, :],
                mask=(steps < k)[:, None] & (columns < n)[None, :],
                other=0,
            )
            if WIDEN or left.dtype != right.dtype:
                left = left.to(tl.float32)
                right = right.to(tl.float32)
            part = tl.dot(left, right, part, input_precision=PRECISION, out_dtype=tl.float32)
        total += part
    _end(words, rows, columns, n, live, image, group, total, BIAS, POINT)


@triton.jit
def _end(
    words,
    rows,
    columns,
    n,
    live,
    image,
    group,
    total,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
):
    """Add the bias, run the epilogue and store."""
    out = group * n + columns
    if BIAS != "":
        bias = tl.load(pointer(words, 2, BIAS, 2) + out, mask=columns < n, other=0)
        total += widened(bias, BIAS)[None, :]
    out_width = tl.load(words + 9).to(tl.int32)
    frame = (image, (rows // out_width)[:, None], (rows % out_width)[:, None], out[None, :])
    finish(words, 26, POINT, total, frame, live[:, None] & (columns < n)[None, :])


@triton.jit
def depthwise(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_COLUMNS: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of depthwise convolutions: one chain over taps for each pixel and channel."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        depthwise_tile(
            table, tiles, at, status, WORDS, A_DTYPE, A_ALIGNED, B_DTYPE, B_COLUMNS, NEAR,
            N_MULTIPLE, TRANSPOSED, BIAS, POINT, BLOCK_M, BLOCK_N,
        )  # fmt: skip


@triton.jit
def depthwise_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    A_DTYPE: tl.constexpr,
    A_ALIGNED: tl.constexpr,
    B_DTYPE: tl.constexpr,
    B_COLUMNS: tl.constexpr,
    NEAR: tl.constexpr,
    N_MULTIPLE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Run a tile of depthwise convolutions: one chain over taps for each pixel and channel."""
    words, block_m, block_n = tile_at(table, tiles, at, WORDS)
    image = layer_at(tiles, at)
    n = tl.multiple_of(tl.load(words + 4).to(tl.int32), N_MULTIPLE)
    kernel_x = tl.load(words + 11).to(tl.int32)
    rows = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    live = rows < tl.load(words + 3)
    VECTOR: tl.constexpr = vector(A_DTYPE, A_ALIGNED)
    near = 1 if NEAR else tl.load(words + 21)
    x = pointer(words, 0, A_DTYPE, A_ALIGNED)
    x += tl.multiple_of(image * tl.load(words + 18), vector(A_DTYPE, A_ALIGNED))
    nr = tl.multiple_of(tl.load(words + 25), B_COLUMNS)
    k_step = tl.multiple_of(tl.load(words + 24), B_COLUMNS)
    panels = (columns // nr) * tl.load(words + 23) + columns % nr
    panels = tl.max_contiguous(tl.multiple_of(panels, B_COLUMNS), B_COLUMNS)
    b = pointer(words, 1, B_DTYPE, B_COLUMNS)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for tap in range(tl.load(words + 10).to(tl.int32) * kernel_x):
        place, reads = _tap(words, rows, tap // kernel_x, tap % kernel_x, TRANSPOSED, VECTOR)
        mask = (reads & live)[:, None] & (columns < n)[None, :]
        left = tl.load(x + place[:, None] + columns[None, :] * near, mask=mask, other=0)
        right = tl.load(b + tap * k_step + panels, mask=columns < n, other=0)
        right = widened(right, B_DTYPE)[None, :] + tl.zeros_like(total)
        total = tl.fma(widened(left, A_DTYPE), right, total)
    _end(words, rows, columns, n, live, image, 0, total, BIAS, POINT)
