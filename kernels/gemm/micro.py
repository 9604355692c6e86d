"""The microkernel: a few rows times one panel, all sums in registers.

    tile_f32(vecs, rows, a_rows, segments, n_segments, b, b_step, c, c_step, add,
             ahead, ahead_step)

computes one chain of fused multiply-adds per element, from zero, and stores it to C or adds it
to what is there:

    i = 0
    for offset, count in segments:                 # of A, in bytes and in steps of k
        for k in range(count):
            acc[r, :] = fma(A[a_rows[r] + offset + k * itemsize], B[b + i * b_step][:], acc[r, :])
            i += 1
    C[c + r * c_step][:] = acc[r, :]               # or += if `add` is not 0

All int64. Every value of `rows` and `vecs` gives the same bits, so callers may cut as they like.
The order of sums of a stage (chunks of `CHUNK` steps) is made by its caller: one call per chunk,
`add` 0 for the first and 1 for the others. A convolution has a segment per tap, or per row of
taps where those lie next to each other; a segment that a chunk's end cuts is split in two.

    vecs        1 to 4 vectors of 16 columns (float64: of 8)
    rows        1 to ROWS[vecs]
    a_rows      address of a table of `rows` addresses, 8 bytes each: where each row of A starts
    segments    address of a table of pairs (byte offset, count >= 1), 16 bytes each; may be empty
    b, b_step   address of the first B row and bytes to the next: whole vectors are read
    c, c_step   address of the first C row and bytes to the next: whole vectors are written; write
                to scratch and copy with `put_f32` where there are fewer columns
    ahead       address of memory wanted soon: each step prefetches `vecs` lines there and moves
    ahead_step  on by this many bytes (0 where nothing is wanted: `ahead` may be any address)
"""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fusec.kernels.codegen.target import processor
from fusec.kernels.codegen.vectors import F32, F64, I32, Vec, call_llvm

__all__ = ["CHUNK", "HEIGHTS", "ROWS", "tile_bf16", "tile_f32", "tile_f64"]

CHUNK = 256
"""Steps of k in one chain."""

ROWS = (0, 8, 8, 8, 6)
"""Most rows of a tile by vectors: at most 24 sums, so that all stay in 32 registers."""

HEIGHTS = ROWS if "+avx512f" in processor().features else (0, 6, 2, 4, 3)
"""Rows that are best where there are many: what measured fastest with half-width registers."""

_I64 = ir.IntType(64)
_ARGUMENTS = 12


def _int(n: int) -> Any:
    return ir.Constant(_I64, n)


