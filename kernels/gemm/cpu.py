"""The native gemm: row groups, panels, blocks of k, tiles of rows, chunks, in that order.

    row group      at most 96 rows: what of A is read again for each panel stays near
    panel          nr columns; its sums are finished before the next panel
    block of k     2 or 3 chunks: a slice of the panel that stays in L2 while the tiles pass over it
    tile of rows   the microkernel, chunk by chunk

While tiles pass over one slice of B, each of them prefetches its share of the next slice: the
weights arrive while rows are computed. A lone tile is one stream, which the processor sees by
itself: asking ahead only made that slower, at every distance (24 MB in L3: 59 against 47 to 56 GB/s).
"""

from typing import Any

import numba

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import (
    load_i64,
    store_i64,
    vload,
    vload_first,
    vstore,
    vstore_first,
)
from fusec.kernels.gemm.encode import (
    BIAS_SLOT,
    GROUP_ROWS,
    POINT,
    SCRATCH_BYTES,
    TABLE_BYTES,
)
from fusec.kernels.gemm.micro import CHUNK, ROWS, tile_bf16, tile_f32

__all__ = ["KERNELS", "put"]

_BLOCK = 3
"""Chunks in a block of k, at most."""

_POINT_ELEMENTS = 4096
"""Results gathered before the epilogue runs over them: they are still in L1."""

_ROWS4, _ROWS = ROWS[4], ROWS[3]


@numba.njit(error_model="numpy")
def put(
    rows: int, cols: int, source: int, source_step: int, target: int, target_step: int, bias: int
) -> None:
    """Copy float32 rows, plus a bias per column if its address is not 0; may work in place."""
    for r in range(rows):
        x = source + r * source_step
        y = target + r * target_step
        c = 0
        while c + 16 <= cols:
            value = vload(x + 4 * c)
            if bias != 0:
                value = value + vload(bias + 4 * c)
            vstore(y + 4 * c, value)
            c += 16
        if c < cols:
            value = vload_first(x + 4 * c, cols - c)
            if bias != 0:
                value = value + vload_first(bias + 4 * c, cols - c)
            vstore_first(y + 4 * c, value, cols - c)


def _gemm(tile: Any, b_size: int) -> Any:
    """Make the kernel for one storage of B."""

    @numba.njit(error_model="numpy")
    def slice_(
        vecs: int, rows: int, table: int, k0: int, k1: int, b: int, c: int, c_step: int,
        following: int, following_steps: int,
    ) -> None:  # fmt: skip
        """Pass all tiles of a row group over steps k0 to k1 of a panel."""
        most = _ROWS4 if vecs == 4 else _ROWS
        b_step = vecs * 16 * b_size
        tiles = (rows + most - 1) // most
        size = rows // tiles
        larger = rows - size * tiles
        segment = table + TABLE_BYTES - 16
        share = following_steps * b_step // tiles
        ahead_step = share // (k1 - k0) + 1 if k1 > k0 else 0
        if tiles == 1 or following_steps == 0:
            ahead_step = 0
        row = 0
        for i in range(tiles):
            n = size + 1 if i < larger else size
            ahead = following + i * share
            k = k0
            at = b
            while True:
                count = min(CHUNK, k1 - k)
                store_i64(segment, k * 4)
                store_i64(segment + 8, count)
                tile(vecs, n, table + 8 * row, segment, 1 if count > 0 else 0, at, b_step,
                     c + row * c_step, c_step, 1 if k > 0 else 0, ahead, ahead_step)  # fmt: skip
                k += count
                at += count * b_step
                ahead += count * ahead_step
                if k >= k1:
                    break
            row += n

    @numba.njit(error_model="numpy")
    def kernel(
        desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
    ) -> None:
        a = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
        a_step = load_i64(desc + 16)
        b = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
        c = load_i64(bufs + 8 * load_i64(desc + 40)) + load_i64(desc + 48)
        c_step = load_i64(desc + 56)
        bias = 0
        if load_i64(desc + 8 * BIAS_SLOT) >= 0:
            bias = load_i64(bufs + 8 * load_i64(desc + 8 * BIAS_SLOT)) + load_i64(desc + 72)
        k, n, nr = load_i64(desc + 80), load_i64(desc + 88), load_i64(desc + 96)
        vecs = nr // 16
        chunks = (k + CHUNK - 1) // CHUNK
        blocks = max(1, (chunks + _BLOCK - 1) // _BLOCK)
        block = CHUNK * ((chunks + blocks - 1) // blocks)
        groups = max(1, (hi - lo + GROUP_ROWS - 1) // GROUP_ROWS)
        # Even groups of whole tiles: 8 and 6 rows divide 24.
        group = ((hi - lo + groups - 1) // groups + 23) // 24 * 24
        own = scratch + TABLE_BYTES
        first = lo
        while first < hi:
            rows = min(group, hi - first)
            for r in range(rows):
                store_i64(scratch + 8 * r, a + (first + r) * a_step)
            col = lo2 * nr
            for p in range(lo2, hi2):
                cols = min(nr, n - p * nr)
                target = c + first * c_step + p * nr * 4
                sums = target if cols == nr else own
                step = c_step if cols == nr else nr * 4
                k0 = 0
                while True:
                    k1 = min(k0 + block, k)
                    following = min(block, k - k1)
                    if k1 >= k and p + 1 < hi2:
                        following = min(block, k)
                    slice_(vecs, rows, scratch, k0, k1, b + (p * k + k0) * nr * b_size,
                           sums, step, b + (p * k + k1) * nr * b_size, following)  # fmt: skip
                    k0 = k1
                    if k0 >= k:
                        break
                if bias != 0 or cols < nr:
                    put(rows, cols, sums, step, target, c_step, bias + p * nr * 4 if bias else 0)
                done = p * nr + cols - col
                if done * rows >= _POINT_ELEMENTS or p + 1 == hi2:
                    if load_i64(desc + 8 * POINT) != 0:
                        call_point(load_i64(services), desc + 8 * POINT, bufs, 0, 0,
                                   first, rows, col, done, scratch + SCRATCH_BYTES)  # fmt: skip
                    col += done
            first += rows

    return kernel


KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="gemm_f32", function=_gemm(tile_f32, 4)),
    KernelSource(name="gemm_bf16", function=_gemm(tile_bf16, 2)),
)
