"""Tiles of rows over one slice of a panel of B: the loop that gemm and matmul share."""

from typing import Any

import numba

from fusec.kernels.codegen.memory import (
    load_f64,
    store_f64,
    store_i64,
    vload,
    vload_first,
    vstore,
    vstore_first,
)
from fusec.kernels.gemm.micro import CHUNK, HEIGHTS, tile_bf16, tile_f32, tile_f64

__all__ = ["pass_bf16", "pass_f32", "pass_f64", "put_f32", "put_f64"]

_, _H1, _H2, _H3, _H4 = HEIGHTS


def _passing(tile: Any, size: int) -> Any:
    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def pass_tiles(
        vecs: int, rows: int, a_rows: int, segment: int, k0: int, k1: int, b: int, b_step: int,
        c: int, c_step: int, following: int, following_bytes: int,
    ) -> None:  # fmt: skip
        """Multiply `rows` rows with steps k0 to k1 of a panel, chunk by chunk.

        k0 is a multiple of `CHUNK`. While the tiles pass, each prefetches its share of
        `following_bytes` at `following`: they arrive while rows are computed. A lone tile does
        not: it reads one stream, which the processor sees by itself, and asking ahead only made
        that slower at every distance (24 MB in L3: 59 GB/s, else 47 to 56). Where its rows of B
        lie far apart, `following_bytes` is -1 and `following` the row to ask for at the first step.

        vecs, b, b_step, c and c_step are the microkernel's, `rows` is at least 1, `a_rows` the
        table of their addresses, `segment` 16 bytes of scratch. k0 = k1 = 0 gives zeros.
        """
        most = _H1 if vecs == 1 else _H2 if vecs == 2 else _H3 if vecs == 3 else _H4
        tiles = (rows + most - 1) // most
        n = rows // tiles
        larger = rows - n * tiles
        share = following_bytes // tiles
        ahead_step = share // (k1 - k0) + 1 if tiles > 1 and following_bytes > 0 else 0
        if following_bytes < 0:
            ahead_step = b_step
        row = 0
        for i in range(tiles):
            height = n + 1 if i < larger else n
            ahead = following + i * share
            k = k0
            at = b
            while True:
                count = min(CHUNK, k1 - k)
                store_i64(segment, k * size)
                store_i64(segment + 8, count)
                tile(vecs, height, a_rows + 8 * row, segment, 1 if count > 0 else 0, at, b_step,
                     c + row * c_step, c_step, 1 if k > 0 else 0, ahead, ahead_step)  # fmt: skip
                k += count
                at += count * b_step
                ahead += count * ahead_step
                if k >= k1:
                    break
            row += height

    return pass_tiles


pass_f32 = _passing(tile_f32, 4)
pass_bf16 = _passing(tile_bf16, 4)
pass_f64 = _passing(tile_f64, 8)


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def put_f32(
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


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def put_f64(
    rows: int, cols: int, source: int, source_step: int, target: int, target_step: int, bias: int
) -> None:
    """Copy float64 rows, plus a bias per column if its address is not 0; may work in place."""
    for r in range(rows):
        for c in range(cols):
            value = load_f64(source + r * source_step + 8 * c)
            if bias != 0:
                value = value + load_f64(bias + 8 * c)
            store_f64(target + r * target_step + 8 * c, value)
