"""The grouped recurrent layer: rows of a batch, through all their steps in one program.

A step reads the state that the step before wrote, to y, so all threads of the program wait for each
other between steps. Rows beyond their length keep their state: h where they stopped, c as it is.
"""

import triton
import triton.language as tl

from fusec.kernels.gemm.triton import products
from fusec.kernels.grouped.floats import exp as e_to
from fusec.kernels.grouped.floats import expm1, float_of, log1p, sigmoid, tanh
from fusec.kernels.grouped.point import memory_type, pointer, ready, tile_at, widened

__all__ = ["rnn", "rnn_tile"]


@triton.constexpr_function
def _name(gates, number):
    return gates.split()[number]


@triton.jit
def _activate(words, x, GATES: tl.constexpr, NUMBER: tl.constexpr, CLIP: tl.constexpr):
    """Apply an activation to its clipped input."""
    if CLIP:
        bound = _float(words, 23)
        x = tl.where(x > bound, bound, tl.where(x < -bound, -bound, x))
    alpha = _float(words, 24 + 2 * NUMBER)
    beta = _float(words, 25 + 2 * NUMBER)
    NAME: tl.constexpr = _name(GATES, NUMBER)
    if NAME == "sigmoid":
        return sigmoid(x)
    elif NAME == "tanh":
        return tanh(x)
    elif NAME == "relu":
        return tl.where((x > 0.0) | (x != x), x, 0.0)
    elif NAME == "affine":
        return alpha * x + beta
    elif NAME == "leakyrelu":
        return tl.where(x >= 0.0, x, alpha * x)
    elif NAME == "thresholdedrelu":
        return tl.where(x > alpha, x, 0.0)
    elif NAME == "scaledtanh":
        return alpha * tanh(beta * x)
    elif NAME == "hardsigmoid":
        line = alpha * x + beta
        return tl.where(line < 0.0, 0.0, tl.where(line > 1.0, 1.0, line))
    elif NAME == "elu":
        return tl.where(x >= 0.0, x, alpha * expm1(x))
    elif NAME == "softsign":
        return tl.div_rn(x, 1.0 + tl.abs(x))
    else:
        return tl.where(x > 50.0, x, log1p(e_to(tl.where(x > 50.0, 50.0, x))))


@triton.jit
def _float(words, AT: tl.constexpr):
    return float_of(tl.load(words + AT).to(tl.int32))


@triton.jit
def _load(words, AT: tl.constexpr, offset, mask, DTYPE: tl.constexpr):
    """Read elements of an operand."""
    return widened(tl.load(pointer(words, AT, DTYPE, 2) + offset, mask=mask, other=0), DTYPE)


