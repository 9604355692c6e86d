"""Copies by size of element, and rows of numbers."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_f64, load_i64, store_f32, store_i32, store_i64
from fusec.kernels.copy.micro import mover

__all__ = ["KERNELS"]


@numba.njit(error_model="numpy")
def _outer(desc: Any, view: Any, item: Any) -> Any:
    """Give how far a view has moved along the outer axes at an item of them."""
    axes = load_i64(desc)
    moved = 0
    for axis in range(axes - 1, -1, -1):
        extent = load_i64(desc + 96 + 8 * axis)
        above = item // extent
        moved += (item - above * extent) * load_i64(desc + 96 + 8 * (axes + view * axes + axis))
        item = above
    return moved


def _copy(bits: int) -> Callable[..., None]:
    move = mover(bits)

    @numba.njit(error_model="numpy")
    def moved(n: Any, columns: Any, to: Any, of: Any, desc: Any) -> None:
        to_row, to_column = load_i64(desc + 48), load_i64(desc + 56)
        of_row, of_column = load_i64(desc + 80), load_i64(desc + 88)
        if to_row == columns * to_column and of_row == columns * of_column:
            n, columns = 1, n * columns
        move(n, columns, to, to_row, to_column, of, of_row, of_column)

    def copy(
        desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any, scratch: Any, services: Any
    ) -> None:
        axes, rows = load_i64(desc), load_i64(desc + 8)
        target = load_i64(bufs + 8 * load_i64(desc + 32)) + load_i64(desc + 40)
        source = load_i64(bufs + 8 * load_i64(desc + 64)) + load_i64(desc + 72)
        if hi2 <= lo2:
            return
        item = lo
        while item < hi:
            outer, row, n = 0, item, hi - item
            if axes > 0:
                outer = item // rows
                row = item - outer * rows
                n = min(n, rows - row)
            to = target + row * load_i64(desc + 48) + lo2 * load_i64(desc + 56)
            of = source + row * load_i64(desc + 80) + lo2 * load_i64(desc + 88)
            moved(n, hi2 - lo2, to + _outer(desc, 0, outer), of + _outer(desc, 1, outer), desc)
            item += n

    return copy


def _arange_i64(
    desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any, scratch: Any, services: Any
) -> None:
    """Number int64 elements."""
    to = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    for i in range(lo, hi):
        store_i64(to + i * load_i64(desc + 16), load_i64(desc + 24) + i * load_i64(desc + 32))


def _arange_i32(
    desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any, scratch: Any, services: Any
) -> None:
    """Number int32 elements."""
    to = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    for i in range(lo, hi):
        store_i32(to + i * load_i64(desc + 16), load_i64(desc + 24) + i * load_i64(desc + 32))


def _arange_f32(
    desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any, scratch: Any, services: Any
) -> None:
    """Number float32 elements, computed as doubles."""
    to = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    for i in range(lo, hi):
        value = load_f64(desc + 24) + np.float64(i) * load_f64(desc + 32)
        store_f32(to + i * load_i64(desc + 16), np.float32(value))


KERNELS = (
    *(KernelSource(name=f"copy_{bits}", function=_copy(bits)) for bits in (8, 16, 32, 64, 128)),
    KernelSource(name="copy_arange_i64", function=_arange_i64),
    KernelSource(name="copy_arange_i32", function=_arange_i32),
    KernelSource(name="copy_arange_f32", function=_arange_f32),
)
