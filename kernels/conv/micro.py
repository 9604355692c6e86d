"""The microkernels of convolution: a few pixels times one panel of channels, sums in registers.

    tile_rows(columns, rows, sources, segments, n, a_step, b, b_step, targets, add, bias, act)

        i = 0
        for s in range(n):
            offset, count = segments[s]            # of A in bytes, in steps of k
            for k in range(count):
                a = A[sources[r] + offset + k * a_step]
                acc[r, :] = fma(a, B[b + i * b_step][:], acc[r, :])
                i += 1
        C[targets[r]][:] = act(acc[r, :] + bias[:])     # C is added to acc first if `add` is not 0

    tile_taps(columns, rows, table, segments, n, a_step, b, b_step, targets, add, bias, act)

        the same, but each pixel's taps lie where a table says, and rows of B may be left out:
            offset, count = segments[s]            # of B in bytes, in steps of k
                a = A[table[s][r] + k * a_step]
                acc[r, :] = fma(a, B[b + offset + k * b_step][:], acc[r, :])

    tile_depthwise(columns, rows, table, n, shift, b, b_step, targets, bias, act)

        for s in range(n):
            acc[r, :] = fma(A[table[s][r] + shift][:], B[b + s * b_step][:], acc[r, :])
        C[targets[r] + shift][:] = act(acc[r, :] + bias[:])

All int64, addresses and steps in bytes. A table row has `ROWS` addresses: a tap outside of the
image points at zeros; rows beyond those wanted read and write where the caller says. There are 1
to 64 columns; their last 1 to 8 are half a vector, so that 24 cost three quarters of 32; no memory
beyond them is read of A or touched of C. `rows` is what `rows_of` gives, or `few_or_most` for the
latter two. `bias` is 0 for none; `act` is 1 for a ReLU. Every cut gives the same bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.codegen.vectors import call_llvm

__all__ = [
    "CHUNK",
    "ROWS",
    "Case",
    "few_or_most",
    "most_of",
    "rows_of",
    "tile_depthwise",
    "tile_rows",
    "tile_taps",
]

CHUNK = 256
"""Steps of k in one chain."""

ROWS = 8
"""Addresses in a table row."""

_STEPS = ((),) + ((1, 2, 4, 8),) * 6 + ((1, 2, 4, 6),) * 2
"""Rows that `tile_rows` has code for, by half vectors: the sums stay in 32 registers."""

_FEW_STEPS = ((),) + ((2, 4, 8),) * 6 + ((2, 4, 6),) * 2
"""The same of the others."""

_I64, _I32, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()


def _int(n: int) -> Any:
    return ir.Constant(_I64, n)


class Case:
    """Emits the code of one number of rows and half vectors."""

    def __init__(self, builder: Any, rows: int, halves: int, columns: Any) -> None:
        self.builder, self.rows = builder, rows
        self.widths = [16] * (halves // 2) + [8] * (halves % 2)
        last = self.widths[-1]
        rest = builder.trunc(builder.sub(columns, _int(8 * halves - last)), _I32)
        lanes = ir.Constant(ir.VectorType(_I32, last), list(range(last)))
        self.mask = builder.icmp_signed("<", lanes, self.broadcast(rest, last))

    def load(self, type_: ir.Type, address: Any) -> Any:
        """Load from an unaligned address."""
        return self.builder.load(self.builder.inttoptr(address, type_.as_pointer()), align=1)

    def broadcast(self, value: Any, width: int) -> Any:
        """Repeat a scalar."""
        vector = ir.VectorType(value.type, width)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, width), [0] * width)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def vector(self, v: int) -> ir.VectorType:
        """Give the type of vector v of a row."""
        return ir.VectorType(_FLOAT, self.widths[v])

    def zero(self, v: int) -> Any:
        """Give vector v of zeros."""
        return ir.Constant(self.vector(v), [0.0] * self.widths[v])

    def zeros(self) -> list[Any]:
        """Give sums to start from."""
        return [self.zero(v) for _ in range(self.rows) for v in range(len(self.widths))]

    def lines(self, address: Any) -> list[Any]:
        """Load a row of B: whole vectors, there is always room."""
        return [
            self.load(self.vector(v), self.builder.add(address, _int(64 * v)))
            for v in range(len(self.widths))
        ]

    def load_columns(self, address: Any, v: int) -> Any:
        """Load vector v of a row, masked if it is the last."""
        at = self.builder.add(address, _int(64 * v))
        if v < len(self.widths) - 1:
            return self.load(self.vector(v), at)
        vector = self.vector(v)
        operands = [
            self.builder.inttoptr(at, vector.as_pointer()), ir.Constant(_I32, 1), self.mask,
            self.zero(v),
        ]  # fmt: skip
        name = f"llvm.masked.load.v{self.widths[v]}f32.p0"
        return call_llvm(self.builder, name, vector, operands)

    def store_columns(self, address: Any, v: int, value: Any) -> None:
        """Store vector v of a row, masked if it is the last."""
        at = self.builder.add(address, _int(64 * v))
        pointer = self.builder.inttoptr(at, value.type.as_pointer())
        if v < len(self.widths) - 1:
            self.builder.store(value, pointer, align=1)
            return
        operands = [value, pointer, ir.Constant(_I32, 1), self.mask]
        name = f"llvm.masked.store.v{self.widths[v]}f32.p0"
        call_llvm(self.builder, name, ir.VoidType(), operands)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Multiply and add, rounded once."""
        width = c.type.count
        return call_llvm(self.builder, f"llvm.fma.v{width}f32", c.type, [a, b, c])

    def step(self, values: Callable[[int, int], Any], lines: list[Any], sums: list[Any]) -> Any:
        """Add one product to every sum; values(r, v) is what row r multiplies vector v with."""
        after = []
        for r in range(self.rows):
            for v, line in enumerate(lines):
                after.append(self.fma(values(r, v), line, sums[r * len(lines) + v]))
        return after

    def elements(self, addresses: Sequence[Any]) -> Callable[[int, int], Any]:
        """Load one float per row, repeated."""
        values = [self.load(_FLOAT, address) for address in addresses]
        return lambda r, v: self.broadcast(values[r], self.widths[v])

    def addresses(self, table: Any) -> list[Any]:
        """Load a table row."""
        return [self.load(_I64, self.builder.add(table, _int(8 * r))) for r in range(self.rows)]

    def loop(
        self, start: Sequence[Any], body: Callable[[Any], Sequence[Any]], more: Callable[[Any], Any]
    ) -> list[Any]:
        """Emit `while more(state): state = body(state)`; give the state after it."""
        builder = self.builder
        entry, head = builder.block, builder.append_basic_block("head")
        inside, out = builder.append_basic_block("inside"), builder.append_basic_block("out")
        builder.branch(head)
        builder.position_at_end(head)
        state = [self.phi(value, entry) for value in start]
        builder.cbranch(more(state), inside, out)
        builder.position_at_end(inside)
        for phi, value in zip(state, body(state), strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(out)
        return state

    def phi(self, value: Any, origin: Any) -> Any:
        """Start a value that changes along a loop."""
        phi = self.builder.phi(value.type)
        phi.add_incoming(value, origin)
        return phi

    def where(
        self, condition: Any, values: list[Any], change: Callable[[list[Any]], list[Any]]
    ) -> list[Any]:
        """Emit `change(values) if condition != 0 else values`."""
        builder = self.builder
        entry = builder.block
        then, out = builder.append_basic_block("then"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("!=", condition, _int(0)), then, out)
        builder.position_at_end(then)
        changed = change(values)
        end = builder.block
        builder.branch(out)
        builder.position_at_end(out)
        result = []
        for old, new in zip(values, changed, strict=True):
            phi = self.phi(old, entry)
            phi.add_incoming(new, end)
            result.append(phi)
        return result

    def finish(
        self, acc: list[Any], targets: list[Any], add: Any, bias: Any, act: Any, done: Any
    ) -> None:
        """Add what is there and the bias, apply the activation, store."""
        builder, n = self.builder, len(self.widths)

        def with_rows(values: list[Any]) -> list[Any]:
            return [
                builder.fadd(self.load_columns(targets[i // n], i % n), value)
                for i, value in enumerate(values)
            ]

        def with_bias(values: list[Any]) -> list[Any]:
            terms = [self.load_columns(bias, v) for v in range(n)]
            return [builder.fadd(value, terms[i % n]) for i, value in enumerate(values)]

        def positive(values: list[Any]) -> list[Any]:
            # Unordered: a NaN stays.
            zeros = [self.zero(i % n) for i in range(len(values))]
            return [
                builder.select(builder.fcmp_unordered(">", value, zero), value, zero)
                for value, zero in zip(values, zeros, strict=True)
            ]

        if add is not None:
            acc = self.where(add, acc, with_rows)
        acc = self.where(bias, acc, with_bias)
        acc = self.where(act, acc, positive)
        for i, value in enumerate(acc):
            self.store_columns(targets[i // n], i % n, value)
        builder.branch(done)


def _emit_rows(case: Case, args: Sequence[Any], done: Any) -> None:
    sources, segments, n, a_step, b, b_step, targets, add, bias, act = args
    builder = case.builder
    last = builder.add(segments, builder.shl(n, _int(4)))
    a = case.addresses(sources)

    def segment(state: Any) -> list[Any]:
        at, line, *acc = state
        offset = case.load(_I64, at)
        count = case.load(_I64, builder.add(at, _int(8)))
        stop = builder.add(offset, builder.mul(count, a_step))

        def step(inner: Any) -> list[Any]:
            k, b_at, *sums = inner
            values = case.elements([builder.add(address, k) for address in a])
            after = case.step(values, case.lines(b_at), sums)
            return [builder.add(k, a_step), builder.add(b_at, b_step), *after]

        _, line, *acc = case.loop(
            [offset, line, *acc], step, lambda s: builder.icmp_signed("!=", s[0], stop)
        )
        return [builder.add(at, _int(16)), line, *acc]

    _, _, *acc = case.loop(
        [segments, b, *case.zeros()], segment, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    case.finish(acc, case.addresses(targets), add, bias, act, done)


def _emit_taps(case: Case, args: Sequence[Any], done: Any) -> None:
    table, segments, n, a_step, b, b_step, targets, add, bias, act = args
    builder = case.builder
    last = builder.add(segments, builder.shl(n, _int(4)))

    def segment(state: Any) -> list[Any]:
        at, row, *acc = state
        a = case.addresses(row)
        first = builder.add(b, case.load(_I64, at))
        stop = builder.mul(case.load(_I64, builder.add(at, _int(8))), a_step)

        def step(inner: Any) -> list[Any]:
            k, b_at, *sums = inner
            values = case.elements([builder.add(address, k) for address in a])
            after = case.step(values, case.lines(b_at), sums)
            return [builder.add(k, a_step), builder.add(b_at, b_step), *after]

        _, _, *acc = case.loop(
            [_int(0), first, *acc], step, lambda s: builder.icmp_signed("!=", s[0], stop)
        )
        return [builder.add(at, _int(16)), builder.add(row, _int(8 * ROWS)), *acc]

    _, _, *acc = case.loop(
        [segments, table, *case.zeros()], segment, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    case.finish(acc, case.addresses(targets), add, bias, act, done)


def _emit_depthwise(case: Case, args: Sequence[Any], done: Any) -> None:
    table, n, shift, b, b_step, targets, bias, act = args
    builder = case.builder
    last = builder.add(table, builder.mul(n, _int(8 * ROWS)))

    def tap(state: Any) -> list[Any]:
        row, b_at, *acc = state
        a = [builder.add(address, shift) for address in case.addresses(row)]
        after = case.step(lambda r, v: case.load_columns(a[r], v), case.lines(b_at), acc)
        return [builder.add(row, _int(8 * ROWS)), builder.add(b_at, b_step), *after]

    _, _, *acc = case.loop(
        [table, b, *case.zeros()], tap, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    rows = [builder.add(address, shift) for address in case.addresses(targets)]
    case.finish(acc, rows, None, bias, act, done)


def _switch(builder: Any, args: Sequence[Any], emit: Any, steps: Sequence[Sequence[int]]) -> None:
    """Choose the code by half vectors and rows; after those come the columns."""
    done = builder.append_basic_block("done")
    switch = builder.switch(builder.add(builder.shl(args[0], _int(4)), args[1]), done)
    for halves, choices in enumerate(steps):
        for rows in choices:
            block = builder.append_basic_block(f"tile{rows}x{halves}")
            switch.add_case(_int(16 * halves + rows), block)
            builder.position_at_end(block)
            emit(Case(builder, rows, halves, args[2]), args[3:], done)
    builder.position_at_end(done)


@intrinsic
def _rows(
    typingctx: Any, halves: Any, rows: Any, columns: Any, sources: Any, segments: Any, n: Any,
    a_step: Any, b: Any, b_step: Any, targets: Any, add: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _switch(builder, args, _emit_rows, _STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), code


@intrinsic
def _taps(
    typingctx: Any, halves: Any, rows: Any, columns: Any, table: Any, segments: Any, n: Any,
    a_step: Any, b: Any, b_step: Any, targets: Any, add: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _switch(builder, args, _emit_taps, _FEW_STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), code


@intrinsic
def _depthwise(
    typingctx: Any, halves: Any, rows: Any, columns: Any, table: Any, n: Any, shift: Any, b: Any,
    b_step: Any, targets: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _switch(builder, args, _emit_depthwise, _FEW_STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), code


@numba.njit(error_model="numpy")
def most_of(columns: int) -> int:
    """Give the pixels of a tile of so many columns, at most."""
    return 6 if columns > 48 else ROWS


@numba.njit(error_model="numpy")
def rows_of(count: int, columns: int) -> int:
    """Give the rows that there is code for, to compute so many."""
    rows = 1
    while rows < count:
        rows *= 2
    return min(rows, 6 if columns > 48 else ROWS)


@numba.njit(error_model="numpy")
def few_or_most(count: int, columns: int) -> int:
    """Give the rows that the other kernels have code for, to compute so many."""
    if count <= 2:
        return 2
    return 4 if count <= 4 else most_of(columns)


@numba.njit(error_model="numpy")
def tile_rows(
    columns: int, rows: int, sources: int, segments: int, n: int, a_step: int, b: int,
    b_step: int, targets: int, add: int, bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile whose pixels use the same taps; see the top of this file."""
    _rows((columns + 7) // 8, rows, columns, sources, segments, n, a_step, b, b_step, targets,
          add, bias, act)  # fmt: skip


@numba.njit(error_model="numpy")
def tile_taps(
    columns: int, rows: int, table: int, segments: int, n: int, a_step: int, b: int, b_step: int,
    targets: int, add: int, bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile whose taps lie where a table says; see the top of this file."""
    _taps((columns + 7) // 8, rows, columns, table, segments, n, a_step, b, b_step, targets, add,
          bias, act)  # fmt: skip


@numba.njit(error_model="numpy")
def tile_depthwise(
    columns: int, rows: int, table: int, n: int, shift: int, b: int, b_step: int, targets: int,
    bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile of channels that do not mix; see the top of this file."""
    _depthwise((columns + 7) // 8, rows, columns, table, n, shift, b, b_step, targets, bias, act)
