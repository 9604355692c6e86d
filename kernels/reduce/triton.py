"""Grouped reductions: lanes over the elements of a sum, in order; lanes are joined at the end."""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import exp, float_of, log
from fusec.kernels.grouped.point import finish, pointer, ready, tile_at, widened

__all__ = ["reduce", "reduce_tile", "scan", "scan_tile"]

_INFINITY = tl.constexpr(float("inf"))


@triton.constexpr_function
def _is(kind, kinds):
    return kind in kinds.split()


@triton.constexpr_function
def _register(dtype):
    """Give what elements are added up as."""
    return {"float64": tl.float64}.get(
        dtype, tl.float32 if dtype.startswith(("float", "bfloat")) else tl.int64
    )


@triton.constexpr_function
def _worst(dtype, largest):
    """Give what any element is better than."""
    if dtype.startswith(("float", "bfloat")):
        return float("-inf") if largest else float("inf")
    return -(2**63) if largest else 2**63 - 1


@triton.jit
def _multiply(a, b):
    return a * b


@triton.jit
def reduce(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    KIND: tl.constexpr,
    COLUMNS: tl.constexpr,
    FLAT: tl.constexpr,
    NEAR: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    POINT: tl.constexpr,
    SECOND: tl.constexpr,
    SECOND_AT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of reductions."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        reduce_tile(
            table, tiles, at, status, WORDS, KIND, COLUMNS, FLAT, NEAR, X_DTYPE, X_ALIGNED, POINT,
            SECOND, SECOND_AT, BLOCK_M, BLOCK_R,
        )  # fmt: skip


