"""The native recurrent kernel: a product with the weights and some row functions per step.

    step        for a group of rows: z = h R, panel by panel; rows share each panel
    row         z plus bias plus inputs; activations; the next state, in place in h and c

The state of a row is in its h and c outputs, so steps may be cut into several calls.
"""

import numba
import numpy as np

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_f32, load_i64, store_i64
from fusec.kernels.codegen.vectors import splat
from fusec.kernels.gemm.tiles import pass_f32
from fusec.kernels.rnn.encode import GROUP_ROWS, TABLE_BYTES, WORDS
from fusec.kernels.rnn.vectors import activate, clamp, get, put

__all__ = ["KERNELS"]

_AT = {name: 8 * place for place, name in enumerate(WORDS)}
_ACT, _CLIP = _AT["act0"], _AT["clip"]
_X, _Y, _R, _H0, _H, _C0, _C = (_AT[n + "_slot"] for n in ("x", "y", "r", "h0", "h", "c0", "c"))
_BIAS, _PEEPHOLE, _LENGTHS = (_AT[n + "_slot"] for n in ("bias", "peephole", "lengths"))
_X_T, _X_ROW, _Y_T, _Y_ROW = (_AT[n] for n in ("x_t", "x_row", "y_t", "y_row"))
_H0_ROW, _H_ROW, _C0_ROW, _C_ROW, _LENGTHS_ROW = (
    _AT[n] for n in ("h0_row", "h_row", "c0_row", "c_row", "lengths_row")
)
_STEPS, _HIDDEN, _NR, _MODE = (_AT[n] for n in ("steps", "hidden", "nr", "mode"))
_REVERSE, _RESET_AFTER, _INPUT_FORGET = (_AT[n] for n in ("reverse", "reset_after", "input_forget"))


@numba.njit(error_model="numpy")
def _address(desc: int, bufs: int, at: int) -> int:
    """Give the address of a buffer whose slot and offset are words at `at`; 0 for none."""
    slot = load_i64(desc + at)
    return load_i64(bufs + 8 * slot) + load_i64(desc + at + 8) if slot >= 0 else 0


@numba.njit(error_model="numpy")
def _plus(z: int, a: int, b: int, n: int) -> None:
    """Add a, where there is one, and then b to n floats in place."""
    for j in range(0, n, 16):
        value = get(z + 4 * j, n - j)
        if a != 0:
            value = value + get(a + 4 * j, n - j)
        put(z + 4 * j, value + get(b + 4 * j, n - j), n - j)


@numba.njit(error_model="numpy")
def _plus_product(z: int, a: int, b: int, n: int) -> None:
    """Add a * b to n floats in place."""
    for j in range(0, n, 16):
        product = get(a + 4 * j, n - j) * get(b + 4 * j, n - j)
        put(z + 4 * j, get(z + 4 * j, n - j) + product, n - j)


@numba.njit(error_model="numpy")
def _copy(target: int, source: int, n: int) -> None:
    for j in range(0, n, 16):
        put(target + 4 * j, get(source + 4 * j, n - j), n - j)


@numba.njit(error_model="numpy")
def _clear(target: int, n: int) -> None:
    for j in range(0, n, 16):
        put(target + 4 * j, splat(np.float32(0)), n - j)


@numba.njit(error_model="numpy")
def _product(
    desc: int, bufs: int, rows: int, scratch: int, z: int, step: int, first: int, last: int
) -> None:
    """Multiply the rows whose addresses are in scratch with panels `first` to `last`."""
    k, nr = load_i64(desc + _HIDDEN), load_i64(desc + _NR)
    panel = k * nr * 4
    r = _address(desc, bufs, _R)
    for p in range(first, last):
        following = r + (p + 1) * panel if p + 1 < last else r
        pass_f32(nr // 16, rows, scratch, scratch + TABLE_BYTES - 16, 0, k, r + p * panel, nr * 4,
                 z + p * nr * 4, step, following, panel)  # fmt: skip


