"""What the microkernels of convolution are built from: LLVM code of one tile size."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from fusec.kernels.codegen.vectors import call_llvm

__all__ = ["FEW_STEPS", "STEPS", "Case", "number", "switch"]

STEPS = ((),) + ((1, 2, 4, 8),) * 6 + ((1, 2, 4, 6),) * 2
"""Rows that there is code for, by half vectors: the sums stay in 32 registers."""

FEW_STEPS = ((),) + ((2, 4, 8),) * 6 + ((2, 4, 6),) * 2
"""The same where tiles are seldom small."""

_I64, _I32, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()


def number(n: int) -> Any:
    """Give a constant int64."""
    return ir.Constant(_I64, n)


class Case:
    """Emits the code of one number of rows and half vectors."""

    def __init__(self, builder: Any, rows: int, halves: int, columns: Any) -> None:
        self.builder, self.rows = builder, rows
        self.widths = [16] * (halves // 2) + [8] * (halves % 2)
        last = self.widths[-1]
        rest = builder.trunc(builder.sub(columns, number(8 * halves - last)), _I32)
        self.full = builder.icmp_signed("==", rest, ir.Constant(_I32, last))
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
            self.load(self.vector(v), self.builder.add(address, number(64 * v)))
            for v in range(len(self.widths))
        ]

    def load_columns(self, address: Any, v: int) -> Any:
        """Load vector v of a row, masked if it is the last."""
        at = self.builder.add(address, number(64 * v))
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
        at = self.builder.add(address, number(64 * v))
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
        return [self.load(_I64, self.builder.add(table, number(8 * r))) for r in range(self.rows)]

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
        builder.cbranch(builder.icmp_signed("!=", condition, number(0)), then, out)
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
        self.store_rows(acc, targets, done)

    def store_rows(self, values: list[Any], targets: list[Any], done: Any) -> None:
        """Store all sums and go on; a mask costs, so whole rows are stored without."""
        builder, n = self.builder, len(self.widths)
        whole, part = builder.append_basic_block("whole"), builder.append_basic_block("part")
        builder.cbranch(self.full, whole, part)
        for block in (whole, part):
            builder.position_at_end(block)
            for i, value in enumerate(values):
                if block is part:
                    self.store_columns(targets[i // n], i % n, value)
                else:
                    at = builder.add(targets[i // n], number(64 * (i % n)))
                    pointer = builder.inttoptr(at, value.type.as_pointer())
                    builder.store(value, pointer, align=1)
            builder.branch(done)


def switch(builder: Any, args: Sequence[Any], emit: Any, steps: Sequence[Sequence[int]]) -> None:
    """Choose the code by half vectors and rows; after those come the columns."""
    done = builder.append_basic_block("done")
    switch = builder.switch(builder.add(builder.shl(args[0], number(4)), args[1]), done)
    for halves, choices in enumerate(steps):
        for rows in choices:
            block = builder.append_basic_block(f"tile{rows}x{halves}")
            switch.add_case(number(16 * halves + rows), block)
            builder.position_at_end(block)
            emit(Case(builder, rows, halves, args[2]), args[3:], done)
    builder.position_at_end(done)