@triton.jit
def _recurrent(
    words,
    state,
    rows,
    live,
    columns,
    hidden,
    GATE: tl.constexpr,
    R_DTYPE: tl.constexpr,
    R_COLUMNS: tl.constexpr,
    BIAS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Multiply states by a gate's recurrent weights, and add its bias."""
    there = GATE * hidden + columns
    nr = tl.multiple_of(tl.load(words + 13).to(tl.int32), R_COLUMNS)
    panels = (there // nr) * (hidden * nr) + there % nr
    sums = products(
        state,
        pointer(words, 1, R_DTYPE, 2) + panels[None, :],
        live,
        (columns < hidden)[None, :],
        hidden,
        nr,
        PRECISION,
        WIDEN,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    if BIAS:
        sums += _load(words, 4, there, columns < hidden, X_DTYPE)[None, :]
    return sums


@triton.jit
def rnn(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    MODE: tl.constexpr,
    X_DTYPE: tl.constexpr,
    Y_ALIGNED: tl.constexpr,
    R_DTYPE: tl.constexpr,
    R_COLUMNS: tl.constexpr,
    REVERSE: tl.constexpr,
    GATES: tl.constexpr,
    CLIP: tl.constexpr,
    RESET_AFTER: tl.constexpr,
    INPUT_FORGET: tl.constexpr,
    BIAS: tl.constexpr,
    PEEPHOLE: tl.constexpr,
    LENGTHS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of recurrent stages."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        rnn_tile(
            table, tiles, at, status, WORDS, MODE, X_DTYPE, Y_ALIGNED, R_DTYPE, R_COLUMNS, REVERSE,
            GATES, CLIP, RESET_AFTER, INPUT_FORGET, BIAS, PEEPHOLE, LENGTHS, PRECISION, WIDEN,
            BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip


@triton.jit
def rnn_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    MODE: tl.constexpr,
    X_DTYPE: tl.constexpr,
    Y_ALIGNED: tl.constexpr,
    R_DTYPE: tl.constexpr,
    R_COLUMNS: tl.constexpr,
    REVERSE: tl.constexpr,
    GATES: tl.constexpr,
    CLIP: tl.constexpr,
    RESET_AFTER: tl.constexpr,
    INPUT_FORGET: tl.constexpr,
    BIAS: tl.constexpr,
    PEEPHOLE: tl.constexpr,
    LENGTHS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Run a tile of recurrent stages; see `triton_stage` for the table's words."""
    TYPE: tl.constexpr = memory_type(X_DTYPE)
    words, block_m, _ = tile_at(table, tiles, at, WORDS)
    rows = (block_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None].to(tl.int64)
    live = rows < tl.load(words + 10)
    steps = tl.load(words + 11).to(tl.int32)
    hidden = tl.load(words + 12).to(tl.int32)
    length = tl.zeros((BLOCK_M, 1), tl.int32) + steps
    if LENGTHS:
        own = _load(words, 6, rows * tl.load(words + 20), live, "int64")
        length = tl.minimum(tl.maximum(own, 0), steps.to(tl.int64)).to(tl.int32)
    y = pointer(words, 7, X_DTYPE, Y_ALIGNED)
    h = pointer(words, 8, X_DTYPE, 2) + rows * tl.load(words + 21)
    first = pointer(words, 2, X_DTYPE, Y_ALIGNED) + rows * tl.load(words + 18)
    c = h
    if MODE == "lstm":
        c = pointer(words, 9, X_DTYPE, 2) + rows * tl.load(words + 22)
        for start in range(0, hidden, BLOCK_N):
            columns = start + tl.arange(0, BLOCK_N)
            mask = live & (columns < hidden)[None, :]
            begin = rows * tl.load(words + 19) + columns[None, :]
            tl.store(c + columns[None, :], _load(words, 3, begin, mask, X_DTYPE), mask=mask)
    for step in range(steps):
        # What the last step wrote is read by other threads now.
        tl.debug_barrier()
        t = steps - 1 - step if REVERSE else step
        on = live & (t < length)
        fresh = t == length - 1 if REVERSE else t == tl.zeros_like(length)
        before = t + 1 if REVERSE else t - 1
        before = tl.where(fresh, t, before).to(tl.int64)
        place = y + before * tl.load(words + 16) + rows * tl.load(words + 17)
        state = tl.where(fresh, first, place)
        for start in range(0, hidden if MODE == "gru" and not RESET_AFTER else 0, BLOCK_N):
            # The reset gate of all columns is needed before the product that it is in.
            columns = start + tl.arange(0, BLOCK_N)
            mask = on & (columns < hidden)[None, :]
            given = t * tl.load(words + 14) + rows * tl.load(words + 15) + columns[None, :]
            r = _recurrent(words, state, rows, on, columns, hidden, 0, R_DTYPE, R_COLUMNS,
                BIAS, X_DTYPE, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
            r = _activate(words, _load(words, 0, given, mask, X_DTYPE) + r, GATES, 0, CLIP)
            old = widened(tl.load(state + columns[None, :], mask=mask, other=0), X_DTYPE)
            tl.store(h + columns[None, :], (r * old).to(TYPE), mask=mask)
        if MODE == "gru" and not RESET_AFTER:
            tl.debug_barrier()
        for start in range(0, hidden, BLOCK_N):
            columns = start + tl.arange(0, BLOCK_N)
            mask = on & (columns < hidden)[None, :]
            given = t * tl.load(words + 14) + rows * tl.load(words + 15) + columns[None, :]
            far = hidden.to(tl.int64)
            a = _recurrent(words, state, rows, on, columns, hidden, 1 if MODE == "gru" else 0,
                R_DTYPE, R_COLUMNS, BIAS, X_DTYPE, PRECISION, WIDEN,
                BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
            if MODE == "rnn":
                a += _load(words, 0, given, mask, X_DTYPE)
                new = _activate(words, a, GATES, 0, CLIP)
            elif MODE == "gru":
                old = widened(tl.load(state + columns[None, :], mask=mask, other=0), X_DTYPE)
                z = a + _load(words, 0, given + far, mask, X_DTYPE)
                z = _activate(words, z, GATES, 0, CLIP)
                n = _recurrent(words, state if RESET_AFTER else h, rows, on, columns, hidden,
                    2, R_DTYPE, R_COLUMNS, BIAS, X_DTYPE, PRECISION, WIDEN,
                    BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
                if RESET_AFTER:
                    r = _recurrent(words, state, rows, on, columns, hidden, 0, R_DTYPE,
                        R_COLUMNS, BIAS, X_DTYPE, PRECISION, WIDEN,
                        BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
                    r += _load(words, 0, given, mask, X_DTYPE)
                    n = n * _activate(words, r, GATES, 0, CLIP)
                n += _load(words, 0, given + 2 * far, mask, X_DTYPE)
                n = _activate(words, n, GATES, 1, CLIP)
                new = (1.0 - z) * n + z * old
            else:
                old = widened(tl.load(c + columns[None, :], mask=mask, other=0), X_DTYPE)
                f = _recurrent(words, state, rows, on, columns, hidden, 1, R_DTYPE, R_COLUMNS,
                    BIAS, X_DTYPE, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
                g = _recurrent(words, state, rows, on, columns, hidden, 2, R_DTYPE, R_COLUMNS,
                    BIAS, X_DTYPE, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
                o = _recurrent(words, state, rows, on, columns, hidden, 3, R_DTYPE, R_COLUMNS,
                    BIAS, X_DTYPE, PRECISION, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
                a += _load(words, 0, given, mask, X_DTYPE)
                f += _load(words, 0, given + far, mask, X_DTYPE)
                g += _load(words, 0, given + 2 * far, mask, X_DTYPE)
                o += _load(words, 0, given + 3 * far, mask, X_DTYPE)
                wide = columns < hidden
                if PEEPHOLE:
                    a += _load(words, 5, columns, wide, X_DTYPE)[None, :] * old
                    f += _load(words, 5, columns + 2 * far, wide, X_DTYPE)[None, :] * old
                a = _activate(words, a, GATES, 0, CLIP)
                f = 1.0 - a if INPUT_FORGET else _activate(words, f, GATES, 0, CLIP)
                memory = f * old + a * _activate(words, g, GATES, 1, CLIP)
                tl.store(c + columns[None, :], memory.to(TYPE), mask=mask)
                if PEEPHOLE:
                    o += _load(words, 5, columns + far, wide, X_DTYPE)[None, :] * memory
                o = _activate(words, o, GATES, 0, CLIP)
                new = o * _activate(words, memory, GATES, 2, 0)
            there = y + t * tl.load(words + 16) + rows * tl.load(words + 17) + columns[None, :]
            new = tl.where(mask, new, 0.0).to(TYPE)
            tl.store(there, new, mask=live & (columns < hidden)[None, :])
    tl.debug_barrier()
    last = tl.zeros_like(length) if REVERSE else length - 1
    last = tl.where(length > 0, last, 0).to(tl.int64)
    place = y + last * tl.load(words + 16) + rows * tl.load(words + 17)
    state = tl.where(length > 0, place, first)
    for start in range(0, hidden, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)[None, :]
        mask = live & (columns < hidden)
        tl.store(h + columns, tl.load(state + columns, mask=mask, other=0), mask=mask)
    # The next tile may be another's, but its threads have to be done with this one.
    tl.debug_barrier()
