"""The pointwise machine and the kernel of pointwise stages.

    point(program, bufs, d0, d1, row, rows, column, columns, scratch)

runs a program (see `encode`) over a rectangle of its frame (d0, d1, row, column). Rows, or
columns of a single row, may go on beyond the frame: addresses go on linearly.
"""

from typing import Any

import numba

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.pointwise.machine import define_tables, load_tile, run_step, store_tile
from fusec.kernels.pointwise.words import (
    CONSTANT_WORDS,
    HEAD_WORDS,
    MAX_REGISTERS,
    STEP_WORDS,
    VIEW_WORDS,
)

__all__ = ["KERNELS"]

_HEAD = 8 * HEAD_WORDS
_VIEW, _CONSTANT, _STEP = 8 * VIEW_WORDS, 8 * CONSTANT_WORDS, 8 * STEP_WORDS
_STEPS_AT = 8 * MAX_REGISTERS
_BASES_AT = 16 * MAX_REGISTERS
"""Where scratch has each register's step, and the address of each view's first element."""

_SHORT = 256
"""Rows shorter than this are taken together, many to a block."""


@numba.njit(error_model="numpy")
def _word(address: Any, index: Any) -> Any:
    return load_i64(address + 8 * index)


@numba.njit(error_model="numpy")
def _results(program: Any) -> Any:
    """Give where a program's results begin."""
    return (
        program
        + _HEAD
        + _VIEW * _word(program, 1)
        + _CONSTANT * _word(program, 2)
        + _STEP * _word(program, 3)
    )


@numba.njit(error_model="numpy")
def _prepare(program: Any, scratch: Any) -> None:
    """Spread the constants, and give every step's register its place."""
    at = program + _HEAD + _VIEW * _word(program, 1)
    for _ in range(_word(program, 2)):
        register, bits, size = _word(at, 0), _word(at, 1), _word(at, 3)
        place = scratch + _word(at, 2)
        if size == 4:
            bits = (bits & 0xFFFFFFFF) | (bits << 32)
        elif size == 1:
            bits = bits * 0x0101010101010101
        for i in range(2 * size):
            store_i64(place + 8 * i, bits)
        store_i64(scratch + 8 * register, place)
        store_i64(scratch + _STEPS_AT + 8 * register, 0)
        at += _CONSTANT
    for _ in range(_word(program, 3)):
        register = _word(at, 1)
        store_i64(scratch + 8 * register, scratch + _word(at, 2))
        store_i64(scratch + _STEPS_AT + 8 * register, _word(at, 3))
        at += _STEP


@numba.njit(error_model="numpy")
def _advance(program: Any, scratch: Any, rows: Any) -> None:
    """Move every view down."""
    base = scratch + _BASES_AT
    at = program + _HEAD
    for _ in range(_word(program, 1)):
        store_i64(base, load_i64(base) + rows * _word(at, 4))
        at, base = at + _VIEW, base + 8
    at = _results(program)
    for _ in range(_word(program, 4)):
        store_i64(base, load_i64(base) + rows * _word(at, 4))
        at, base = at + _VIEW, base + 8


@numba.njit(error_model="numpy")
def _in_place(view: Any, rows: Any, columns: Any) -> Any:
    """Tell whether a rectangle of memory lies as a register would."""
    step = _word(view, 5)
    return (
        _word(view, 10) != 0
        and step == _word(view, 9)
        and (rows == 1 or _word(view, 4) == step * columns)
        and (rows * columns) & 15 == 0
    )


@numba.njit(error_model="numpy")
def _load(program: Any, scratch: Any, first: Any, rows: Any, columns: Any, again: Any) -> Any:
    """Load the operands; give the place in scratch behind their addresses.

    Where rows are all alike, what the block before loaded is still there.
    """
    at = program + _HEAD
    base = scratch + _BASES_AT
    for _ in range(_word(program, 1)):
        row_step, step, dtype = _word(at, 4), _word(at, 5), _word(at, 6)
        register, place, size = _word(at, 7), scratch + _word(at, 8), _word(at, 9)
        source = load_i64(base) + first * step
        if step == 0 and (row_step == 0 or rows == 1):
            load_tile(dtype, place, 1, 16, source, 0, 0)
            size = 0
        elif _in_place(at, rows, columns):
            place = source
        elif row_step == step * columns:
            load_tile(dtype, place, 1, rows * columns, source, 0, step)
        elif row_step != 0 or not again:
            load_tile(dtype, place, rows, columns, source, row_step, step)
        store_i64(scratch + 8 * register, place)
        store_i64(scratch + _STEPS_AT + 8 * register, 16 * size)
        at, base = at + _VIEW, base + 8
    return base


@numba.njit(error_model="numpy")
def _compute(program: Any, scratch: Any, lanes: Any) -> None:
    """Run the steps."""
    at = program + _HEAD + _VIEW * _word(program, 1) + _CONSTANT * _word(program, 2)
    for _ in range(_word(program, 3)):
        out = scratch + 8 * _word(at, 1)
        a, b, c = scratch + 8 * _word(at, 4), scratch + 8 * _word(at, 5), scratch + 8 * _word(at, 6)
        run_step(
            _word(at, 0), lanes, load_i64(out),
            load_i64(a), load_i64(a + _STEPS_AT),
            load_i64(b), load_i64(b + _STEPS_AT),
            load_i64(c), load_i64(c + _STEPS_AT),
        )  # fmt: skip
        at += _STEP


