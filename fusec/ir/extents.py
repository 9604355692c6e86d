"""Extents that can be computed with: integers, and polynomials over a template's symbols.

    of("2*s0 + 1") * 384 == of("768*s0 + 384")

What is no polynomial (a floor division, a maximum) is one opaque atom, equal to itself only.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from fusec.ir.expressions import Call, Expr, Name, evaluate, parse
from fusec.ir.frozen import dataclass

__all__ = [
    "Extent",
    "Poly",
    "compiled",
    "divide",
    "exactly",
    "of",
    "of_expression",
    "product",
    "value",
]

Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""Atoms with their powers, sorted; () is the constant."""


@dataclass(frozen=True, slots=True)
class Poly:
    """A sum of monomials with integer coefficients; never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]
    """Sorted, no coefficient is zero."""

    def __add__(self, other: "Extent") -> "Extent":
        return _sum(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: "Extent") -> "Extent":
        return _sum(self, other, -1)

    def __rsub__(self, other: int) -> "Extent":
        return _sum(other, self, -1)

    def __mul__(self, other: "Extent") -> "Extent":
        return _times(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: "Extent") -> "Extent":
        return divide(self, other)

    def __rfloordiv__(self, other: int) -> "Extent":
        return divide(other, self)

    def __str__(self) -> str:
        return " + ".join(map(_show_term, self.terms))


Extent: TypeAlias = int | Poly


def of(dim: int | str | Extent) -> Extent:
    """Read an extent from a template's spelling.

    Raises:
        ArtifactError: text that is no expression over extents.
    """
    return _of_text(dim) if isinstance(dim, str) else dim


def of_expression(expr: Expr) -> Extent:
    """Read an extent from a parsed expression."""
    return _read(expr)


def product(extents: "tuple[Extent, ...] | list[Extent]") -> Extent:
    """Multiply extents; 1 for none."""
    result: Extent = 1
    for extent in extents:
        result = result * extent
    return result


def divide(a: Extent, b: Extent) -> Extent:
    """Divide, rounding down; exact where every coefficient divides."""
    if b == 1:
        return a
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    quotient = _exact(a, b)
    return _atom(f"(({a})//({b}))") if quotient is None else quotient


def exactly(a: Extent, b: Extent) -> Extent | None:
    """Divide without a remainder for every value of the symbols, or say that this is not known."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    return a if b == 1 else _exact(a, b)


def value(extent: Extent, symbols: Mapping[str, int]) -> int:
    """Compute an extent.

    Args:
        extent: what to compute.
        symbols: value of every symbol.
    """
    return extent if isinstance(extent, int) else compiled(extent)(symbols)


@lru_cache(maxsize=8192)
def compiled(poly: Poly) -> Callable[[Mapping[str, int]], int]:
    """Give a function from symbol values to the extent's value; made once per extent."""
    terms = [(c, [(_reader(a), n) for a, n in monomial]) for monomial, c in poly.terms]

    def run(symbols: Mapping[str, int]) -> int:
        total = 0
        for coefficient, atoms in terms:
            for read, power in atoms:
                coefficient *= read(symbols) ** power
            total += coefficient
        return total

    return run


def _reader(atom: str) -> Callable[[Mapping[str, int]], int]:
    if atom.isidentifier():
        return lambda symbols: symbols[atom]
    return lambda symbols: evaluate(atom, symbols)


@lru_cache(maxsize=8192)
def _of_text(text: str) -> Extent:
    return _read(parse(text))


def _read(expr: Expr) -> Extent:
    if isinstance(expr, Name):
        return _atom(expr.name)
    if isinstance(expr, bool | int):
        return int(expr)
    if isinstance(expr, Call):
        operands = [_read(o) for o in expr.operands]
        match expr.function:
            case "add":
                return operands[0] + operands[1]
            case "sub":
                return operands[0] - operands[1]
            case "mul":
                return operands[0] * operands[1]
            case "neg":
                return operands[0] * -1
            case "floordiv" | "FloorDiv" | "CleanDiv":
                return divide(operands[0], operands[1])
            case function:
                return _atom(f"{function}({', '.join(map(str, operands))})")
    return _atom(str(expr))


def _atom(text: str) -> Poly:
    return Poly(((((text, 1),), 1),))


def _terms(extent: Extent) -> Mapping[Monomial, int]:
    return dict(extent.terms) if isinstance(extent, Poly) else {(): extent}


def _made(terms: Mapping[Monomial, int]) -> Extent:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    return kept[()] if kept.keys() == {()} else Poly(tuple(sorted(kept.items())))


def _sum(a: Extent, b: Extent, sign: int) -> Extent:
    terms = dict(_terms(a))
    for monomial, coefficient in _terms(b).items():
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient
    return _made(terms)


def _times(a: Extent, b: Extent) -> Extent:
    terms: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        for n, d in _terms(b).items():
            powers = dict(m)
            for atom, power in n:
                powers[atom] = powers.get(atom, 0) + power
            key = tuple(sorted(powers.items()))
            terms[key] = terms.get(key, 0) + c * d
    return _made(terms)


def _exact(a: Extent, b: Extent) -> Extent | None:
    """Divide polynomials as by hand, from the leading term on, if nothing is left over."""
    divisor, rest = {m: c for m, c in _terms(b).items() if c}, dict(_terms(a))
    if not divisor:
        return None
    atoms = sorted({atom for m in (*divisor, *rest) for atom, _ in m})
    lead = max(divisor, key=lambda m: _rank(m, atoms))
    under = dict(lead)
    quotient: dict[Monomial, int] = {}
    while rest := {m: c for m, c in rest.items() if c}:
        top = max(rest, key=lambda m: _rank(m, atoms))
        over = dict(top)
        powers = {atom: over.get(atom, 0) - under.get(atom, 0) for atom in {*over, *under}}
        if rest[top] % divisor[lead] or any(n < 0 for n in powers.values()):
            return None
        monomial = tuple(sorted((atom, n) for atom, n in powers.items() if n))
        quotient[monomial] = c = rest[top] // divisor[lead]
        for m, d in _terms(_times(_made(divisor), _made({monomial: c}))).items():
            rest[m] = rest.get(m, 0) - d
    return _made(quotient)


def _rank(monomial: Monomial, atoms: list[str]) -> tuple[int, ...]:
    """Order monomials so that products keep the order: by degree, then by the first atoms."""
    powers = dict(monomial)
    return (sum(powers.values()), *(powers.get(atom, 0) for atom in atoms))


def _show_term(term: tuple[Monomial, int]) -> str:
    monomial, c = term
    factors = ["*".join([atom] * power) for atom, power in monomial]
    if c != 1 or not factors:
        factors.insert(0, f"({c})" if c < 0 else str(c))
    return "*".join(factors)
