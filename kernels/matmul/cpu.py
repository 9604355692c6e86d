"""The native matmul: per batch and row group, panels of B packed on the way, tiles as in gemm."""

from typing import Any

import numba

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.gemm.encode import GROUP_ROWS, TABLE_BYTES
from fusec.kernels.gemm.tiles import pass_f32, pass_f64, put_f32, put_f64
from fusec.kernels.matmul.encode import BIAS, BLOCK, POINT, SCRATCH_BYTES
from fusec.kernels.matmul.panel import pack_f32, pack_f64

__all__ = ["KERNELS"]

_VECTORS = 3
"""In a whole panel."""

_POINT_ELEMENTS = 4096
"""Results gathered before the epilogue runs over them: they are still in L1."""

_DIRECT_ROWS = 8
"""Up to so many rows read B where it lies, if its rows do."""


_AHEAD = 16
"""Rows of B asked for ahead where they lie far apart, which no processor foresees."""


def _matmul(pass_tiles: Any, pack: Any, put: Any, size: int) -> Any:
    """Make the kernel for one dtype."""
    lanes = 64 // size

    @numba.njit(error_model="numpy")
    def multiply(
        desc: int, bufs: int, scratch: int, services: int, b: int, c: int, bias: int,
        d0: int, d1: int, first: int, rows: int, lo2: int, hi2: int,
    ) -> None:  # fmt: skip
        """Compute one row group of one batch; its row addresses are in scratch."""
        k_step, n_step = load_i64(desc + 72), load_i64(desc + 80)
        c_step, k, n = load_i64(desc + 120), load_i64(desc + 160), load_i64(desc + 168)
        width = _VECTORS * lanes
        own = scratch + TABLE_BYTES
        packed = own + GROUP_ROWS * _VECTORS * 64
        col = lo2 * width
        for p in range(lo2, hi2):
            cols = min(width, n - p * width)
            vecs = (cols + lanes - 1) // lanes
            whole = cols == vecs * lanes
            target = c + p * width * size
            sums = target if whole else own
            step = c_step if whole else vecs * 64
            direct = whole and n_step == size and rows <= _DIRECT_ROWS
            k0 = 0
            while True:
                k1 = min(k0 + BLOCK, k)
                at = b + k0 * k_step + p * width * n_step
                if direct:
                    pass_tiles(vecs, rows, scratch, own - 16, k0, k1, at, k_step,
                               sums, step, at + _AHEAD * k_step, -1)  # fmt: skip
                else:
                    pack(at, k_step, n_step, k1 - k0, cols, packed, vecs)
                    pass_tiles(vecs, rows, scratch, own - 16, k0, k1, packed, vecs * 64,
                               sums, step, at, 0)  # fmt: skip
                k0 = k1
                if k0 >= k:
                    break
            if bias != 0 or not whole:
                put(rows, cols, sums, step, target, c_step,
                    bias + p * width * size if bias != 0 else 0)  # fmt: skip
            done = p * width + cols - col
            if done * rows >= _POINT_ELEMENTS or p + 1 == hi2:
                if load_i64(desc + 8 * POINT) != 0:
                    call_point(load_i64(services), desc + 8 * POINT, bufs, d0, d1,
                               first, rows, col, done, scratch + SCRATCH_BYTES)  # fmt: skip
                col += done

    @numba.njit(error_model="numpy")
    def kernel(
        desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
    ) -> None:
        a = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
        b = load_i64(bufs + 8 * load_i64(desc + 40)) + load_i64(desc + 48)
        c = load_i64(bufs + 8 * load_i64(desc + 88)) + load_i64(desc + 96)
        bias = 0
        if load_i64(desc + 8 * BIAS) >= 0:
            bias = load_i64(bufs + 8 * load_i64(desc + 8 * BIAS)) + load_i64(desc + 136)
        inner, m = load_i64(desc + 144), load_i64(desc + 152)
        a_step, c_step = load_i64(desc + 32), load_i64(desc + 120)
        item = lo
        while item < hi:
            batch = item // m
            row = item - batch * m
            d0 = batch // inner
            d1 = batch - d0 * inner
            a_here = a + d0 * load_i64(desc + 16) + d1 * load_i64(desc + 24)
            b_here = b + d0 * load_i64(desc + 56) + d1 * load_i64(desc + 64)
            c_here = c + d0 * load_i64(desc + 104) + d1 * load_i64(desc + 112)
            end = min(m, row + hi - item)
            groups = (end - row + GROUP_ROWS - 1) // GROUP_ROWS
            group = ((end - row + groups - 1) // groups + 7) // 8 * 8
            item += end - row
            while row < end:
                rows = min(group, end - row)
                for r in range(rows):
                    store_i64(scratch + 8 * r, a_here + (row + r) * a_step)
                multiply(desc, bufs, scratch, services, b_here, c_here + row * c_step, bias,
                         d0, d1, row, rows, lo2, hi2)  # fmt: skip
                row += rows

    return kernel


KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="matmul_f32", function=_matmul(pass_f32, pack_f32, put_f32, 4)),
    KernelSource(name="matmul_f64", function=_matmul(pass_f64, pack_f64, put_f64, 8)),
)