@numba.njit(error_model="numpy")
def _block(program: Any, scratch: Any, first: Any, rows: Any, columns: Any, again: Any) -> None:
    """Run a program over one block, `first` columns behind where its views are."""
    base = _load(program, scratch, first, rows, columns, again)
    results = _results(program)
    at, target = results, base
    for _ in range(_word(program, 4)):
        if _word(at, 10) != 0:
            place = scratch + _word(at, 8)
            if _in_place(at, rows, columns):
                place = load_i64(target) + first * _word(at, 5)
            store_i64(scratch + 8 * _word(at, 7), place)
        at, target = at + _VIEW, target + 8
    _compute(program, scratch, (rows * columns + 15) & -16)
    at, target = results, base
    for _ in range(_word(program, 4)):
        address = load_i64(target) + first * _word(at, 5)
        source = load_i64(scratch + 8 * _word(at, 7))
        if source == address:
            pass
        elif _word(at, 4) == _word(at, 5) * columns:
            store_tile(_word(at, 6), source, 1, rows * columns, address, 0, _word(at, 5))
        else:
            store_tile(_word(at, 6), source, rows, columns, address, _word(at, 4), _word(at, 5))
        at, target = at + _VIEW, target + 8


@numba.njit(error_model="numpy")
def _line(program: Any, scratch: Any, columns: Any) -> None:
    """Run a program along one row."""
    block = _word(program, 5)
    first = 0
    while first < columns:
        n = min(block, columns - first)
        if n > _SHORT:
            n &= -16
        _block(program, scratch, first, 1, n, False)
        first += n


@numba.njit(error_model="numpy")
def _is_line(program: Any, columns: Any) -> Any:
    """Tell whether in every view each row follows the one before without a gap."""
    at = program + _HEAD
    for _ in range(_word(program, 1)):
        if _word(at, 4) != columns * _word(at, 5):
            return False
        at += _VIEW
    at = _results(program)
    for _ in range(_word(program, 4)):
        if _word(at, 4) != columns * _word(at, 5):
            return False
        at += _VIEW
    return True


@numba.njit(error_model="numpy")
def _rectangle(program: Any, scratch: Any, rows: Any, columns: Any) -> None:
    """Run a prepared program over rows and columns from where its views are."""
    if rows == 1 or _is_line(program, columns):
        _line(program, scratch, rows * columns)
        return
    if columns >= _SHORT or 2 * columns > _word(program, 5):
        for _ in range(rows):
            _line(program, scratch, columns)
            _advance(program, scratch, 1)
        return
    many = _word(program, 5) // columns
    if many >= 16:
        many &= -16  # whole vectors, so that memory will do as register
    again = False
    while rows > 0:
        n = min(many, rows)
        _block(program, scratch, 0, n, columns, again)
        _advance(program, scratch, n)
        rows -= n
        again = True


@numba.njit(error_model="numpy")
def _place(view: Any, bufs: Any, d0: Any, d1: Any, row: Any, column: Any) -> Any:
    """Give the address of an element of a view."""
    start = load_i64(bufs + 8 * _word(view, 0)) + _word(view, 1)
    start += d0 * _word(view, 2) + d1 * _word(view, 3)
    return start + row * _word(view, 4) + column * _word(view, 5)


def point(
    program: Any, bufs: Any, d0: Any, d1: Any, row: Any, rows: Any, column: Any, columns: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Run a program over a rectangle of its frame."""
    if rows <= 0 or columns <= 0:
        return
    _prepare(program, scratch)
    base = scratch + _BASES_AT
    at = program + _HEAD
    for _ in range(_word(program, 1)):
        store_i64(base, _place(at, bufs, d0, d1, row, column))
        at, base = at + _VIEW, base + 8
    at = _results(program)
    for _ in range(_word(program, 4)):
        store_i64(base, _place(at, bufs, d0, d1, row, column))
        at, base = at + _VIEW, base + 8
    _rectangle(program, scratch, rows, columns)


@numba.njit(error_model="numpy")
def _outer(desc: Any, view: Any, item: Any) -> Any:
    """Give how far a view has moved along the outer axes at an item of them."""
    axes = _word(desc, 0)
    moved = 0
    for axis in range(axes - 1, -1, -1):
        extent = _word(desc, 4 + axis)
        above = item // extent
        moved += (item - above * extent) * _word(desc, 4 + axes + view * axes + axis)
        item = above
    return moved


def pointwise_any(
    desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any, scratch: Any, services: Any
) -> None:
    """Run a pointwise stage: items are rows of all outer axes, items2 columns."""
    axes, rows = _word(desc, 0), _word(desc, 1)
    program = desc + 8 * _word(desc, 3)
    if hi2 <= lo2 or hi <= lo:
        return
    _prepare(program, scratch)
    item = lo
    while item < hi:
        outer, row, n = 0, item, hi - item
        if axes > 0:
            outer = item // rows
            row = item - outer * rows
            n = min(n, rows - row)
        base = scratch + _BASES_AT
        at = program + _HEAD
        for view in range(_word(program, 1)):
            store_i64(base, _place(at, bufs, 0, 0, row, lo2) + _outer(desc, view, outer))
            at, base = at + _VIEW, base + 8
        at = _results(program)
        for view in range(_word(program, 1), _word(program, 1) + _word(program, 4)):
            store_i64(base, _place(at, bufs, 0, 0, row, lo2) + _outer(desc, view, outer))
            at, base = at + _VIEW, base + 8
        _rectangle(program, scratch, n, hi2 - lo2)
        item += n


def _tables() -> None:
    """Hold the machine's instructions; nobody calls this."""
    define_tables()


KERNELS = (
    KernelSource(name="pointwise_tables", function=_tables, arguments=0),
    KernelSource(name="pointwise_program", function=point, arguments=9),
    KernelSource(name="pointwise_any", function=pointwise_any),
)
