"""Packing a slice of B into a panel [K][width] of scratch memory, any strides of B.

    rows of B lie in memory       copied
    columns of B lie in memory    turned in squares of 16 x 16, in registers
    neither                       element by element

Columns past N become zero.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.codegen.memory import (
    load_f32,
    load_f64,
    store_f32,
    store_f64,
    vload,
    vload_first,
    vstore,
)
from fusec.kernels.codegen.vectors import F32, call_llvm

__all__ = ["SLACK_ROWS", "pack_f32", "pack_f64"]

SLACK_ROWS = 16
"""Rows behind the panel that packing may write."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLAGS = ir.VectorType(ir.IntType(1), 16)


@intrinsic  # type: ignore[untyped-decorator]
def _turn(typingctx: Any, source: Any, step: Any, rows: Any, lanes: Any, target: Any,
          target_step: Any) -> Any:  # fmt: skip
    """Load 16 rows of 16 floats, of which `rows` and `lanes` exist, and store their columns."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, step, rows, lanes, target, target_step = args
        numbers = ir.Constant(ir.VectorType(_I32, 16), list(range(16)))
        undefined = ir.Constant(numbers.type, ir.Undefined)
        count = builder.insert_element(undefined, builder.trunc(lanes, _I32), ir.Constant(_I32, 0))
        counts = builder.shuffle_vector(count, undefined, ir.Constant(numbers.type, [0] * 16))
        there = builder.icmp_signed("<", numbers, counts)
        none, zero = ir.Constant(_FLAGS, [0] * 16), ir.Constant(F32.llvm, [0.0] * 16)
        grid = []
        for r in range(16):
            mask = builder.select(builder.icmp_signed("<", ir.Constant(_I64, r), rows), there, none)
            pointer = builder.inttoptr(source, F32.llvm.as_pointer())
            operands = [pointer, ir.Constant(_I32, 4), mask, zero]
            grid.append(call_llvm(builder, "llvm.masked.load.v16f32.p0", F32.llvm, operands))
            source = builder.add(source, step)
        for bit in (8, 4, 2, 1):
            # Swap this bit of the row number with the same bit of the lane number.
            upper = [j if not j & bit else 16 + j - bit for j in range(16)]
            lower = [j + bit if not j & bit else 16 + j for j in range(16)]
            for r in range(16):
                if not r & bit:
                    pair = grid[r], grid[r + bit]
                    for at, order in ((r, upper), (r + bit, lower)):
                        lanes_of = ir.Constant(ir.VectorType(_I32, 16), order)
                        grid[at] = builder.shuffle_vector(*pair, lanes_of)
        for row in grid:
            builder.store(row, builder.inttoptr(target, F32.llvm.as_pointer()), align=1)
            target = builder.add(target, target_step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def pack_f32(
    b: int, k_step: int, n_step: int, steps: int, cols: int, target: int, vecs: int
) -> None:
    """Pack `steps` rows and `cols` columns of B at `b` into rows of `vecs` vectors at `target`.

    Args:
        b: address of the first element.
        k_step: bytes to the next row.
        n_step: bytes to the next column.
        steps: rows to pack.
        cols: columns to pack, at most 16 * vecs and more than 16 * vecs - 16.
        target: room for steps + SLACK_ROWS rows.
        vecs: width of the panel.
    """
    width = vecs * 64
    if n_step == 4:
        for k in range(steps):
            x = b + k * k_step
            y = target + k * width
            for v in range(vecs):
                lanes = cols - 16 * v
                if lanes >= 16:
                    vstore(y + 64 * v, vload(x + 64 * v))
                else:
                    vstore(y + 64 * v, vload_first(x + 64 * v, lanes))
    elif k_step == 4:
        for v in range(vecs):
            k = 0
            while k < steps:
                _turn(b + 16 * v * n_step + 4 * k, n_step, cols - 16 * v, steps - k,
                      target + k * width + 64 * v, width)  # fmt: skip
                k += 16
    else:
        for k in range(steps):
            for c in range(16 * vecs):
                value = np.float32(0)
                if c < cols:
                    value = load_f32(b + k * k_step + c * n_step)
                store_f32(target + k * width + 4 * c, value)


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def pack_f64(
    b: int, k_step: int, n_step: int, steps: int, cols: int, target: int, vecs: int
) -> None:
    """Pack as `pack_f32` does, vectors of 8 doubles, element by element."""
    for k in range(steps):
        for c in range(8 * vecs):
            value = 0.0
            if c < cols:
                value = load_f64(b + k * k_step + c * n_step)
            store_f64(target + (k * 8 * vecs + c) * 8, value)
