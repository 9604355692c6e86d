"""Spell equal extents equally: what a template's constraints say about its floor divisions.

    Eq(s0//4, 8*(s0//32) + 7)       s0//8 is 4*(s0//32) + 3, s0//16 is 2*(s0//32) + 1
    Eq((s0 - 192)//128 + 1, 1)      (s0 - 192)//128 is 0, and so is (s0 - 192)//512

Two branches of a model halve and double an image in different ways; only with this do their
shapes agree, and rows that join them can be lowered. Constraints are checked on every request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from fusec.ir.errors import ArtifactError
from fusec.ir.expressions import Call, parse
from fusec.ir.extents import Extent, Poly, exactly, of, of_expression
from fusec.ir.frozen import dataclass
from fusec.ir.template import Row, Spec, Template, TensorSpec
from fusec.passes.lower.builder import Value

__all__ = ["Settled", "settle"]

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class _Floor:
    """`inner // divisor`, as an atom spells it."""

    inner: Extent
    divisor: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What floor divisions are, by the constraints."""

    known: Mapping[_Floor, Extent]

    def extent(self, extent: Extent) -> Extent:
        """Spell an extent with as few and as coarse divisions as is known."""
        for _ in range(_ROUNDS):
            new = self._once(extent)
            if new == extent:
                break
            extent = new
        return extent

    def value(self, value: Value) -> Value:
        """Spell what a row gives, where that is a number."""
        if isinstance(value, tuple):
            return tuple(map(self.value, value))
        return self.extent(value) if isinstance(value, Poly) else value

    def template(self, template: Template) -> Template:
        """Spell the shapes of all rows."""
        if not self.known:
            return template
        rows = tuple(self._row(row) for row in template.body.rows)
        return replace(template, body=replace(template.body, rows=rows))

    def _row(self, row: Row) -> Row:
        out = self._spec(row.out)
        return row if out is row.out else replace(row, out=out)

    def _spec(self, spec: Spec) -> Spec:
        if isinstance(spec, TensorSpec):
            shape = tuple(self._dim(d) for d in spec.shape)
            return spec if shape == spec.shape else replace(spec, shape=shape)
        return tuple(map(self._spec, spec)) if isinstance(spec, tuple) else spec

    def _dim(self, dim: int | str) -> int | str:
        if isinstance(dim, int) or dim.isidentifier():
            return dim
        new = self.extent(of(dim))
        if isinstance(new, int):
            return new
        text = str(new)
        return text if new != of(dim) and of(text) == new else dim

    def _once(self, extent: Extent) -> Extent:
        if isinstance(extent, int):
            return extent
        total: Extent = 0
        for monomial, coefficient in extent.terms:
            term: Extent = coefficient
            for atom, power in monomial:
                factor = self._atom(atom)
                for _ in range(power):
                    term = term * factor
            total = total + term
        return total

    def _atom(self, text: str) -> Extent:
        atom = Poly(((((text, 1),), 1),))
        floor = _floor(text)
        if floor is None:
            return atom
        for finer, result in self.known.items():
            ratio = floor.divisor // finer.divisor
            if finer.inner == floor.inner and finer.divisor * ratio == floor.divisor:
                divided = _divided(result, ratio)
                if divided is not None:
                    return divided
        return atom


def settle(template: Template) -> Settled:
    """Solve a template's equalities for floor divisions.

    Cost: some microseconds per constraint.
    """
    known: dict[_Floor, Extent] = {}
    for text in template.constraints:
        for floor, result in _solutions(text):
            if floor not in known or _coarseness(result) > _coarseness(known[floor]):
                known[floor] = result
    return Settled(known)


def _solutions(text: str) -> Iterator[tuple[_Floor, Extent]]:
    """Give each floor division that an equality determines, and what it is."""
    try:
        expr = parse(text)
    except ArtifactError:
        return
    if not isinstance(expr, Call) or expr.function != "Eq" or len(expr.operands) != 2:
        return
    difference = of_expression(expr.operands[0]) - of_expression(expr.operands[1])
    for monomial, coefficient in difference.terms if isinstance(difference, Poly) else ():
        if len(monomial) != 1 or monomial[0][1] != 1 or abs(coefficient) != 1:
            continue
        floor = _floor(monomial[0][0])
        if floor is not None:
            atom = Poly(((monomial, 1),))
            result = atom - difference * coefficient
            if all(finer.divisor > floor.divisor for finer in _floors(result)):
                yield floor, result


def _floors(extent: Extent) -> Iterator[_Floor]:
    for monomial, _ in extent.terms if isinstance(extent, Poly) else ():
        for atom, _ in monomial:
            yield _floor(atom) or _Floor(0, 0)


def _coarseness(extent: Extent) -> int:
    """Rate a result: a number best, then the coarsest division."""
    return 1 << 62 if isinstance(extent, int) else min(f.divisor for f in _floors(extent))


def _divided(extent: Extent, ratio: int) -> Extent | None:
    """Divide, rounding down, if all but the constant divide exactly."""
    constant = extent if isinstance(extent, int) else dict(extent.terms).get((), 0)
    rest = exactly(extent - constant, ratio)
    return None if rest is None else rest + constant // ratio


def _floor(atom: str) -> _Floor | None:
    """Read an atom that is a division by a number."""
    if atom.isidentifier():
        return None
    try:
        expr = parse(atom)
    except ArtifactError:
        return None
    if not isinstance(expr, Call) or expr.function not in ("floordiv", "FloorDiv", "CleanDiv"):
        return None
    divisor = expr.operands[1]
    if not isinstance(divisor, int) or isinstance(divisor, bool) or divisor <= 0:
        return None
    return _Floor(of_expression(expr.operands[0]), divisor)
