"""Expressions over symbolic extents: parsed from text, evaluated on integers, never executed.

    2*s0 + 1    s0//2    Mod(s0, 4) == 0    s1 == s0 - 1    Max(1, s0)    (s0 > 2) & (s1 > 2)

The grammar is that of Python arithmetic and comparisons plus the functions in `FUNCTIONS`, which
are the names that traced extents use.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from fusec.ir.errors import ArtifactError
from fusec.ir.frozen import dataclass

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["Call", "Expr", "Name", "evaluate", "names", "parse", "value_of"]

Number: TypeAlias = "int | float | Fraction | bool"


@dataclass(frozen=True, slots=True)
class Name:
    """A symbol."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `FUNCTIONS` applied to operands."""

    function: str
    operands: "tuple[Expr, ...]"


Expr: TypeAlias = "Name | Call | int | float | bool"

_MAX_TEXT, _MAX_DEPTH, _MAX_POWER, _MAX_BITS = 10_000, 100, 16, 256


def _divide(a: Number, b: Number) -> Number:
    if isinstance(a, float) or isinstance(b, float):
        return float(a) / float(b)
    from fractions import Fraction  # 4 ms that hardly any plan needs

    return Fraction(a) / Fraction(b)


def _power(a: Number, b: Number) -> Number:
    if not isinstance(b, int) or abs(b) > _MAX_POWER:
        raise ArithmeticError(f"power {b} is not a small integer")
    return a**b if b >= 0 else _divide(1, a**-b)


def _c_mod(a: Number, b: Number) -> Number:
    if a < 0 or b < 1:
        raise ArithmeticError(f"Mod({a}, {b}) wants a natural number and a positive one")
    return a % b


def _piecewise(*operands: Number) -> Number:
    for value, condition in zip(operands[::2], operands[1::2], strict=True):
        if condition:
            return value
    raise ArithmeticError("no case of Piecewise applies")


FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _divide,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": _power,
    "neg": operator.neg,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": lambda *a: all(a),
    "or": lambda *a: any(a),
    "not": operator.not_,
    "Eq": operator.eq,
    "Ne": operator.ne,
    "Lt": operator.lt,
    "Le": operator.le,
    "Gt": operator.gt,
    "Ge": operator.ge,
    "And": lambda *a: all(a),
    "Or": lambda *a: any(a),
    "Not": operator.not_,
    "Mod": _c_mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "ModularIndexing": lambda a, b, c: (a // b) % c,
    "IntTrueDiv": lambda a, b: a / b,
    "FloatTrueDiv": lambda a, b: float(a) / float(b),
    "ToFloat": float,
    "TruncToInt": math.trunc,
    "FloorToInt": math.floor,
    "CeilToInt": math.ceil,
    "RoundToInt": round,
    "floor": math.floor,
    "ceiling": math.ceil,
    "PowByNatural": _power,
    "Max": max,
    "Min": min,
    "max": max,
    "min": min,
    "Abs": abs,
    "Where": lambda c, a, b: a if c else b,
    "Piecewise": _piecewise,
}
"""Function name -> what it computes on numbers."""

_BINARY: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.BitAnd: "and",
    ast.BitOr: "or",
}
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
_UNARY: Mapping[type[ast.unaryop], str] = {ast.USub: "neg", ast.Not: "not", ast.Invert: "not"}


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """Read an expression.

    Raises:
        ArtifactError: text that is no such expression, or one that is too long or too deep.
    """
    shown = text if len(text) <= 80 else text[:77] + "..."
    if len(text) > _MAX_TEXT:
        raise ArtifactError(f"expression of {len(text)} characters is too long: {shown!r}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise ArtifactError(f"{shown!r} is not an expression over extents: {e}") from e
    return _read(tree.body, shown, 0)


def _read(node: ast.expr, text: str, depth: int) -> Expr:
    if depth > _MAX_DEPTH:
        raise ArtifactError(f"expression {text!r} is nested too deeply")

    def sub(*nodes: ast.expr) -> tuple[Expr, ...]:
        return tuple(_read(n, text, depth + 1) for n in nodes)

    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.Name(id=name):
            return Name(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return Call(_BINARY[type(op)], sub(left, right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return Call(_UNARY[type(op)], sub(operand))
        case ast.BoolOp(op=op, values=values):
            return Call("and" if isinstance(op, ast.And) else "or", sub(*values))
        case ast.Compare(left=left, ops=ops, comparators=rights):
            return _read_comparison(sub(left, *rights), ops, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            flat = [p for a in args for p in (a.elts if isinstance(a, ast.Tuple) else [a])]
            return Call(name, sub(*flat))
    raise ArtifactError(
        f"{text!r} is not an expression over extents: {ast.unparse(node)[:60]!r} is not allowed"
    )


def _read_comparison(operands: tuple[Expr, ...], ops: list[ast.cmpop], text: str) -> Expr:
    parts: list[Expr] = []
    for i, op in enumerate(ops):
        if type(op) not in _COMPARE:
            raise ArtifactError(f"{text!r}: this comparison is not allowed")
        parts.append(Call(_COMPARE[type(op)], (operands[i], operands[i + 1])))
    return parts[0] if len(parts) == 1 else Call("and", tuple(parts))


def names(expr: Expr) -> frozenset[str]:
    """Give the symbols of an expression."""
    if isinstance(expr, Name):
        return frozenset((expr.name,))
    if isinstance(expr, Call):
        return frozenset().union(*(names(o) for o in expr.operands))
    return frozenset()


def value_of(expr: Expr, values: Mapping[str, int]) -> Number:
    """Compute an expression.

    Raises:
        ArithmeticError: division by zero, a number that grows too large, or the like.
        KeyError: a symbol without a value.
    """
    if isinstance(expr, Name):
        return values[expr.name]
    if not isinstance(expr, Call):
        return expr
    operands = [value_of(o, values) for o in expr.operands]
    try:
        result = FUNCTIONS[expr.function](*operands)
    except (TypeError, ValueError) as e:
        raise ArithmeticError(f"{expr.function} of {operands}: {e}") from e
    if isinstance(result, complex) or (isinstance(result, int) and result.bit_length() > _MAX_BITS):
        raise ArithmeticError(f"{expr.function} gives a number that is no extent")
    return result


def evaluate(text: str | int, values: Mapping[str, int]) -> int:
    """Compute an extent from its text.

    Args:
        text: an expression, or an integer, which is its own value.
        values: extent of every symbol.

    Raises:
        ArtifactError: malformed text, a symbol without a value, or a result that is no integer.
    """
    if isinstance(text, int):
        return text
    try:
        result = value_of(parse(text), values)
    except (ArithmeticError, KeyError) as e:
        raise ArtifactError(f"extent {text!r} cannot be computed for {dict(values)}: {e!r}") from e
    if result != result or result in (math.inf, -math.inf) or int(result) != result:
        raise ArtifactError(f"extent {text!r} is {result} for {dict(values)}, not an integer")
    return int(result)
