"""Vector values for kernels: 16 floats or integers, 8 doubles, and masks of them.

Explicit vectors of 16 floats become full-width AVX-512 code where there is AVX-512, and two or
four narrower instructions elsewhere: the same lanes, so the same bits.

    acc = fma(splat(a), b, acc)      x = select(x > zero, x, zero)      total = sum_lanes(acc)
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "F32",
    "F64",
    "I32",
    "I64",
    "LANES",
    "MASK8",
    "MASK16",
    "Vec",
    "bits_f32",
    "bits_i32",
    "fma",
    "highest",
    "lowest",
    "max_lanes",
    "min_lanes",
    "select",
    "splat",
    "sum_lanes",
    "to_f32",
    "to_i32",
    "vabs",
    "vceil",
    "vfloor",
    "vround",
    "vsqrt",
    "vtrunc",
]

LANES = 16
"""Floats in a vector."""


class Vec(types.Type):
    """The type of a vector value."""

    def __init__(self, name: str, element: ir.Type, lanes: int, scalar: types.Type) -> None:
        self.element, self.lanes, self.scalar = element, lanes, scalar
        self.llvm = ir.VectorType(element, lanes)
        super().__init__(name=name)

    @property
    def is_float(self) -> bool:
        """Tell floats from integers and masks."""
        return isinstance(self.element, ir.FloatType | ir.DoubleType)


F32 = Vec("f32x16", ir.FloatType(), 16, types.float32)
I32 = Vec("i32x16", ir.IntType(32), 16, types.int32)
F64 = Vec("f64x8", ir.DoubleType(), 8, types.float64)
I64 = Vec("i64x8", ir.IntType(64), 8, types.int64)
MASK16 = Vec("mask16", ir.IntType(1), 16, types.boolean)
MASK8 = Vec("mask8", ir.IntType(1), 8, types.boolean)
_VALUES = (F32, I32, F64, I64)
_MASKS = {16: MASK16, 8: MASK8}
_SUFFIX = {F32: "v16f32", I32: "v16i32", F64: "v8f64", I64: "v8i64"}


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def call_llvm(builder: Any, name: str, out: ir.Type, args: Sequence[Any]) -> Any:
    """Call an LLVM intrinsic by its full name."""
    fn_type = ir.FunctionType(out, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, fn_type, name), args)


# Operators: both sides of one vector type.

_BINARY: tuple[tuple[Any, str | None, str | None], ...] = (
    (operator.add, "fadd", "add"),
    (operator.sub, "fsub", "sub"),
    (operator.mul, "fmul", "mul"),
    (operator.truediv, "fdiv", None),
    (operator.and_, None, "and_"),
    (operator.or_, None, "or_"),
    (operator.xor, None, "xor"),
    (operator.lshift, None, "shl"),
    (operator.rshift, None, "ashr"),
)
_COMPARE = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def _define(op: Any, accepts: Callable[[Vec], bool], result: Callable[[Vec], Vec]) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            alike = len(args) == 2 and args[0] == args[1] and isinstance(args[0], Vec)
            return signature(result(args[0]), *args) if alike and accepts(args[0]) else None

    infer_global(op)(Template)


def _lower_binary(op: Any, vec: Vec, method: str) -> None:
    @lower_builtin(op, vec, vec)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, method)(*args)


def _lower_compare(op: Any, vec: Vec, sign: str) -> None:
    @lower_builtin(op, vec, vec)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not vec.is_float:
            return builder.icmp_signed(sign, *args)
        # NaN is unequal to all, itself included, and neither less nor greater.
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return compare(sign, *args)


def _define_operators() -> None:
    for op, of_floats, of_integers in _BINARY:
        vecs = [v for v in _VALUES if (of_floats if v.is_float else of_integers)]
        if op in (operator.and_, operator.or_, operator.xor):
            vecs += [MASK16, MASK8]
        _define(op, frozenset(vecs).__contains__, lambda v: v)
        for vec in vecs:
            method = of_floats if vec.is_float else of_integers
            assert method is not None
            _lower_binary(op, vec, method)
    for op, sign in _COMPARE.items():
        _define(op, lambda v: v in _VALUES, lambda v: _MASKS[v.lanes])
        for vec in _VALUES:
            _lower_compare(op, vec, sign)


_define_operators()


def _repeat(builder: Any, value: Any, vec: Vec) -> Any:
    undefined = ir.Constant(vec.llvm, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), vec.lanes), [0] * vec.lanes)
    return builder.shuffle_vector(first, undefined, order)


_OF_SCALAR = {types.float32: F32, types.int32: I32, types.float64: F64, types.int64: I64}


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """Repeat a scalar in every lane: float32 and int32 in 16, float64 and int64 in 8."""
    vec = _OF_SCALAR[types.unliteral(x)]

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _repeat(builder, args[0], vec)

    return vec(vec.scalar), code


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Give a * b + c, rounded once; vectors or scalars."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        suffix = _SUFFIX.get(a) or ("f32" if a == types.float32 else "f64")
        return call_llvm(builder, f"llvm.fma.{suffix}", args[0].type, args)

    return a(a, a, a), code


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """Take lanes of `a` where the mask holds, of `b` elsewhere."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(mask, a, a), code