@numba.njit(error_model="numpy")
def _lstm(desc: int, part: int, z: int, peephole: int, c: int) -> tuple[int, int, int]:
    """Do what comes before activation `part`; give its address, length and number.

    z holds the sums of gates i, f, g, o. The memory is written to c, and to g to be activated.
    """
    n = load_i64(desc + _HIDDEN)
    size = 4 * n
    i, f, g, o = z, z + size, z + 2 * size, z + 3 * size
    forget = load_i64(desc + _INPUT_FORGET)
    if part == 0:
        if peephole != 0:
            _plus_product(i, peephole, c, n)
            _plus_product(f, peephole + 2 * size, c, n)
        return i, n if forget != 0 else 2 * n, 0
    if part == 1:
        return g, n, 1
    if part == 2:
        one = splat(np.float32(1))
        for j in range(0, n, 16):
            at, m = 4 * j, n - j
            gate = one - get(i + at, m) if forget != 0 else get(f + at, m)
            value = gate * get(c + at, m) + get(i + at, m) * get(g + at, m)
            put(c + at, value, m)
            put(g + at, value, m)
        if peephole != 0:
            _plus_product(o, peephole + size, c, n)
        return o, n, 0
    return g, n, 2


@numba.njit(error_model="numpy")
def _gru(desc: int, part: int, z: int, new: int, bias: int, x: int) -> tuple[int, int, int]:
    """Do what comes before activation `part`; give its address, length and number.

    z holds the sums of gates r, z and, where that is `new`, of the new content.
    """
    n = load_i64(desc + _HIDDEN)
    if part == 0:
        return z, 2 * n, 0
    for j in range(0, n, 16):
        at, m = 4 * j, n - j
        value = get(new + at, m)
        if bias != 0:
            value = value + get(bias + at, m)
        if load_i64(desc + _RESET_AFTER) != 0:
            value = value * get(z + at, m)
        put(new + at, value + get(x + at, m), m)
    return new, n, 1


@numba.njit(error_model="numpy")
def _next(desc: int, z: int, new: int, h: int, y: int) -> None:
    """Compute the next state from activated gates, to h and y."""
    n, mode = load_i64(desc + _HIDDEN), load_i64(desc + _MODE)
    size = 4 * n
    one = splat(np.float32(1))
    for j in range(0, n, 16):
        at, m = 4 * j, n - j
        value = get(z + at, m)
        if mode == 0:
            value = get(z + 3 * size + at, m) * get(z + 2 * size + at, m)
        elif mode == 1:
            gate = get(z + size + at, m)
            value = (one - gate) * get(new + at, m) + gate * get(h + at, m)
        put(h + at, value, m)
        put(y + at, value, m)


@numba.njit(error_model="numpy")
def _row(
    desc: int, bufs: int, row: int, t: int, z: int, reset: int, other: int, phase: int
) -> None:
    """Finish a step of one row.

    A GRU that resets before the product takes two phases: 1 activates the gates and leaves r * h
    at `reset`; 2 finds the product of that at `other`. All else is done in phase 0.
    """
    n, mode = load_i64(desc + _HIDDEN), load_i64(desc + _MODE)
    size = 4 * n
    x = _address(desc, bufs, _X) + t * load_i64(desc + _X_T) + row * load_i64(desc + _X_ROW)
    h = _address(desc, bufs, _H) + row * load_i64(desc + _H_ROW)
    y = _address(desc, bufs, _Y) + t * load_i64(desc + _Y_T) + row * load_i64(desc + _Y_ROW)
    bias = _address(desc, bufs, _BIAS)
    if load_i64(desc + _LENGTHS) >= 0:
        lengths = _address(desc, bufs, _LENGTHS)
        if load_i64(lengths + row * load_i64(desc + _LENGTHS_ROW)) <= t:
            _clear(reset if phase == 1 else y, n)
            return
    c = _address(desc, bufs, _C) + row * load_i64(desc + _C_ROW) if mode == 0 else 0
    peephole = _address(desc, bufs, _PEEPHOLE)
    new = (other if phase == 2 else z) + 2 * size
    if phase < 2:
        _plus(z, bias, x, 4 * n if mode == 0 else 2 * n if mode == 1 else n)
    new_bias = bias + 2 * size if bias != 0 else 0
    first = 1 if phase == 2 else 0
    last = 4 if mode == 0 else 2 if mode == 1 and phase != 1 else 1
    for part in range(first, last):
        at, length, number = z, n, 0
        if mode == 0:
            at, length, number = _lstm(desc, part, z, peephole, c)
        elif mode == 1:
            at, length, number = _gru(desc, part, z, new, new_bias, x + 2 * size)
        bound = load_f32(desc + _CLIP)
        if bound >= np.float32(0) and number < 2:
            clamp(bound, at, length)
        act = desc + _ACT + 24 * number
        activate(load_i64(act), load_f32(act + 8), load_f32(act + 16), at, length)
    if phase == 1:
        _clear(reset, n)
        _plus_product(reset, z, h, n)
    else:
        _next(desc, z, new, h, y)


