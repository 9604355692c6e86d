"""The machine's instructions in LLVM code: one small function per step, per load, per store.

    run_step(code, n, out, a, a_step, b, b_step, c, c_step)
    load_tile(dtype, out, rows, columns, source, row_step, column_step)
    store_tile(dtype, source, rows, columns, target, row_step, column_step)

Codes are places in the tables of `steps`. A step reads 16 lanes of each operand, writes 16 and
goes on, n lanes in all; an operand's address moves by its step, which is 0 for one that is the
same everywhere. Tiles lie without gaps in a register. Functions are built from `bodies` and found
through a constant table of addresses, so that neither typing nor optimising sees a large function.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fusec.ir.dtypes import itemsize_bytes
from fusec.kernels.codegen.lanes import Lanes
from fusec.kernels.codegen.vectors import LANES
from fusec.kernels.pointwise.bodies import body_of, floats_of_half, half_of_floats
from fusec.kernels.pointwise.steps import CLASS_OF, CLASSES, STEPS

__all__ = ["define_tables", "load_tile", "run_step", "store_tile"]

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
_ELEMENTS: Mapping[str, ir.Type] = {
    "f32": ir.FloatType(),
    "f64": ir.DoubleType(),
    "i64": _I64,
    "i32": _I32,
    "b8": _I8,
}
_MEMORY: Mapping[str, ir.Type] = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int64": _I64,
    "int32": _I32,
    "bool": _I8,
    "float16": _I16,
    "bfloat16": _I16,
    "int16": _I16,
    "int8": _I8,
    "uint8": _I8,
}


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def _vector(element: ir.Type, lanes: int) -> ir.Type:
    return ir.VectorType(element, lanes)


def _load(builder: Any, address: Any, element: ir.Type, lanes: int) -> Any:
    pointer = builder.inttoptr(address, _vector(element, lanes).as_pointer())
    return builder.load(pointer, align=1)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _function(module: Any, name: str, arguments: int) -> tuple[Any, Any]:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * arguments), name)
    function.linkage = "internal"
    return function, ir.IRBuilder(function.append_basic_block())


def _build_step(module: Any, name: str) -> Any:
    """Build `step(n, out, a, a_step, b, b_step, c, c_step)`."""
    function, builder = _function(module, f"fusec_step_{name}", 8)
    n, out, *rest = function.args
    kind = STEPS[name]
    body = body_of(name)
    size = CLASSES[kind.result]
    pairs = [(rest[2 * i], rest[2 * i + 1]) for i in range(len(kind.operands))]
    with cgutils.for_range(builder, builder.sdiv(n, _number(LANES)), intp=_I64) as loop:
        operands = []
        for cls, (start, step) in zip(kind.operands, pairs, strict=True):
            address = builder.add(start, builder.mul(loop.index, step))
            lanes = Lanes(builder, _load(builder, address, _ELEMENTS[cls], LANES))
            operands.append(lanes.compare("!=", 0) if cls == "b8" else lanes)
        result = body(*operands)
        if kind.result == "b8":
            result = result.to_int(8)
        offset = builder.mul(loop.index, _number(LANES * size))
        _store(builder, result.value, builder.add(out, offset))
    builder.ret_void()
    return function


def _widen(dtype: str, lanes: Lanes) -> Lanes:
    """Convert what lies in memory to what a register holds."""
    match dtype:
        case "float16":
            return floats_of_half(lanes.to_int(32) & 0xFFFF)
        case "bfloat16":
            return (lanes.to_int(32) << 16).from_bits()
        case "uint8":
            return lanes.to_int(32) & 255
        case "int8" | "int16":
            return lanes.to_int(32)
    return lanes


def _narrow(dtype: str, lanes: Lanes) -> Lanes:
    match dtype:
        case "float16":
            return half_of_floats(lanes).to_int(16)
        case "bfloat16":
            return (lanes.bits() >> 16).to_int(16)
        case "uint8" | "int8":
            return lanes.to_int(8)
        case "int16":
            return lanes.to_int(16)
    return lanes


def _build_tile(module: Any, dtype: str, convert: Callable[[str, Lanes], Lanes], load: bool) -> Any:
    """Build a load `(out, rows, columns, source, row_step, column_step)`, or a store likewise."""
    name = f"fusec_{'load' if load else 'store'}_{dtype}"
    function, builder = _function(module, name, 6)
    register, rows, columns, memory, row_step, column_step = function.args
    here, there = _ELEMENTS[CLASS_OF[dtype]], _MEMORY[dtype]
    size, itemsize = CLASSES[CLASS_OF[dtype]], itemsize_bytes(dtype)

    def move(builder: Any, lanes: int, at: Any, address: Any) -> None:
        source, target = (address, at) if load else (at, address)
        value = Lanes(builder, _load(builder, source, there if load else here, lanes))
        _store(builder, convert(dtype, value).value, target)

    def run(line: Any, start: Any) -> None:
        """Move whole vectors of a row that lies in memory as it should."""
        with cgutils.for_range(builder, builder.ashr(first, _number(4)), intp=_I64) as i:
            at = builder.add(line, builder.mul(i.index, _number(LANES * size)))
            move(
                builder,
                LANES,
                at,
                builder.add(start, builder.mul(i.index, _number(LANES * itemsize))),
            )

    whole = builder.and_(columns, _number(-LANES))
    along = builder.icmp_signed("==", column_step, _number(itemsize))
    still = builder.icmp_signed("==", column_step, _number(0))
    vectors = builder.or_(along, still) if load else along
    first = builder.select(vectors, whole, _number(0))
    with cgutils.for_range(builder, rows, intp=_I64) as row:
        skipped = builder.mul(builder.mul(row.index, columns), _number(size))
        line = builder.add(register, skipped)
        start = builder.add(memory, builder.mul(row.index, row_step))

        if load:
            with builder.if_else(still) as (repeated, other):
                with repeated:
                    one = Lanes(builder, _load(builder, start, there, 1))
                    value = _repeated(builder, convert(dtype, one).value)
                    with cgutils.for_range(
                        builder, builder.ashr(first, _number(4)), intp=_I64
                    ) as i:
                        at = builder.mul(i.index, _number(LANES * size))
                        _store(builder, value, builder.add(line, at))
                with other:
                    run(line, start)
        else:
            run(line, start)
        with cgutils.for_range_slice(builder, first, columns, _number(1), intp=_I64, inc=True) as (
            i,
            _,
        ):
            at = builder.add(line, builder.mul(i, _number(size)))
            move(builder, 1, at, builder.add(start, builder.mul(i, column_step)))
    builder.ret_void()
    return function


def _repeated(builder: Any, value: Any) -> Any:
    """Repeat a single lane in 16."""
    undefined = ir.Constant(value.type, ir.Undefined)
    order = ir.Constant(_vector(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(value, undefined, order)


def _table(module: Any, name: str, count: int, arguments: int) -> Any:
    """Give a constant table of functions by name, declared if it is not there."""
    table = module.globals.get(name)
    if table is None:
        function = ir.FunctionType(ir.VoidType(), [_I64] * arguments)
        table = ir.GlobalVariable(module, ir.ArrayType(function.as_pointer(), count), name)
        table.global_constant = True
    return table


def _define(module: Any, name: str, functions: Sequence[Any]) -> None:
    table = _table(module, name, len(functions), len(functions[0].args))
    table.initializer = ir.Constant(table.value_type, functions)


@intrinsic  # type: ignore[untyped-decorator]
def define_tables(typingctx: Any) -> Any:
    """Put the functions and their tables into this module; others only name the tables.

    They are large, and numba copies a module into that of each caller.
    """

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        module = builder.module
        tile = [(dtype, _widen, True) for dtype in CLASS_OF]
        tile += [(dtype, _narrow, False) for dtype in CLASS_OF]
        built = [_build_tile(module, dtype, convert, load) for dtype, convert, load in tile]
        _define(module, "fusec_steps", [_build_step(module, name) for name in STEPS])
        _define(module, "fusec_loads", built[: len(CLASS_OF)])
        _define(module, "fusec_stores", built[len(CLASS_OF) :])
        return context.get_dummy_value()

    return types.void(), build


def _calling(table: str, count: int, arguments: int, doc: str) -> Any:
    """Make an intrinsic that calls the function of this number with the other arguments."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        functions = _table(builder.module, table, count, arguments)
        pointer = builder.gep(functions, [_number(0), args[0]])
        builder.call(builder.load(pointer), args[1:])
        return context.get_dummy_value()

    signature = types.void(*[types.int64] * (arguments + 1))
    if arguments == 8:

        @intrinsic  # type: ignore[untyped-decorator]
        def function(
            typingctx: Any, code_: Any, n: Any, out: Any, a: Any, a_step: Any, b: Any,
            b_step: Any, c: Any, c_step: Any,
        ) -> Any:  # fmt: skip
            return signature, code

    else:

        @intrinsic  # type: ignore[untyped-decorator]
        def function(
            typingctx: Any, dtype: Any, register: Any, rows: Any, columns: Any, memory: Any,
            row_step: Any, column_step: Any,
        ) -> Any:  # fmt: skip
            return signature, code

    function.__doc__ = doc
    return function


run_step = _calling("fusec_steps", len(STEPS), 8, "Run a step over n lanes, a multiple of 16.")
load_tile = _calling("fusec_loads", len(CLASS_OF), 6, "Load rows into a register, without gaps.")
store_tile = _calling("fusec_stores", len(CLASS_OF), 6, "Store a register as rows.")
