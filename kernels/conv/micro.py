"""The microkernels of convolution: a few pixels times one panel of channels, sums in registers.

    tile_taps(vecs, rows, table, segments, n, a_step, b, b_step, c_rows, add, lanes)

        for s in range(n):
            offset, count = segments[s]                      # of B in bytes, in steps of k
            for k in range(count):
                acc[r, :] = fma(A[table[s][r] + k * a_step], B[b + offset + k * b_step][:], acc[r, :])
        C[c_rows[r]][:] = acc[r, :]                          # or += if `add` is not 0

    tile_depthwise(vecs, rows, table, n, shift, b, b_step, c_rows, lanes)

        for s in range(n):
            acc[r, :] = fma(A[table[s][r] + shift][:], B[b + s * b_step][:], acc[r, :])
        C[c_rows[r] + shift][:] = acc[r, :]

All int64, addresses and steps in bytes. A table row has `ROWS` addresses: a tap outside of the
image points at zeros. `rows` is one of `STEPS[vecs]`. The last vector of a row has `lanes` columns
(1 to 16): no memory beyond them is read of A or touched of C. Every cut gives the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.codegen.vectors import F32, call_llvm

__all__ = ["CHUNK", "ROWS", "STEPS", "tile_depthwise", "tile_taps"]

CHUNK = 256
"""Steps of k in one chain."""

ROWS = 8
"""Addresses in a table row."""

STEPS = ((), (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 6))
"""Rows that there is code for, by vectors: at most 24 sums stay in 32 registers."""

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_MASK = ir.VectorType(ir.IntType(1), 16)


def _int(n: int) -> Any:
    return ir.Constant(_I64, n)


class _Case:
    """Emits the code of one number of rows and vectors."""

    def __init__(self, builder: Any, rows: int, vecs: int, lanes: Any) -> None:
        self.builder, self.rows, self.vecs = builder, rows, vecs
        count = builder.trunc(lanes, _I32)
        self.mask = builder.icmp_signed(
            "<",
            ir.Constant(ir.VectorType(_I32, 16), list(range(16))),
            self.broadcast(count, ir.VectorType(_I32, 16)),
        )

    def load(self, type_: ir.Type, address: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, type_.as_pointer()), align=1)

    def broadcast(self, value: Any, vector: ir.Type) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, 16), [0] * 16)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def load_columns(self, address: Any, v: int) -> Any:
        """Load vector v of a row, masked if it is the last."""
        at = self.builder.add(address, _int(64 * v))
        if v < self.vecs - 1:
            return self.load(F32.llvm, at)
        pointer = self.builder.inttoptr(at, F32.llvm.as_pointer())
        zero = ir.Constant(F32.llvm, [0.0] * 16)
        operands = [pointer, ir.Constant(_I32, 1), self.mask, zero]
        return call_llvm(self.builder, "llvm.masked.load.v16f32.p0", F32.llvm, operands)

    def store_columns(self, address: Any, v: int, value: Any) -> None:
        at = self.builder.add(address, _int(64 * v))
        pointer = self.builder.inttoptr(at, F32.llvm.as_pointer())
        if v < self.vecs - 1:
            self.builder.store(value, pointer, align=1)
            return
        operands = [value, pointer, ir.Constant(_I32, 1), self.mask]
        call_llvm(self.builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), operands)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return call_llvm(self.builder, "llvm.fma.v16f32", F32.llvm, [a, b, c])

    def zeros(self) -> list[Any]:
        return [ir.Constant(F32.llvm, [0.0] * 16)] * (self.rows * self.vecs)

    def phis(self, values: Sequence[Any], origin: Any) -> list[Any]:
        result = []
        for value in values:
            phi = self.builder.phi(value.type)
            phi.add_incoming(value, origin)
            result.append(phi)
        return result

    def addresses(self, table: Any) -> list[Any]:
        return [self.load(_I64, self.builder.add(table, _int(8 * r))) for r in range(self.rows)]

    def loop(self, start: Sequence[Any], body: Any, more: Any) -> list[Any]:
        """Emit `while more(state): state = body(state)`; give the state after it."""
        builder = self.builder
        entry, head = builder.block, builder.append_basic_block("head")
        inside, out = builder.append_basic_block("inside"), builder.append_basic_block("out")
        builder.branch(head)
        builder.position_at_end(head)
        state = self.phis(start, entry)
        builder.cbranch(more(state), inside, out)
        builder.position_at_end(inside)
        for phi, value in zip(state, body(state), strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(out)
        return state


def _emit_taps(builder: Any, args: Sequence[Any], rows: int, vecs: int, done: Any) -> None:
    table, segments, n, a_step, b, b_step, c_rows, add, lanes = args
    case = _Case(builder, rows, vecs, lanes)
    last = builder.add(segments, builder.shl(n, _int(4)))

    def segment(state: Sequence[Any]) -> list[Any]:
        at, row, *acc = state
        a = case.addresses(row)
        first = builder.add(b, case.load(_I64, at))
        count = case.load(_I64, builder.add(at, _int(8)))
        stop = builder.mul(count, a_step)

        def step(inner: Sequence[Any]) -> list[Any]:
            k, b_at, *sums = inner
            lines = [case.load(F32.llvm, builder.add(b_at, _int(64 * v))) for v in range(vecs)]
            after = []
            for r in range(rows):
                element = case.load(ir.FloatType(), builder.add(a[r], k))
                value = case.broadcast(element, F32.llvm)
                after += [case.fma(value, lines[v], sums[r * vecs + v]) for v in range(vecs)]
            return [builder.add(k, a_step), builder.add(b_at, b_step), *after]

        _, _, *sums = case.loop(
            [_int(0), first, *acc], step, lambda s: builder.icmp_signed("!=", s[0], stop)
        )
        return [builder.add(at, _int(16)), builder.add(row, _int(8 * ROWS)), *sums]

    _, _, *acc = case.loop(
        [segments, table, *case.zeros()], segment, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    adds, stores = builder.append_basic_block("adds"), builder.append_basic_block("stores")
    builder.cbranch(builder.icmp_signed("!=", add, _int(0)), adds, stores)
    for block in (adds, stores):
        builder.position_at_end(block)
        for r, row in enumerate(case.addresses(c_rows)):
            for v in range(vecs):
                value = acc[r * vecs + v]
                if block is adds:
                    value = builder.fadd(case.load_columns(row, v), value)
                case.store_columns(row, v, value)
        builder.branch(done)


def _emit_depthwise(builder: Any, args: Sequence[Any], rows: int, vecs: int, done: Any) -> None:
    table, n, shift, b, b_step, c_rows, lanes = args
    case = _Case(builder, rows, vecs, lanes)
    last = builder.add(table, builder.mul(n, _int(8 * ROWS)))

    def tap(state: Sequence[Any]) -> list[Any]:
        row, b_at, *acc = state
        lines = [case.load(F32.llvm, builder.add(b_at, _int(64 * v))) for v in range(vecs)]
        after = []
        for r, address in enumerate(case.addresses(row)):
            a = builder.add(address, shift)
            for v in range(vecs):
                after.append(case.fma(case.load_columns(a, v), lines[v], acc[r * vecs + v]))
        return [builder.add(row, _int(8 * ROWS)), builder.add(b_at, b_step), *after]

    _, _, *acc = case.loop(
        [table, b, *case.zeros()], tap, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    for r, row in enumerate(case.addresses(c_rows)):
        at = builder.add(row, shift)
        for v in range(vecs):
            case.store_columns(at, v, acc[r * vecs + v])
    builder.branch(done)


def _switch(builder: Any, args: Sequence[Any], emit: Any) -> None:
    """Choose the code by vectors and rows, the first two arguments."""
    done = builder.append_basic_block("done")
    switch = builder.switch(builder.add(builder.shl(args[0], _int(4)), args[1]), done)
    for vecs, choices in enumerate(STEPS):
        for rows in choices:
            block = builder.append_basic_block(f"tile{rows}x{vecs}")
            switch.add_case(_int(16 * vecs + rows), block)
            builder.position_at_end(block)
            emit(builder, args[2:], rows, vecs, done)
    builder.position_at_end(done)


@intrinsic
def _taps(
    typingctx: Any, vecs: Any, rows: Any, table: Any, segments: Any, n: Any, a_step: Any, b: Any,
    b_step: Any, c_rows: Any, add: Any, lanes: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _switch(builder, args, _emit_taps)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), code


@intrinsic
def _depthwise(
    typingctx: Any, vecs: Any, rows: Any, table: Any, n: Any, shift: Any, b: Any, b_step: Any,
    c_rows: Any, lanes: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _switch(builder, args, _emit_depthwise)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), code


@numba.njit(error_model="numpy")
def tile_taps(
    vecs: int, rows: int, table: int, segments: int, n: int, a_step: int, b: int, b_step: int,
    c_rows: int, add: int, lanes: int,
) -> None:  # fmt: skip
    """Compute a tile over taps and channels; see the top of this file."""
    _taps(vecs, rows, table, segments, n, a_step, b, b_step, c_rows, add, lanes)


@numba.njit(error_model="numpy")
def tile_depthwise(
    vecs: int, rows: int, table: int, n: int, shift: int, b: int, b_step: int, c_rows: int,
    lanes: int,
) -> None:  # fmt: skip
    """Compute a tile of channels that do not mix; see the top of this file."""
    _depthwise(vecs, rows, table, n, shift, b, b_step, c_rows, lanes)
