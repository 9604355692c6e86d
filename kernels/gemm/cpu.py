"""The native gemm: row groups, panels, blocks of k, tiles of rows, chunks, in that order.

row group      at most 96 rows: what of A is read again for each panel stays near
panel          nr columns; its sums are finished before the next panel
block of k     2 or 3 chunks: a slice of the panel that stays in L2 while the tiles pass over it
tile of rows   the microkernel, chunk by chunk
"""

from typing import Any

import numba

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.gemm.encode import (
    BIAS_SLOT,
    GROUP_ROWS,
    POINT,
    SCRATCH_BYTES,
    TABLE_BYTES,
)
from fusec.kernels.gemm.micro import CHUNK
from fusec.kernels.gemm.tiles import pass_bf16, pass_f32, put_f32

__all__ = ["KERNELS"]

_BLOCK = 3
"""Chunks in a block of k, at most."""

_POINT_ELEMENTS = 4096
"""Results gathered before the epilogue runs over them: they are still in L1."""


def _gemm(pass_tiles: Any, b_size: int) -> Any:
    """Make the kernel for one storage of B."""

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
        b_step = nr * b_size
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
                    pass_tiles(vecs, rows, scratch, own - 16, k0, k1,
                               b + (p * k + k0) * b_step, b_step, sums, step,
                               b + (p * k + k1) * b_step, following * b_step)  # fmt: skip
                    k0 = k1
                    if k0 >= k:
                        break
                if bias != 0 or cols < nr:
                    put_f32(
                        rows, cols, sums, step, target, c_step, bias + p * nr * 4 if bias else 0
                    )
                done = p * nr + cols - col
                if done * rows >= _POINT_ELEMENTS or p + 1 == hi2:
                    if load_i64(desc + 8 * POINT) != 0:
                        call_point(load_i64(services), desc + 8 * POINT, bufs, 0, 0,
                                   first, rows, col, done, scratch + SCRATCH_BYTES)  # fmt: skip
                    col += done
            first += rows

    return kernel


KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="gemm_f32", function=_gemm(pass_f32, 4)),
    KernelSource(name="gemm_bf16", function=_gemm(pass_bf16, 2)),
)
