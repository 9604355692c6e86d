"""Native attention: keys turned into panels once per head, then 8 query rows at a time."""

import numba
import numpy as np

from fusec.kernels.attention.encode import BLOCK, MASKS
from fusec.kernels.attention.micro import PANEL, bytes_first, rows_times, turn_block
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import (
    first_lanes,
    load_f32,
    load_i64,
    store_f32,
    vload,
    vload_first,
    vstore,
)
from fusec.kernels.codegen.vectors import fma, highest, max_lanes, select, splat, sum_lanes
from fusec.kernels.softmax.micro import larger, power

__all__ = ["KERNELS"]

_BOOL, _FLOAT = MASKS["bool"], MASKS["float"]
_LOWEST = np.float32(-np.inf)


@numba.njit(error_model="numpy")
def _pack_keys(k, k_step, t, d, out):  # type: ignore[no-untyped-def]
    """Write k^T in panels; see `rows_times`. What lies past d of one panel, the next overwrites."""
    col = np.int64(0)
    while col < t:
        width = min(((t - col + 15) // 16) * 16, PANEL)
        panel = out + 4 * col * d
        for at in range(0, width, 16):
            rows = min(t - col - at, 16)
            for c in range(0, d, 16):
                turn_block(
                    k + (col + at) * k_step + 4 * c, k_step, rows, min(d - c, 16),
                    panel + 4 * (c * width + at), 4 * width,
                )  # fmt: skip
        col += width


@numba.njit(error_model="numpy")
def _row_scores(scores, visible, scale, mask, kind):  # type: ignore[no-untyped-def]
    """Scale and mask scores in place; give the largest, or some of them if there is a NaN."""
    low = splat(_LOWEST)
    zero = splat(np.float32(0.0))
    factor = splat(scale)
    top = low
    at = np.int64(0)
    while at < visible:
        k = min(visible - at, 16)
        v = vload(scores + 4 * at)
        if kind == _FLOAT:
            v = fma(v, factor, vload_first(mask + 4 * at, k))
        else:
            v = v * factor
            if kind == _BOOL:
                v = v + select(bytes_first(mask + at, k), zero, low)
        v = select(first_lanes(k), v, low)
        vstore(scores + 4 * at, v)
        top = larger(v, top)
        at += 16
    return max_lanes(top)


@numba.njit(error_model="numpy")
def _row_powers(scores, visible, largest):  # type: ignore[no-untyped-def]
    """Turn scores into powers of e, in place; give what scales them to a sum of 1.

    A row that looks at nothing becomes zeros.
    """
    top = splat(largest)
    zero = splat(np.float32(0.0))
    if largest == _LOWEST and max_lanes(_highest(scores, visible)) == _LOWEST:
        top = zero
    total = zero
    at = np.int64(0)
    while at < visible:
        v = power(vload(scores + 4 * at) - top)
        v = select(first_lanes(visible - at), v, zero)
        vstore(scores + 4 * at, v)
        total = total + v
        at += 16
    whole = sum_lanes(total)
    return np.float32(0.0) if whole == np.float32(0.0) else np.float32(1.0) / whole


@numba.njit(error_model="numpy")
def _highest(scores, visible):  # type: ignore[no-untyped-def]
    top = splat(_LOWEST)
    at = np.int64(0)
    while at < visible:
        top = highest(top, vload(scores + 4 * at))
        at += 16
    return top


@numba.njit(error_model="numpy")
def _row_weights(scores, visible, limit, factor):  # type: ignore[no-untyped-def]
    """Scale powers in place; what is hidden weighs nothing. All of the last vector is written."""
    by = splat(factor)
    at = np.int64(0)
    while at < visible:
        vstore(scores + 4 * at, vload(scores + 4 * at) * by)
        at += 16
    while at < limit:
        vstore(scores + 4 * at, splat(np.float32(0.0)))
        at += 16


@numba.njit(error_model="numpy")
def _place(desc, bufs, word, sample, head):  # type: ignore[no-untyped-def]
    """Give the address of a head's first row."""
    p = desc + 8 * word
    start = load_i64(bufs + 8 * load_i64(p)) + load_i64(p + 8)
    return start + sample * load_i64(p + 16) + head * load_i64(p + 24)


def attention_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Compute query rows lo2 .. hi2 of heads lo .. hi."""
    keys = load_i64(desc + 8 * 26)
    d = load_i64(desc + 8 * 27)
    e = load_i64(desc + 8 * 28)
    heads = load_i64(desc + 8 * 29)
    group = load_i64(desc + 8 * 30)
    scale = load_f32(desc + 8 * 31)
    causal = load_i64(desc + 8 * 32)
    kind = load_i64(desc + 8 * 33)
    q_row = load_i64(desc + 8 * 4)
    k_row = load_i64(desc + 8 * 9)
    v_row = load_i64(desc + 8 * 14)
    y_row = load_i64(desc + 8 * 19)
    mask_row = load_i64(desc + 8 * 24)
    packed = min(keys, ((hi2 + BLOCK - 1) // BLOCK) * BLOCK) if causal != 0 else keys
    scores_row = 4 * (((keys + 15) // 16) * 16)
    notes = scratch
    scores = notes + 64
    panels = scores + BLOCK * scores_row
    for item in range(lo, hi):
        sample = item // heads
        head = item - sample * heads
        q = _place(desc, bufs, 0, sample, head)
        k = _place(desc, bufs, 5, sample, head // group)
        v = _place(desc, bufs, 10, sample, head // group)
        y = _place(desc, bufs, 15, sample, head)
        mask = _place(desc, bufs, 20, sample, head) if kind != 0 else np.int64(0)
        _pack_keys(k, k_row, packed, d, panels)
        row = lo2
        while row < hi2:
            rows = min(hi2 - row, BLOCK)
            limit = min(keys, row + BLOCK) if causal != 0 else keys
            # Panels are multiplied whole, since the width of one says how it lies.
            end = min(packed, ((limit + PANEL - 1) // PANEL) * PANEL)
            rows_times(q + row * q_row, q_row, rows, panels, 0, 1, d, end, scores, scores_row)
            # Step by step for all rows: what one row waits for, another computes.
            for r in range(rows):
                visible = min(keys, row + r + 1) if causal != 0 else keys
                line = mask + (row + r) * mask_row
                top = _row_scores(scores + r * scores_row, visible, scale, line, kind)
                store_f32(notes + 4 * r, top)
            for r in range(rows):
                visible = min(keys, row + r + 1) if causal != 0 else keys
                top = load_f32(notes + 4 * r)
                factor = _row_powers(scores + r * scores_row, visible, top)
                store_f32(notes + 4 * r, factor)
            for r in range(rows):
                visible = min(keys, row + r + 1) if causal != 0 else keys
                factor = load_f32(notes + 4 * r)
                _row_weights(scores + r * scores_row, visible, limit, factor)
            rows_times(scores, scores_row, rows, v, v_row, 0, limit, e, y + row * y_row, y_row)
            row += rows


KERNELS = (KernelSource(name="attention_rows", function=attention_rows),)
"""Kernels of this folder."""
