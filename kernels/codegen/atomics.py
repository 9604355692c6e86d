"""What a worker needs beside arithmetic: counters, futexes, calls by address."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "atomic_add",
    "atomic_load",
    "atomic_store",
    "call_kernel",
    "call_point",
    "pause",
    "syscall",
]

_I64 = ir.IntType(64)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def atomic_add(typingctx: Any, address: Any, amount: Any) -> Any:
    """Add to an int64; give what was there before. In one order with all adds and loads."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def atomic_load(typingctx: Any, address: Any) -> Any:
    """Load an int64: acquire, and in one order with all adds (free on x86)."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), code


@intrinsic
def atomic_store(typingctx: Any, address: Any, value: Any) -> Any:
    """Store an int64, release."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def call_kernel(
    typingctx: Any, fn: Any, desc: Any, bufs: Any, lo: Any, hi: Any, lo2: Any, hi2: Any,
    scratch: Any, services: Any,
) -> Any:  # fmt: skip
    """Call a kernel by its address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn_type = ir.FunctionType(ir.VoidType(), [_I64] * 8)
        builder.call(builder.inttoptr(args[0], fn_type.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), code


@intrinsic
def call_point(
    typingctx: Any, fn: Any, program: Any, bufs: Any, d0: Any, d1: Any, row: Any, rows: Any,
    col: Any, cols: Any, scratch: Any,
) -> Any:  # fmt: skip
    """Call the pointwise machine by its address; see `kernels/pointwise/cpu.py`."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn_type = ir.FunctionType(ir.VoidType(), [_I64] * 9)
        builder.call(builder.inttoptr(args[0], fn_type.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), code


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the core that this loop waits."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn_type = ir.FunctionType(ir.VoidType(), [])
        name = "llvm.x86.sse2.pause"
        if "x86" in builder.module.triple:
            builder.call(cgutils.get_or_insert_function(builder.module, fn_type, name), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def syscall(typingctx: Any, number: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Call libc's `syscall` with six operands."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn_type = ir.FunctionType(_I64, [_I64], var_arg=True)
        fn = cgutils.get_or_insert_function(builder.module, fn_type, "syscall")
        return builder.call(fn, args)

    return types.int64(*[types.int64] * 7), code
