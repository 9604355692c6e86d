"""Symbols, ranges and constraints of an exported program, as plain text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sympy
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils._sympy.numbers import int_oo

from fusec.ir.errors import ArtifactError, ImportFailed
from fusec.ir.expressions import names, parse
from fusec.ir.symbols import holds
from fusec.ir.template import Symbol

__all__ = ["Symbols", "read_symbols"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """What a trace says about extents.

    Attributes:
        symbols: s0, s1, ... in the order in which input axes meet them.
        names: symbol in the trace -> name.
        constraints: relations over the names that the model's own code relies on.
    """

    symbols: tuple[Symbol, ...]
    names: Mapping[str, str]
    constraints: tuple[str, ...]


def read_symbols(
    exported: ExportedProgram, inputs: Sequence[fx.Node], limits: Mapping[str, Symbol]
) -> Symbols:
    """Read back symbols and what the trace assumed about them.

    Args:
        exported: the program.
        inputs: its input placeholders in order.
        limits: text of a traced axis' symbol -> the range that the caller gave.
    """
    order: dict[str, sympy.Symbol] = {}
    for node in inputs:
        for dim in _shape(node):
            if isinstance(dim, torch.SymInt):
                for s in sorted(dim.node.expr.free_symbols, key=lambda x: x.name):
                    order.setdefault(s.name, s)
    renamed = _rename(order, limits)
    ranges: dict[str, Symbol] = {}
    for name, s in order.items():
        new = _symbol(renamed[name], exported.range_constraints.get(s), limits.get(name))
        ranges[new.name] = _both(ranges.get(new.name, new), new)
    symbols = tuple(ranges.values())
    env = _shape_env(inputs)
    guards = [] if env is None else [_text(e, renamed) for e in _relations(env)]
    return Symbols(
        symbols=symbols,
        names=renamed,
        constraints=_needed(symbols, [g for g in guards if g is not None]),
    )


def _rename(order: Iterable[str], limits: Mapping[str, Symbol]) -> dict[str, str]:
    """Number the symbols; axes that the caller gave one name share one number."""
    numbers: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for name in order:
        key = f"given {limits[name].name}" if name in limits else name
        renamed[name] = numbers.setdefault(key, f"s{len(numbers)}")
    return renamed


def _both(a: Symbol, b: Symbol) -> Symbol:
    tops = [s.max for s in (a, b) if s.max is not None]
    return Symbol(a.name, max(a.min, b.min), min(tops) if tops else None)


def _shape(node: fx.Node) -> Sequence[Any]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _shape_env(inputs: Sequence[fx.Node]) -> Any:
    for node in inputs:
        for dim in _shape(node):
            if isinstance(dim, torch.SymInt):
                return dim.node.shape_env
    return None


def _symbol(name: str, traced: Any, given: Symbol | None) -> Symbol:
    low, high = 2, None
    if traced is not None:
        low = max(low, int(traced.lower)) if traced.lower != -int_oo else low
        high = None if traced.upper in (int_oo, sympy.oo) else int(traced.upper)
    if given is not None:
        low = max(low, given.min)
        high = given.max if high is None else high if given.max is None else min(high, given.max)
    # Sizes of 64 bits are what torch writes for no limit.
    return Symbol(name, low, None if high is not None and high >= 2**62 else high)


def _relations(env: Any) -> Iterable[sympy.Basic]:
    """Give the relations that the trace relied on, over symbols that were not replaced."""
    found = [guard.expr for guard in env.guards]
    for asserts in env.deferred_runtime_asserts.values():
        found.extend(a.expr for a in asserts)
    for expr in found:
        yield env.replace(expr)


def _text(expr: Any, renamed: Mapping[str, str]) -> str | None:
    if expr in (sympy.true, sympy.false):
        return None
    table = dict(_substitutes(expr, renamed))
    if not table:
        return None
    text = str(expr.xreplace(table))
    try:
        unknown = names(parse(text)) - set(renamed.values())
    except ArtifactError as e:
        raise ImportFailed(
            f"the model relies on {text}, which cannot be checked per request ({e}); fix that "
            "extent, or give symbols with a narrower range"
        ) from e
    return None if unknown else text


def _substitutes(expr: Any, renamed: Mapping[str, str]) -> Iterable[tuple[Any, Any]]:
    for s in expr.free_symbols:
        # The same assumptions as the original, so that the text does not simplify otherwise.
        yield s, type(s)(renamed.get(s.name, s.name), **s.assumptions0)


_GRID = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 24, 30, 31, 32, 33, 47, 48, 63, 64)
_FAR = (100, 127, 128, 255, 256, 257, 511, 512, 1000, 1001, 1023, 1024, 2310, 4095, 4096)


def _needed(symbols: Sequence[Symbol], constraints: Sequence[str]) -> tuple[str, ...]:
    """Leave out constraints that ranges and simpler constraints already imply.

    A trace notes many facts about strides and sizes; which ones depends on the exporter's spelling,
    so keeping all would keep twins apart. Implication is tried on a grid of extents with all
    numbers that occur in the constraints.
    """
    unique = sorted(set(constraints), key=lambda c: (len(c), c))
    points = _points(symbols, unique)
    kept: list[str] = []
    for text in unique:
        used = sorted(names(parse(text)))
        passing = [p for p in points if holds(text, p)]
        if len(passing) < len(points) and used:
            kept.append(text)
            points = passing
    return tuple(sorted(kept))


def _points(symbols: Sequence[Symbol], constraints: Sequence[str]) -> list[dict[str, int]]:
    if not symbols:
        return []
    numbers = {n for c in constraints for n in _numbers(c)}
    near = {n + d for n in numbers if n < 2**31 for d in (-1, 0, 1)}
    full = (*_GRID, *_FAR, *near)
    # With many symbols a full grid is too large: fewer values each, plus the diagonal.
    axes = [
        _within(s, full if len(symbols) <= 2 else (*_GRID[:9], *sorted(near)[:8])) for s in symbols
    ]
    points = [
        dict(zip((s.name for s in symbols), values, strict=True))
        for values in _limited(product(*axes))
    ]
    points += [
        {s.name: v for s in symbols} for v in full if all(v in _within(s, (v,)) for s in symbols)
    ]
    return points


def _limited(combinations: Iterable[tuple[int, ...]], limit: int = 20_000) -> list[tuple[int, ...]]:
    return [c for c, _ in zip(combinations, range(limit), strict=False)]


def _within(symbol: Symbol, values: Iterable[int]) -> list[int]:
    top = symbol.max
    return sorted({v for v in values if v >= symbol.min and (top is None or v <= top)}) or [
        symbol.min
    ]


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    digits = ""
    previous = ""
    for c in text + " ":
        if c.isdigit() and (digits or not (previous.isalnum() or previous in "_.")):
            digits += c
        else:
            if digits:
                found.add(int(digits))
            digits = ""
        previous = c
    return found
