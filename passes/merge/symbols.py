"""Extents that vary, over all members of a merge: whose symbols mean the same, and fresh ones.

Symbols of two members mean the same when all their inputs have the same shapes, symbols in the same
places. Members that differ there get symbols of their own, so nothing is merged across them that
would need equal extents.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges

from fusec.ir.template import Symbol
from fusec.passes.merge.numbering import spec_text
from fusec.passes.program import Program

__all__ = ["Extents", "Fakes", "join_symbols"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """The varying extents of a merged program.

    Attributes:
        symbols: names and ranges.
        constraints: relations over the names.
        names: per member, symbol in its graph -> name.
    """

    symbols: tuple[Symbol, ...]
    constraints: tuple[str, ...]
    names: tuple[Mapping[str, str], ...]


def join_symbols(members: Sequence[Program]) -> Extents:
    """Give one set of symbols for all members."""
    spaces: dict[tuple[str, ...], Mapping[str, str]] = {}
    symbols: dict[str, Symbol] = {}
    constraints: dict[str, None] = {}
    names: list[Mapping[str, str]] = []
    for program in members:
        shapes = tuple(spec_text(n.meta["val"], program.symbol_names) for n in program.inputs)
        local = [symbol.name for symbol in program.symbols]
        space = spaces.setdefault(
            shapes, {name: f"s{len(symbols) + i}" for i, name in enumerate(local)}
        )
        for symbol in program.symbols:
            name = space.get(symbol.name, symbol.name)
            symbols[name] = _both(symbols.get(name), symbol, name)
        constraints.update(dict.fromkeys(_rename(c, space) for c in program.constraints))
        names.append({k: space.get(v, v) for k, v in program.symbol_names.items()})
    return Extents(
        symbols=tuple(symbols.values()), constraints=tuple(constraints), names=tuple(names)
    )


def _rename(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), text)


def _both(one: Symbol | None, other: Symbol, name: str) -> Symbol:
    if one is None:
        return Symbol(name, other.min, other.max)
    tops = [symbol.max for symbol in (one, other) if symbol.max is not None]
    return Symbol(name, max(one.min, other.min), min(tops) if tops else None)


class Fakes:
    """Makes the fake values of a merged program's placeholders, in a mode of their own."""

    def __init__(self, extents: Extents) -> None:
        self._extents = extents
        self._env = ShapeEnv() if extents.symbols else None
        self.mode = FakeTensorMode(shape_env=self._env)
        self._table: dict[str, tuple[Any, int]] = {}
        self._known = {symbol.name: symbol for symbol in extents.symbols}

    def tensor(self, value: torch.Tensor, member: int, lead: Sequence[int]) -> torch.Tensor:
        """Give a fake like one of a member's, with axes in front."""
        shape = [self._extent(extent, self._extents.names[member]) for extent in value.shape]
        with self.mode, torch.no_grad():
            return torch.empty([*lead, *shape], dtype=value.dtype, device=value.device)

    def _extent(self, extent: Any, names: Mapping[str, str]) -> Any:
        if isinstance(extent, int):
            return extent
        assert self._env is not None
        expr = extent.node.expr
        table, hints = {}, {}
        for old in expr.free_symbols:
            name = names.get(old.name, old.name)
            # Where a symbol first stands in a larger expression its own value is not at hand.
            hint = extent.node.hint if expr.is_symbol else max(2, self._known[name].min)
            table[old], hints[old] = self._symbol(name, int(hint))
        fresh = expr.xreplace(table)
        return self._env.create_symintnode(fresh, hint=int(expr.xreplace(hints)))

    def _symbol(self, name: str, hint: int) -> tuple[Any, Any]:
        if name not in self._table:
            assert self._env is not None
            symbol = self._known[name]
            made = self._env.create_symbol(
                hint, source=ConstantSource(name), dynamic_dim=DimDynamic.DYNAMIC
            )
            top = sympy.oo if symbol.max is None else symbol.max
            if isinstance(made, sympy.Symbol) and symbol.max is not None:
                self._env.var_to_range[made] = ValueRanges(symbol.min, top)
            self._table[name] = (made, hint)
        made, first = self._table[name]
        return made, sympy.Integer(first)

    @property
    def names(self) -> Mapping[str, str]:
        """Symbol in the merged graph -> name."""
        return {str(made): name for name, (made, _) in self._table.items()}
