"""Checks of bodies: every field of its type, every reference to an earlier value."""

from collections.abc import Set
from typing import cast

from fusec.ir.dtypes import DTYPES
from fusec.ir.errors import ArtifactError
from fusec.ir.expressions import names, parse
from fusec.ir.template import Arg, Body, DType, Ref, Row, Spec, TensorSpec

__all__ = ["Flaw", "check_body", "check_spec", "strings"]

MAX_RANK = 64
"""As many axes as NumPy takes."""
MAX_EXTENT = 2**63 - 1
MAX_DEPTH = 64
"""Bodies within bodies and tuples within tuples: a file must not decide how deep we recurse."""

_HOST = ("int", "float", "bool", "none")


class Flaw(ValueError):
    """What is wrong with a record, and where."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where[:200]}: {text[:300]}")


def check_body(body: object, symbols: Set[str], where: str, depth: int = 0) -> Body:
    """Check a body and all bodies inside it; each is closed over its own arguments.

    Raises:
        Flaw: a field of another type, a reference to no earlier value, an unknown dtype or symbol.
    """
    if not isinstance(body, Body):
        raise Flaw(where, f"got {type(body).__name__}, wanted a body")
    for spec in tuples(body.arguments, f"{where}, arguments"):
        check_spec(spec, symbols, f"{where}, arguments", depth)
    count = len(body.arguments)
    for i, row in enumerate(tuples(body.rows, f"{where}, rows")):
        _check_row(row, count + i, symbols, f"{where}, row {i}", depth)
    count += len(body.rows)
    for result in tuples(body.results, f"{where}, results"):
        _check_arg(result, count, symbols, f"{where}, results", depth)
    return body


def check_spec(spec: object, symbols: Set[str], where: str, depth: int = 0) -> Spec:
    """Check the spec of a value.

    Raises:
        Flaw: as `check_body`.
    """
    if isinstance(spec, TensorSpec):
        if not isinstance(spec.dtype, str) or spec.dtype not in DTYPES:
            raise Flaw(where, f"dtype {spec.dtype!r} is not known")
        if len(tuples(spec.shape, where)) > MAX_RANK:
            raise Flaw(where, f"{len(spec.shape)} axes, at most {MAX_RANK} are possible")
        for dim in spec.shape:
            _check_dim(dim, symbols, where)
        return spec
    if isinstance(spec, tuple):
        _check_depth(depth, where)
        return tuple(check_spec(s, symbols, where, depth + 1) for s in spec)
    if not isinstance(spec, str) or spec not in _HOST:
        raise Flaw(where, f"got {spec!r}, wanted a tensor's spec or one of {', '.join(_HOST)}")
    return spec


def check_expression(text: str, symbols: Set[str], where: str) -> None:
    """Check that an expression is arithmetic over declared symbols; nothing is evaluated.

    Raises:
        Flaw: not such an expression, or a symbol that is not declared.
    """
    try:
        unknown = names(parse(text)) - symbols
    except (ArtifactError, RecursionError) as e:
        raise Flaw(where, str(e)) from e
    if unknown:
        raise Flaw(where, f"{text[:80]!r} names unknown symbols: {', '.join(sorted(unknown))}")


def tuples(value: object, where: str) -> tuple[object, ...]:
    """Check that a value is a tuple.

    Raises:
        Flaw: it is not.
    """
    if not isinstance(value, tuple):
        raise Flaw(where, f"got {type(value).__name__}, wanted a list")
    return value


def strings(value: object, where: str) -> tuple[str, ...]:
    """Check that a value is a tuple of strings.

    Raises:
        Flaw: it is not.
    """
    texts = tuples(value, where)
    for text in texts:
        if not isinstance(text, str):
            raise Flaw(where, "an item is not a string")
    return cast(tuple[str, ...], texts)


def _check_row(row: object, count: int, symbols: Set[str], where: str, depth: int) -> None:
    if not isinstance(row, Row):
        raise Flaw(where, f"got {type(row).__name__}, wanted a row")
    if not isinstance(row.op, str):
        raise Flaw(where, f"operator is {type(row.op).__name__}, wanted a name")
    for arg in tuples(row.args, f"{where} ({row.op})"):
        _check_arg(arg, count, symbols, f"{where} ({row.op})", depth)
    for pair in tuples(row.kwargs, f"{where} ({row.op})"):
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Flaw(f"{where} ({row.op})", "an attribute is not a pair of a name and a value")
        _check_arg(pair[1], count, symbols, f"{where} ({row.op}), {pair[0]}", depth)
    check_spec(row.out, symbols, f"{where} ({row.op})", depth)


def _check_arg(arg: object, count: int, symbols: Set[str], where: str, depth: int) -> Arg:
    if isinstance(arg, Ref):
        # A bool is an int to isinstance, here and below.
        if type(arg.index) is not int or not 0 <= arg.index < count:
            raise Flaw(where, f"reference {arg.index!r} is to none of the {count} earlier values")
        return arg
    if isinstance(arg, DType):
        if not isinstance(arg.name, str) or arg.name not in DTYPES:
            raise Flaw(where, f"dtype {arg.name!r} is not known")
        return arg
    if isinstance(arg, Body):
        _check_depth(depth, where)
        return check_body(arg, symbols, where, depth + 1)
    if isinstance(arg, tuple):
        _check_depth(depth, where)
        return tuple(_check_arg(a, count, symbols, where, depth + 1) for a in arg)
    if type(arg) is int and not -(2**63) <= arg < 2**64:
        raise Flaw(where, "an integer does not fit 64 bits")
    if arg is None or type(arg) in (str, int, float, bool):
        return arg  # type: ignore[return-value]  # narrowed by exact type, which mypy does not see
    raise Flaw(where, f"got {type(arg).__name__}, which is no operand")


def _check_dim(dim: object, symbols: Set[str], where: str) -> None:
    if isinstance(dim, str):
        check_expression(dim, symbols, where)
    elif type(dim) is not int or not 0 <= dim <= MAX_EXTENT:
        raise Flaw(where, f"extent {dim!r} is no non-negative integer")


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise Flaw(where, f"nested deeper than {MAX_DEPTH}")
