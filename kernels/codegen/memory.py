"""Memory by address: scalars, vectors, masked tails, prefetch. Addresses are int64, in bytes."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fusec.kernels.codegen.vectors import F32, F64, I32, I64, MASK16, Vec, call_llvm

__all__ = [
    "first_lanes",
    "load_bf16",
    "load_f32",
    "load_f64",
    "load_i8",
    "load_i16",
    "load_i32",
    "load_i64",
    "load_u8",
    "prefetch",
    "store_f32",
    "store_f64",
    "store_i8",
    "store_i16",
    "store_i32",
    "store_i64",
    "vload",
    "vload_f64",
    "vload_first",
    "vload_i32",
    "vload_i64",
    "vstore",
    "vstore_f64",
    "vstore_first",
    "vstore_i32",
    "vstore_i64",
]


def _scalar_load(element: ir.Type, result: types.Type, doc: str, extend: str | None = None) -> Any:
    @intrinsic
    def function(typingctx: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], element.as_pointer())
            value = builder.load(pointer, align=1)
            if extend:
                value = getattr(builder, extend)(value, context.get_value_type(result))
            return value

        return result(types.int64), code

    function.__doc__ = doc
    return function


def _scalar_store(element: ir.Type, given: types.Type, doc: str, narrow: bool = False) -> Any:
    @intrinsic
    def function(typingctx: Any, address: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = builder.trunc(args[1], element) if narrow else args[1]
            builder.store(value, builder.inttoptr(args[0], element.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, given), code

    function.__doc__ = doc
    return function


_I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
load_f32 = _scalar_load(ir.FloatType(), types.float32, "Load one float32.")
load_f64 = _scalar_load(ir.DoubleType(), types.float64, "Load one float64.")
load_i64 = _scalar_load(_I64, types.int64, "Load one int64.")
load_i32 = _scalar_load(_I32, types.int64, "Load one int32 as int64.", "sext")
load_i16 = _scalar_load(_I16, types.int64, "Load one int16 as int64.", "sext")
load_i8 = _scalar_load(_I8, types.int64, "Load one int8 as int64.", "sext")
load_u8 = _scalar_load(_I8, types.int64, "Load one uint8 or bool as int64.", "zext")
store_f32 = _scalar_store(ir.FloatType(), types.float32, "Store one float32.")
store_f64 = _scalar_store(ir.DoubleType(), types.float64, "Store one float64.")
store_i64 = _scalar_store(_I64, types.int64, "Store one int64.")
store_i32 = _scalar_store(_I32, types.int64, "Store the low 32 bits.", narrow=True)
store_i16 = _scalar_store(_I16, types.int64, "Store the low 16 bits.", narrow=True)
store_i8 = _scalar_store(_I8, types.int64, "Store the low 8 bits.", narrow=True)


def _vector_load(vec: Vec, doc: str) -> Any:
    @intrinsic
    def function(typingctx: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], vec.llvm.as_pointer())
            return builder.load(pointer, align=1)

        return vec(types.int64), code

    function.__doc__ = doc
    return function


def _vector_store(vec: Vec, doc: str) -> Any:
    @intrinsic
    def function(typingctx: Any, address: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], vec.llvm.as_pointer())
            builder.store(args[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, vec), code

    function.__doc__ = doc
    return function


vload = _vector_load(F32, "Load 16 floats, aligned or not.")
vload_i32 = _vector_load(I32, "Load 16 int32.")
vload_f64 = _vector_load(F64, "Load 8 doubles.")
vload_i64 = _vector_load(I64, "Load 8 int64.")
vstore = _vector_store(F32, "Store 16 floats, aligned or not.")
vstore_i32 = _vector_store(I32, "Store 16 int32.")
vstore_f64 = _vector_store(F64, "Store 8 doubles.")
vstore_i64 = _vector_store(I64, "Store 8 int64.")


def _mask(builder: Any, n: Any) -> Any:
    """Compare lane numbers with n."""
    lanes = ir.Constant(ir.VectorType(_I32, 16), list(range(16)))
    undefined = ir.Constant(lanes.type, ir.Undefined)
    low = builder.trunc(n, _I32)
    first = builder.insert_element(undefined, low, ir.Constant(_I32, 0))
    zeros = ir.Constant(lanes.type, [0] * 16)
    return builder.icmp_signed("<", lanes, builder.shuffle_vector(first, undefined, zeros))


@intrinsic
def first_lanes(typingctx: Any, n: Any) -> Any:
    """Give the mask of the first n of 16 lanes."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _mask(builder, args[0])

    return MASK16(types.int64), code


@intrinsic
def vload_first(typingctx: Any, address: Any, n: Any) -> Any:
    """Load the first n of 16 floats, zeros elsewhere; memory beyond them is not touched."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], F32.llvm.as_pointer())
        operands = [
            pointer,
            ir.Constant(_I32, 4),
            _mask(builder, args[1]),
            ir.Constant(F32.llvm, [0.0] * 16),
        ]
        return call_llvm(builder, "llvm.masked.load.v16f32.p0", F32.llvm, operands)

    return F32(types.int64, types.int64), code


@intrinsic
def vstore_first(typingctx: Any, address: Any, value: Any, n: Any) -> Any:
    """Store the first n of 16 floats; memory beyond them is not touched."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], F32.llvm.as_pointer())
        operands = [args[1], pointer, ir.Constant(_I32, 4), _mask(builder, args[2])]
        call_llvm(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), operands)
        return context.get_dummy_value()

    return types.void(types.int64, F32, types.int64), code


@intrinsic
def load_bf16(typingctx: Any, address: Any) -> Any:
    """Load 16 bfloat16 as floats."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half = ir.VectorType(_I16, 16)
        bits = builder.load(builder.inttoptr(args[0], half.as_pointer()), align=1)
        wide = builder.zext(bits, I32.llvm)
        return builder.bitcast(builder.shl(wide, ir.Constant(I32.llvm, [16] * 16)), F32.llvm)

    return F32(types.int64), code


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for a cache line; any address will do."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        constants = [ir.Constant(_I32, n) for n in (0, 3, 1)]  # read, keep close, data
        call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *constants])
        return context.get_dummy_value()

    return types.void(types.int64), code