def _unary(name: str, doc: str) -> Any:
    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return call_llvm(builder, f"llvm.{name}.{_SUFFIX[x]}", args[0].type, args)

        return x(x), code

    function.__doc__ = doc
    return function


vsqrt = _unary("sqrt", "Give square roots, correctly rounded.")
vabs = _unary("fabs", "Clear the sign.")
vfloor = _unary("floor", "Round down.")
vceil = _unary("ceil", "Round up.")
vtrunc = _unary("trunc", "Round towards zero.")
vround = _unary("roundeven", "Round to the nearest, ties to even.")


def _extreme(sign: str, doc: str) -> Any:
    @intrinsic
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _pick(builder, a, sign, *args)

        return a(a, a), code

    function.__doc__ = doc
    return function


def _pick(builder: Any, vec: Vec, sign: str, x: Any, y: Any) -> Any:
    if not vec.is_float:
        return builder.select(builder.icmp_signed(sign, x, y), x, y)
    # A NaN on either side wins: x is kept when it is NaN, and y when y is NaN.
    keep = builder.or_(builder.fcmp_ordered(sign, x, y), builder.fcmp_unordered("uno", x, x))
    return builder.select(keep, x, y)


highest = _extreme(">", "Give the larger of two, lane by lane; NaN where either is NaN.")
lowest = _extreme("<", "Give the smaller of two, lane by lane; NaN where either is NaN.")


def _fold(doc: str, join: Callable[[Any, Vec, Any, Any], Any]) -> Any:
    """Make a reduction over lanes: halves joined until one is left, always in this order."""

    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value, lanes = args[0], x.lanes
            undefined = ir.Constant(x.llvm, ir.Undefined)
            while lanes > 1:
                lanes //= 2
                order = [i + lanes if i < lanes else i for i in range(x.lanes)]
                turned = builder.shuffle_vector(
                    value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), x.lanes), order)
                )
                value = join(builder, x, value, turned)
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return x.scalar(x), code

    function.__doc__ = doc
    return function


def _add(builder: Any, vec: Vec, a: Any, b: Any) -> Any:
    return builder.fadd(a, b) if vec.is_float else builder.add(a, b)


sum_lanes = _fold("Add all lanes, by halves: lane i with lane i + 8, then + 4, + 2, + 1.", _add)
max_lanes = _fold(
    "Give the largest lane; NaN if any is.", lambda b, v, x, y: _pick(b, v, ">", x, y)
)
min_lanes = _fold(
    "Give the smallest lane; NaN if any is.", lambda b, v, x, y: _pick(b, v, "<", x, y)
)


def _cast(source: Vec, target: Vec, method: str, doc: str) -> Any:
    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, method)(args[0], target.llvm)

        return target(source), code

    function.__doc__ = doc
    return function


bits_i32 = _cast(F32, I32, "bitcast", "Give the bits of 16 floats.")
bits_f32 = _cast(I32, F32, "bitcast", "Read 16 floats from bits.")
to_i32 = _cast(F32, I32, "fptosi", "Convert floats in the range of int32, towards zero.")
to_f32 = _cast(I32, F32, "sitofp", "Convert integers, to the nearest.")
