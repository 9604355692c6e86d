"""Sums of products in a normal form, so that one pattern covers every way to write a formula.

A node is expanded into terms; a term is a number times powers of nodes:

    x * inv * g + (b - mean * inv * g)   ->   +1 x inv g,  +1 b,  -1 mean inv g
    (x - mean) / sqrt(v) * g + b         ->   the same, inv standing for v ** -0.5
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import fx

from fusec.passes.canonicalise.facts import is_call, is_float

__all__ = ["Term", "expand", "factors"]

aten = torch.ops.aten

Powers: TypeAlias = "tuple[tuple[fx.Node, float], ...]"

_MOST: Final = 8
"""More terms than any formula that is looked for."""


@dataclass(frozen=True, slots=True)
class Term:
    """A number times powers of nodes."""

    number: float
    powers: Powers

    def power(self, node: fx.Node) -> float:
        """Give the exponent of a node; 0 if it does not occur."""
        return dict(self.powers).get(node, 0.0)

    def without(self, *nodes: fx.Node) -> Powers:
        """Give the powers of the other nodes."""
        return tuple((n, p) for n, p in self.powers if n not in nodes)


def _join(a: Term, b: Term) -> Term:
    powers = dict(a.powers)
    for node, power in b.powers:
        powers[node] = powers.get(node, 0.0) + power
    # Powers that cancel are kept as 0: x / x is not 1 where x is 0, so it must match nothing.
    return Term(a.number * b.number, tuple(sorted(powers.items(), key=lambda item: item[0].name)))


def _raised(terms: list[Term], power: float) -> list[Term] | None:
    """Raise a single product to a power; a sum cannot be, nor sqrt(x * x), which is not x."""
    if len(terms) != 1 or terms[0].number == 0:
        return None
    (term,) = terms
    if power != -1 and (term.number != 1 or [p for _, p in term.powers] != [1]):
        return None
    return [Term(term.number**power, tuple((n, p * power) for n, p in term.powers))]


def _whole_power(terms: list[Term] | None, power: object) -> list[Term] | None:
    """Multiply out a small whole power."""
    if terms is None or power not in (2, 3):
        return None
    square = _product(terms, terms)
    return square if power == 2 else _product(square, terms)


_POWERS: Final[Mapping[Any, float]] = {
    aten.reciprocal.default: -1.0,
    aten.sqrt.default: 0.5,
    aten.rsqrt.default: -0.5,
}


def expand(
    node: object,
    leaf: Callable[[fx.Node], bool],
    number: Callable[[fx.Node], float | None] = lambda _: None,
) -> list[Term] | None:
    """Expand a node into terms.

    Args:
        node: a node or a number.
        leaf: nodes not to look into.
        number: gives the value of nodes that stand for a number.

    Returns:
        None if there are too many terms to be of interest.
    """
    if isinstance(node, int | float):
        return [Term(float(node), ())]
    if not isinstance(node, fx.Node):
        return None
    value = None if leaf(node) else number(node)
    if value is not None:
        return [Term(float(value), ())]
    terms = None if leaf(node) else _inside(node, leaf, number)
    return [Term(1.0, ((node, 1.0),))] if terms is None else terms


def _inside(
    node: fx.Node, leaf: Callable[[fx.Node], bool], number: Callable[[fx.Node], float | None]
) -> list[Term] | None:
    """Expand a call; None if its operator is none of arithmetic."""
    if node.kwargs or not is_float(node):
        return None
    if node.target in _POWERS:
        inner = expand(node.args[0], leaf, number)
        return None if inner is None else _raised(inner, _POWERS[node.target])
    if is_call(node, aten.pow.Tensor_Scalar):
        return _whole_power(expand(node.args[0], leaf, number), node.args[1])
    if is_call(node, aten.neg.default):
        return _product(expand(node.args[0], leaf, number), [Term(-1.0, ())])
    if not is_call(node, *_BINARY):
        return None
    a, b = (expand(v, leaf, number) for v in node.args[:2])
    if a is None or b is None:
        return None
    return _BINARY[node.target](a, b)


def _product(a: list[Term] | None, b: list[Term] | None) -> list[Term] | None:
    if a is None or b is None or len(a) * len(b) > _MOST:
        return None
    return _collected(_join(s, t) for s in a for t in b)


def _quotient(a: list[Term], b: list[Term]) -> list[Term] | None:
    return _product(a, _raised(b, -1.0))


def _sum(a: list[Term], b: list[Term]) -> list[Term] | None:
    return _collected([*a, *b])


def _difference(a: list[Term], b: list[Term]) -> list[Term] | None:
    return _collected([*a, *(Term(-t.number, t.powers) for t in b)])


def _collected(terms: Iterable[Term]) -> list[Term] | None:
    totals: dict[Powers, float] = {}
    for term in terms:
        totals[term.powers] = totals.get(term.powers, 0.0) + term.number
    found = [Term(number, powers) for powers, number in totals.items() if number]
    return found if 0 < len(found) <= _MOST else None


_BINARY: Final[Mapping[Any, Callable[[list[Term], list[Term]], list[Term] | None]]] = {
    aten.mul.Tensor: _product,
    aten.div.Tensor: _quotient,
    aten.add.Tensor: _sum,
    aten.sub.Tensor: _difference,
    aten.rsub.Scalar: lambda a, b: _difference(b, a),
}


def factors(node: fx.Node, leaf: Callable[[fx.Node], bool] = lambda _: False) -> Term | None:
    """Give a node as one product, sums being leaves; None if it is none."""

    def stop(n: fx.Node) -> bool:
        return leaf(n) or (n is not node and is_call(n, *_SUMS))

    terms = expand(node, stop)
    return terms[0] if terms is not None and len(terms) == 1 else None


_SUMS: Final = (aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar)