@numba.njit(error_model="numpy")
def _start(desc: int, bufs: int, row: int) -> None:
    """Set the state of a row."""
    n = load_i64(desc + _HIDDEN)
    _copy(
        _address(desc, bufs, _H) + row * load_i64(desc + _H_ROW),
        _address(desc, bufs, _H0) + row * load_i64(desc + _H0_ROW),
        n,
    )
    if load_i64(desc + _C) >= 0:
        _copy(
            _address(desc, bufs, _C) + row * load_i64(desc + _C_ROW),
            _address(desc, bufs, _C0) + row * load_i64(desc + _C0_ROW),
            n,
        )


@numba.njit(error_model="numpy")
def _step(desc: int, bufs: int, first: int, rows: int, t: int, scratch: int) -> None:
    """Advance a group of rows by one step."""
    n, nr, mode = load_i64(desc + _HIDDEN), load_i64(desc + _NR), load_i64(desc + _MODE)
    gates = 1 if mode == 2 else 4 - mode
    panels = (gates * n + nr - 1) // nr
    step = panels * nr * 4
    z = scratch + TABLE_BYTES
    other = z + GROUP_ROWS * step
    reset, reset_row = other + GROUP_ROWS * step, 4 * n
    h, h_row = _address(desc, bufs, _H), load_i64(desc + _H_ROW)
    phase, end = 0, 0
    if mode == 1 and load_i64(desc + _RESET_AFTER) == 0:
        phase, end = 1, 2
    while phase <= end:
        for r in range(rows):
            at = reset + r * reset_row if phase == 2 else h + (first + r) * h_row
            store_i64(scratch + 8 * r, at)
        _product(desc, bufs, rows, scratch, other if phase == 2 else z, step,
                 2 * n // nr if phase == 2 else 0,
                 (2 * n + nr - 1) // nr if phase == 1 else panels)  # fmt: skip
        for r in range(rows):
            _row(desc, bufs, first + r, t, z + r * step, reset + r * reset_row,
                 other + r * step, phase)  # fmt: skip
        phase += 1


@numba.njit(error_model="numpy")
def rnn_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Walk rows lo to hi through steps lo2 to hi2; step 0 sets the state."""
    steps, reverse = load_i64(desc + _STEPS), load_i64(desc + _REVERSE)
    first = lo
    while first < hi:
        rows = min(GROUP_ROWS, hi - first)
        for s in range(lo2, hi2):
            if s == 0:
                for r in range(rows):
                    _start(desc, bufs, first + r)
            else:
                t = steps - s if reverse != 0 else s - 1
                _step(desc, bufs, first, rows, t, scratch)
        first += rows


KERNELS: tuple[KernelSource, ...] = (KernelSource(name="rnn_f32", function=rnn_f32),)