@triton.jit
def reduce_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    KIND: tl.constexpr,
    COLUMNS: tl.constexpr,
    FLAT: tl.constexpr,
    NEAR: tl.constexpr,
    X_DTYPE: tl.constexpr,
    X_ALIGNED: tl.constexpr,
    POINT: tl.constexpr,
    SECOND: tl.constexpr,
    SECOND_AT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Run a tile of reductions; see `grouped` for the table's words."""
    words, block_m, line = tile_at(table, tiles, at, WORDS)
    results = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    mask = results < tl.load(words)
    n = tl.load(words + 1).to(tl.int32)
    start = pointer(words, 4, X_DTYPE, X_ALIGNED) + line * tl.load(words + 5)
    x = start + results[:, None] * (1 if COLUMNS else tl.load(words + 8))
    live = mask[:, None]
    if _is(KIND, "amax max argmax norminf"):
        value = _extreme(words, x, live, n, KIND, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R, True)
    elif _is(KIND, "amin min argmin"):
        value = _extreme(words, x, live, n, KIND, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R, False)
    elif _is(KIND, "var std"):
        mean = _sum(words, x, live, n, 0.0, "sum", FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
        mean = tl.div_rn(mean, n.to(tl.float32))
        value = _sum(words, x, live, n, mean, "var", FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
        kept = n.to(tl.float32) - float_of(tl.load(words + 3).to(tl.int32))
        value = tl.div_rn(value, tl.where(kept > 0.0, kept, 0.0))
    elif KIND == "logsumexp":
        top = _extreme(words, x, live, n, KIND, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R, True)
        # Infinities are their own logarithm, whichever they are.
        base = tl.where(tl.abs(top) == _INFINITY, 0.0, top)
        value = _sum(words, x, live, n, base, KIND, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
        value = tl.where(top == _INFINITY, top, base + log(value))
    else:
        value = _sum(words, x, live, n, 0.0, KIND, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
    if KIND == "mean":
        value = tl.div_rn(value, n.to(tl.float32))
    elif KIND == "norm2" or KIND == "std":
        value = tl.sqrt_rn(value)
    elif KIND == "any" or KIND == "all":
        value = value != 0
    elif _is(KIND, "argmax argmin"):
        value = _where(words, x, live, n, value, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
    if COLUMNS:
        finish(words, 9, POINT, value, (line, results), mask)
    else:
        finish(words, 9, POINT, value, (results,), mask)
    if SECOND != "":
        place = _where(words, x, live, n, value, FLAT, NEAR, X_DTYPE, BLOCK_M, BLOCK_R)
        finish(words, SECOND_AT, SECOND, place, (results,), mask)


@triton.jit
def _offset(words, numbers, FLAT: tl.constexpr, NEAR: tl.constexpr):
    """Give where elements of a sum are."""
    step = 1 if NEAR else tl.load(words + 7)
    if FLAT:
        return numbers * step
    else:
        inner = tl.load(words + 2).to(tl.int32)
        return (numbers // inner) * tl.load(words + 6) + (numbers % inner) * step


@triton.jit
def _sum(
    words,
    x,
    live,
    n,
    base,
    KIND: tl.constexpr,
    FLAT: tl.constexpr,
    NEAR: tl.constexpr,
    X_DTYPE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Add up elements, or what `KIND` makes of them, by lanes."""
    lanes = tl.arange(0, BLOCK_R)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_R), _register(X_DTYPE))
    if KIND == "prod" or KIND == "all":
        total += 1
    for first in range(0, n, BLOCK_R):
        numbers = first + lanes
        mask = live & (numbers < n)
        value = tl.load(x + _offset(words, numbers, FLAT, NEAR), mask=mask, other=0)
        value = widened(value, X_DTYPE).to(_register(X_DTYPE))
        if KIND == "prod":
            total = total * tl.where(mask, value, 1)
        elif KIND == "all":
            total = total & tl.where(mask, (value != 0).to(tl.int64), 1)
        elif KIND == "any":
            total = total | tl.where(mask, (value != 0).to(tl.int64), 0)
        elif KIND == "norm1":
            total += tl.abs(value)
        elif KIND == "norm2":
            total = tl.fma(value, value, total)
        elif KIND == "var":
            value = tl.where(mask, value - base[:, None], 0.0)
            total = tl.fma(value, value, total)
        elif KIND == "logsumexp":
            total += tl.where(mask, exp(value - base[:, None]), 0.0)
        else:
            total += value
    if KIND == "prod" or KIND == "all":
        return tl.reduce(total, 1, _multiply)
    else:
        return tl.sum(total, axis=1)


@triton.jit
def _extreme(
    words,
    x,
    live,
    n,
    KIND: tl.constexpr,
    FLAT: tl.constexpr,
    NEAR: tl.constexpr,
    X_DTYPE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    LARGEST: tl.constexpr,
):
    """Give the largest or smallest element; NaN if there is one."""
    lanes = tl.arange(0, BLOCK_R)[None, :]
    worst = tl.full((BLOCK_M, BLOCK_R), _worst(X_DTYPE, LARGEST), _register(X_DTYPE))
    best = worst
    bad = tl.zeros((BLOCK_M, BLOCK_R), tl.int32)
    for first in range(0, n, BLOCK_R):
        numbers = first + lanes
        mask = live & (numbers < n)
        value = tl.load(x + _offset(words, numbers, FLAT, NEAR), mask=mask, other=0)
        value = widened(value, X_DTYPE).to(_register(X_DTYPE))
        if KIND == "norminf":
            value = tl.abs(value)
        bad = bad | (mask & (value != value)).to(tl.int32)
        value = tl.where(mask, value, worst)
        best = tl.where(value > best if LARGEST else value < best, value, best)
    result = tl.max(best, axis=1) if LARGEST else tl.min(best, axis=1)
    if X_DTYPE == "float32" or X_DTYPE == "float16" or X_DTYPE == "bfloat16":
        return tl.where(tl.max(bad, axis=1) != 0, float("nan"), result)
    else:
        return result


@triton.jit
def _where(
    words,
    x,
    live,
    n,
    wanted,
    FLAT: tl.constexpr,
    NEAR: tl.constexpr,
    X_DTYPE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Give the first place of a value; NaN is equal to itself here."""
    lanes = tl.arange(0, BLOCK_R)[None, :]
    best = tl.zeros((BLOCK_M, BLOCK_R), tl.int32) + n
    goal = wanted[:, None]
    for first in range(0, n, BLOCK_R):
        numbers = first + lanes
        mask = live & (numbers < n)
        value = tl.load(x + _offset(words, numbers, FLAT, NEAR), mask=mask, other=0)
        value = widened(value, X_DTYPE).to(_register(X_DTYPE))
        found = mask & ((value == goal) | ((value != value) & (goal != goal)))
        best = tl.where(found & (numbers < best), numbers, best)
    return tl.min(best, axis=1).to(tl.int64)


@triton.jit
def scan(
    table,
    tiles,
    count,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    OVERLAP: tl.constexpr = 0,
):
    """Run tiles of running sums."""
    ready(OVERLAP)
    for at in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        scan_tile(table, tiles, at, status, WORDS, X_DTYPE, POINT, BLOCK_M)


@triton.jit
def scan_tile(
    table,
    tiles,
    at,
    status,
    WORDS: tl.constexpr,
    X_DTYPE: tl.constexpr,
    POINT: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Run a tile of running sums, each one chain; those of floats are kept in doubles."""
    words, block_m, line = tile_at(table, tiles, at, WORDS)
    results = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    mask = results < tl.load(words)
    x = pointer(words, 4, X_DTYPE, 1) + line * tl.load(words + 5)
    x += results * tl.load(words + 7)
    total = tl.zeros((BLOCK_M,), _wide(X_DTYPE))
    for number in range(tl.load(words + 1).to(tl.int32)):
        value = tl.load(x + number * tl.load(words + 6), mask=mask, other=0)
        total += widened(value, X_DTYPE).to(_wide(X_DTYPE))
        if _wide(X_DTYPE) == tl.float64 and X_DTYPE != "float64":
            finish(words, 9, POINT, total.to(tl.float32), (line, number, results), mask)
        else:
            finish(words, 9, POINT, total, (line, number, results), mask)


@triton.constexpr_function
def _wide(dtype):
    return tl.float64 if dtype.startswith(("float", "bfloat")) else tl.int64