class _Case:
    """Emits the code of one number of rows and vectors."""

    def __init__(self, builder: Any, args: Sequence[Any], vec: Vec, half: bool) -> None:
        self.builder, self.vec, self.half = builder, vec, half
        (_, _, self.a_rows, self.segments, self.n_segments, self.b, self.b_step,
         self.c, self.c_step, self.add, self.ahead, self.ahead_step) = args  # fmt: skip
        self.size = 4 if vec is F32 else 8
        self.b_bytes = vec.lanes * (2 if half else self.size)

    def load(self, type_: ir.Type, address: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, type_.as_pointer()), align=1)

    def load_b(self, address: Any) -> Any:
        if not self.half:
            return self.load(self.vec.llvm, address)
        bits = self.load(ir.VectorType(ir.IntType(16), 16), address)
        wide = self.builder.shl(self.builder.zext(bits, I32.llvm), ir.Constant(I32.llvm, [16] * 16))
        return self.builder.bitcast(wide, F32.llvm)

    def broadcast(self, value: Any) -> Any:
        undefined = ir.Constant(self.vec.llvm, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.vec.lanes), [0] * self.vec.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def emit(self, rows: int, vecs: int, done: Any) -> None:
        builder = self.builder
        a = [self.load(_I64, builder.add(self.a_rows, _int(8 * r))) for r in range(rows)]
        last = builder.add(self.segments, builder.shl(self.n_segments, _int(4)))
        zero = ir.Constant(self.vec.llvm, [0.0] * self.vec.lanes)
        start = [self.segments, self.b, self.ahead, *([zero] * (rows * vecs))]
        entry, head = builder.block, builder.append_basic_block("segment")
        body, store = builder.append_basic_block("steps"), builder.append_basic_block("store")
        builder.branch(head)
        builder.position_at_end(head)
        state = self.phis(start, entry)
        builder.cbranch(builder.icmp_unsigned("<", state[0], last), body, store)
        builder.position_at_end(body)
        after, end = self.steps(a, state, vecs)
        for phi, value in zip(state, after, strict=True):
            phi.add_incoming(value, end)
        builder.branch(head)
        builder.position_at_end(store)
        self.store(state[3:], rows, vecs, done)

    def phis(self, values: Sequence[Any], origin: Any) -> list[Any]:
        result = []
        for value in values:
            phi = self.builder.phi(value.type)
            phi.add_incoming(value, origin)
            result.append(phi)
        return result

    def steps(self, a: list[Any], state: list[Any], vecs: int) -> tuple[list[Any], Any]:
        """Emit the loop over one segment; give the state after it and its last block."""
        builder = self.builder
        offset = self.load(_I64, state[0])
        count = self.load(_I64, builder.add(state[0], _int(8)))
        stop = builder.add(offset, builder.mul(count, _int(self.size)))
        entry, loop = builder.block, builder.append_basic_block("step")
        out = builder.append_basic_block("stepped")
        builder.branch(loop)
        builder.position_at_end(loop)
        at, b, ahead, *acc = phis = self.phis([offset, *state[1:]], entry)
        for v in range(vecs):
            self.prefetch(builder.add(ahead, _int(64 * v)))
        sums = list(acc)
        values = [self.broadcast(self.load(self.vec.element, builder.add(row, at))) for row in a]
        suffix = "v16f32" if self.vec is F32 else "v8f64"
        for v in range(vecs):
            line = self.load_b(builder.add(b, _int(v * self.b_bytes)))
            for i, value in enumerate(values):
                at_sum = i * vecs + v
                operands = [value, line, acc[at_sum]]
                sums[at_sum] = call_llvm(builder, f"llvm.fma.{suffix}", self.vec.llvm, operands)
        following = [
            builder.add(at, _int(self.size)),
            builder.add(b, self.b_step),
            builder.add(ahead, self.ahead_step),
            *sums,
        ]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", following[0], stop), loop, out)
        builder.position_at_end(out)
        return [builder.add(state[0], _int(16)), *following[1:]], out

    def prefetch(self, address: Any) -> None:
        pointer = self.builder.inttoptr(address, cgutils.voidptr_t)
        constants = [ir.Constant(ir.IntType(32), n) for n in (0, 3, 1)]
        call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *constants])

    def store(self, acc: list[Any], rows: int, vecs: int, done: Any) -> None:
        builder = self.builder
        adds, stores = builder.append_basic_block("adds"), builder.append_basic_block("stores")
        builder.cbranch(builder.icmp_signed("!=", self.add, _int(0)), adds, stores)
        for block in (adds, stores):
            builder.position_at_end(block)
            row = self.c
            for r in range(rows):
                for v in range(vecs):
                    address = builder.add(row, _int(v * self.vec.lanes * self.size))
                    value = acc[r * vecs + v]
                    if block is adds:
                        value = builder.fadd(self.load(self.vec.llvm, address), value)
                    pointer = builder.inttoptr(address, self.vec.llvm.as_pointer())
                    builder.store(value, pointer, align=1)
                row = builder.add(row, self.c_step)
            builder.branch(done)


def _cases(vec: Vec, half: bool = False) -> Any:
    """Make an intrinsic that switches on vectors and rows."""

    @intrinsic
    def cases(typingctx: Any, vecs: Any, rows: Any, a_rows: Any, segments: Any, n_segments: Any,
              b: Any, b_step: Any, c: Any, c_step: Any, add: Any, ahead: Any,
              ahead_step: Any) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            done = builder.append_basic_block("done")
            number = builder.add(builder.shl(args[0], _int(4)), args[1])
            switch = builder.switch(number, done)
            for v, most in enumerate(ROWS):
                for r in range(1, most + 1):
                    block = builder.append_basic_block(f"tile{r}x{v}")
                    switch.add_case(_int(16 * v + r), block)
                    builder.position_at_end(block)
                    _Case(builder, args, vec, half).emit(r, v, done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(*[types.int64] * _ARGUMENTS), code

    return cases


_cases_f32 = _cases(F32)
_cases_f64 = _cases(F64)
_cases_bf16 = _cases(F32, half=True)


@numba.njit(error_model="numpy")
def tile_f32(
    vecs: int, rows: int, a_rows: int, segments: int, n_segments: int, b: int, b_step: int,
    c: int, c_step: int, add: int, ahead: int, ahead_step: int,
) -> None:  # fmt: skip
    """Compute a tile of float32; see the top of this file."""
    _cases_f32(
        vecs, rows, a_rows, segments, n_segments, b, b_step, c, c_step, add, ahead, ahead_step
    )


@numba.njit(error_model="numpy")
def tile_f64(
    vecs: int, rows: int, a_rows: int, segments: int, n_segments: int, b: int, b_step: int,
    c: int, c_step: int, add: int, ahead: int, ahead_step: int,
) -> None:  # fmt: skip
    """Compute a tile of float64; see the top of this file."""
    _cases_f64(
        vecs, rows, a_rows, segments, n_segments, b, b_step, c, c_step, add, ahead, ahead_step
    )


@numba.njit(error_model="numpy")
def tile_bf16(
    vecs: int, rows: int, a_rows: int, segments: int, n_segments: int, b: int, b_step: int,
    c: int, c_step: int, add: int, ahead: int, ahead_step: int,
) -> None:  # fmt: skip
    """Compute a tile of float32 with B in bfloat16; see the top of this file."""
    _cases_bf16(
        vecs, rows, a_rows, segments, n_segments, b, b_step, c, c_step, add, ahead, ahead_step
    )
