"""Symbols of a template: solved from a request, checked against ranges and constraints."""

from collections.abc import Mapping, Sequence

from fusec.ir.errors import ArtifactError, ConfigError
from fusec.ir.expressions import Name, evaluate, names, parse, value_of
from fusec.ir.template import Dim, Spec, Symbol, TensorSpec

__all__ = ["ExtentError", "check_request", "evaluate", "holds", "solve"]

_SCAN = 100_000

Extent = tuple[Dim, int, str]
"""What an axis should be, what it is, and where it is, in words."""


class ExtentError(ConfigError):
    """A request's extents do not fit the template."""


def holds(constraint: str, values: Mapping[str, int]) -> bool:
    """Tell whether a constraint holds; one that cannot be computed does not."""
    try:
        return bool(value_of(parse(constraint), values))
    except ArithmeticError:
        return False


def check_request(
    specs: Sequence[Spec],
    shapes: Sequence[Sequence[int]],
    symbols: Sequence[Symbol],
    constraints: Sequence[str],
) -> dict[str, int]:
    """Solve the symbols from a request's shapes and check everything that a template promises.

    Args:
        specs: input specs with symbolic extents.
        shapes: shapes of the request, one per spec, at one row where inputs have a batch axis.
        symbols: names and ranges.
        constraints: relations over the names.

    Returns:
        Extent of every symbol.

    Raises:
        ExtentError: an extent, a range or a constraint that does not hold; the message names it.
        ArtifactError: a malformed expression.
    """
    extents = _extents(specs, shapes)
    values = solve(extents, symbols)
    for symbol in symbols:
        got = values[symbol.name]
        if got < symbol.min or (symbol.max is not None and got > symbol.max):
            limit = "and more" if symbol.max is None else f"to {symbol.max}"
            raise ExtentError(
                f"{_where(symbol.name, extents)} is {got}, the model takes {symbol.min} {limit}"
            )
    for dim, got, where in extents:
        wanted = _value(dim, values)
        if wanted != got:
            because = "" if isinstance(dim, int) else f" ({dim} with {_show(dim, values)})"
            raise ExtentError(f"{where} is {got}, wanted {wanted}{because}")
    for constraint in constraints:
        if not holds(constraint, values):
            raise ExtentError(
                f"the model needs {constraint}, which is false for {_show(constraint, values)}"
            )
    return values


def _extents(specs: Sequence[Spec], shapes: Sequence[Sequence[int]]) -> list[Extent]:
    found: list[Extent] = []
    for i, (spec, shape) in enumerate(zip(specs, shapes, strict=True)):
        if not isinstance(spec, TensorSpec):
            raise ArtifactError(f"input {i} is not a tensor but {spec!r}")
        if len(spec.shape) != len(shape):
            raise ExtentError(f"input {i} has {len(shape)} axes, wanted {len(spec.shape)}")
        for axis, (dim, got) in enumerate(zip(spec.shape, shape, strict=True)):
            found.append((dim, int(got), f"axis {axis} of input {i}"))
    return found


def solve(extents: Sequence[Extent], symbols: Sequence[Symbol]) -> dict[str, int]:
    """Find the extent of every symbol.

    Axes that are a bare symbol give it at once; then axes whose expression has one unknown left.

    Raises:
        ExtentError: no extent, or more than one, fits an axis.
        ArtifactError: a symbol on which no axis depends.
    """
    ranges = {s.name: s for s in symbols}
    values: dict[str, int] = {}
    open_axes = [e for e in extents if isinstance(e[0], str)]
    for dim, got, _ in open_axes:
        expr = parse(str(dim))
        if isinstance(expr, Name):
            values.setdefault(expr.name, got)
    progress = True
    while progress and len(values) < len(ranges):
        progress = False
        for axis in open_axes:
            unknown = names(parse(str(axis[0]))) - values.keys()
            if len(unknown) == 1:
                name = next(iter(unknown))
                if name not in ranges:
                    raise ArtifactError(f"{axis[2]}: symbol {name} is not declared")
                values[name] = _invert(axis, ranges[name], values)
                progress = True
    missing = sorted(set(ranges) - values.keys())
    if missing:
        raise ArtifactError(f"no input axis determines {', '.join(missing)}")
    return values


def _invert(axis: Extent, symbol: Symbol, values: Mapping[str, int]) -> int:
    """Find the one extent of a symbol for which an axis' expression gives what was asked."""
    dim, got, where = axis

    def at(x: int) -> int | None:
        try:
            return evaluate(dim, {**values, symbol.name: x})
        except ArtifactError:
            return None

    base = symbol.min
    first, second, third = at(base), at(base + 1), at(base + 2)
    if first is not None and second is not None and third is not None:
        slope = second - first
        if slope != 0 and third - second == slope:
            guess = base + (got - first) // slope
            if at(guess) == got:
                return guess
    top = base + _SCAN if symbol.max is None else min(symbol.max, base + _SCAN)
    fits = [x for x in range(base, min(top, base + 64 + 16 * got) + 1) if at(x) == got]
    if len(fits) == 1:
        return fits[0]
    problem = "no extent fits" if not fits else f"{len(fits)} extents fit"
    raise ExtentError(f"{where} is {got}, wanted {dim}: {problem} ({symbol.name} in range)")


def _value(dim: Dim, values: Mapping[str, int]) -> int | None:
    try:
        return evaluate(dim, values)
    except ArtifactError:
        return None


def _where(name: str, extents: Sequence[Extent]) -> str:
    for dim, _, where in extents:
        if dim == name:
            return where
    return f"extent {name}"


def _show(text: Dim, values: Mapping[str, int]) -> str:
    shown = sorted(names(parse(str(text))))
    return ", ".join(f"{n} = {values[n]}" for n in shown if n in values)
