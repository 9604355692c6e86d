"""Activations raised from the primitives that exporters spell them with.

    0.5 * x * (1 + erf(x / sqrt(2)))                           ->  gelu(x)
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))  ->  gelu(x, approximate="tanh")
    1 / (1 + exp(-x))                                          ->  sigmoid(x)
    x * sigmoid(x)                                             ->  silu(x)
    clamp(x + 3, 0, 6) / 6,  clamp(x / 6 + 0.5, 0, 1)          ->  hardsigmoid(x)
    x * hardsigmoid(x)                                         ->  hardswish(x)
    x * tanh(softplus(x))                                      ->  mish(x)
    log(1 + exp(x))                                            ->  softplus(x)
    where(x > 0, x, a * x),  max(x, a * x)                     ->  leaky_relu(x, a)

Factors may stand in any order and association; numbers are compared at the dtype's precision.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.algebra import Term, expand
from fusec.passes.canonicalise.facts import (
    close,
    dtype_of,
    guarded_number,
    is_call,
    is_float,
    number,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.report import Reason

__all__ = ["RULES"]

aten = torch.ops.aten

_PRODUCTS: Final = (aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor)
_ARITHMETIC: Final = (
    aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar,
    aten.pow.Tensor_Scalar, aten.neg.default,
)  # fmt: skip
_DEPTH: Final = 5


def _below(node: fx.Node, *targets: Any) -> Iterator[fx.Node]:
    """Find calls of some operators below a node, through arithmetic only."""
    level, seen = [node], {node}
    for _ in range(_DEPTH):
        children = [c for parent in level for c in parent.all_input_nodes if c not in seen]
        seen.update(children)
        yield from (c for c in dict.fromkeys(children) if is_call(c, *targets))
        level = [c for c in children if is_call(c, *_ARITHMETIC)]


def _candidates(node: fx.Node) -> list[fx.Node]:
    """Give a node and what it is computed from by arithmetic: what x may be in f(x)."""
    found: dict[fx.Node, None] = {node: None}
    level = [node]
    for _ in range(_DEPTH):
        children = [c for n in level if is_call(n, *_ARITHMETIC) for c in n.all_input_nodes]
        level = [c for c in children if c not in found]
        found.update(dict.fromkeys(level))
    return list(found)


def _is(terms: list[Term] | None, wanted: list[Term], dtype: torch.dtype) -> bool:
    """Compare two sums of products, numbers at the precision of a dtype."""
    if terms is None or len(terms) != len(wanted):
        return False
    have = {frozenset(t.powers): t.number for t in terms}
    return all(
        (found := have.get(frozenset(t.powers))) is not None and close(found, t.number, dtype)
        for t in wanted
    )


def _gelu(edit: Edit, node: fx.Node) -> Answer:
    if not is_float(node):
        return None
    dtype = dtype_of(node)
    for inner in _below(node, aten.erf.default, aten.tanh.default):
        argument: Any = inner.args[0]
        for x in _candidates(argument):
            if not _is_gelu_argument(edit, argument, x, inner):
                continue
            wanted = [Term(0.5, ((x, 1.0),)), Term(0.5, ((x, 1.0), (inner, 1.0)))]
            leaves = (x, inner)
            terms = expand(node, leaves.__contains__, lambda n: _constant(edit, n))
            if _is(terms, wanted, dtype):
                if inner.target is aten.erf.default:
                    return edit.emit(aten.gelu.default, x)
                return edit.emit(aten.gelu.default, x, approximate="tanh")
    return None


def _is_gelu_argument(edit: Edit, argument: fx.Node, x: fx.Node, inner: fx.Node) -> bool:
    dtype = dtype_of(inner)
    terms = expand(argument, (x,).__contains__, lambda n: _constant(edit, n))
    if inner.target is aten.erf.default:
        return _is(terms, [Term(math.sqrt(0.5), ((x, 1.0),))], dtype)
    scale = math.sqrt(2 / math.pi)
    wanted = [Term(scale, ((x, 1.0),)), Term(scale * 0.044715, ((x, 3.0),))]
    return _is(terms, wanted, dtype)


def _constant(edit: Edit, node: fx.Node) -> float | None:
    return (
        guarded_number(edit, node, "a constant of an activation")
        if edit.is_constant(node)
        else None
    )


def _sigmoid(edit: Edit, node: fx.Node) -> Answer:
    """Match the reciprocal of 1 + exp(-x)."""
    x = _logistic_argument(edit, node.args[0])
    return None if x is None else edit.emit(aten.sigmoid.default, x)


def _logistic_argument(edit: Edit, node: object) -> fx.Node | None:
    """Give x of 1 + exp(-x)."""
    exponent = _one_plus(edit, node, aten.exp.default)
    if not is_call(exponent, aten.neg.default) or not is_float(exponent):
        return None
    x = exponent.args[0]
    return x if isinstance(x, fx.Node) else None


def _one_plus(edit: Edit, node: object, target: Any) -> Any:
    """Give y of 1 + f(y)."""
    if is_call(node, aten.add.Tensor) and not node.kwargs:
        for call, one in (node.args[:2], node.args[1::-1]):
            if number(edit, one) == 1 and is_call(call, target):
                return call.args[0]
    return None


def _silu_quotient(edit: Edit, node: fx.Node) -> Answer:
    """Match x / (1 + exp(-x))."""
    x, divisor = node.args[:2]
    if node.kwargs or not isinstance(x, fx.Node) or _logistic_argument(edit, divisor) is not x:
        return None
    return edit.emit(aten.silu.default, x)


def _gated(edit: Edit, node: fx.Node) -> Answer:
    """Match x * f(x) for sigmoid, hardsigmoid and tanh(softplus)."""
    if node.kwargs or not is_float(node):
        return None
    for x, gate in (node.args[:2], node.args[1::-1]):
        if not isinstance(x, fx.Node):
            continue
        if is_call(gate, aten.sigmoid.default) and gate.args[0] is x:
            return edit.emit(aten.silu.default, x)
        if is_call(gate, aten.hardsigmoid.default) and gate.args[0] is x:
            return edit.emit(aten.hardswish.default, x)
        if is_call(gate, aten.tanh.default) and _is_softplus_of(gate.args[0], x):
            return edit.emit(aten.mish.default, x)
    return None


def _is_softplus_of(node: object, x: fx.Node) -> bool:
    plain = is_call(node, aten.softplus.default) and not node.kwargs
    if not plain or not isinstance(node, fx.Node) or node.args[0] is not x:
        return False
    # beta 1; the threshold only says from where on softplus(x) is x to the last bit.
    return len(node.args) < 2 or bool(node.args[1] == 1)


def _softplus(edit: Edit, node: fx.Node) -> Answer:
    """Match log(1 + exp(x)) and log1p(exp(x))."""
    inner = node.args[0]
    if node.target is aten.log1p.default:
        x = inner.args[0] if is_call(inner, aten.exp.default) else None
    else:
        x = _one_plus(edit, inner, aten.exp.default)
    if not isinstance(x, fx.Node) or not is_float(x):
        return None
    if dtype_of(x) == torch.float64:
        return No(Reason.DTYPE, "softplus(x) is x beyond 20, short of float64's precision")
    return edit.emit(aten.softplus.default, x)


def _hard(edit: Edit, node: fx.Node) -> Answer:
    """Match hardsigmoid and hardswish, x * clamp(x + 3, 0, 6) / 6 in any association."""
    if not is_float(node) or node.kwargs:
        return None
    for clamp in _below(node, aten.clamp.default):
        x = _shifted_by_three(edit, clamp)
        if x is None:
            continue
        leaves = (x, clamp)
        terms = expand(node, leaves.__contains__, lambda n: _constant(edit, n))
        if _is(terms, [Term(1 / 6, ((clamp, 1.0),))], dtype_of(node)):
            return edit.emit(aten.hardsigmoid.default, x)
        if _is(terms, [Term(1 / 6, ((x, 1.0), (clamp, 1.0)))], dtype_of(node)):
            return edit.emit(aten.hardswish.default, x)
    return None


def _shifted_by_three(edit: Edit, clamp: fx.Node) -> fx.Node | None:
    """Give x of clamp(x + 3, 0, 6)."""
    inner, *bounds = clamp.args
    if bounds != [0, 6] or not is_call(inner, aten.add.Tensor) or inner.kwargs:
        return None
    for x, three in (inner.args[:2], inner.args[1::-1]):
        if number(edit, three) == 3 and isinstance(x, fx.Node):
            return x
    return None


def _hardsigmoid(edit: Edit, node: fx.Node) -> Answer:
    """Match clamp(x / 6 + 0.5, 0, 1)."""
    inner, *bounds = node.args
    if bounds != [0, 1] or not is_call(inner, aten.add.Tensor) or not is_float(node):
        return None
    for x in _candidates(inner)[1:]:
        wanted = [Term(1 / 6, ((x, 1.0),)), Term(0.5, ())]
        leaves = (x,)
        terms = expand(inner, leaves.__contains__, lambda n: _constant(edit, n))
        if _is(terms, wanted, dtype_of(node)):
            return edit.emit(aten.hardsigmoid.default, x)
    return None


def _leaky(edit: Edit, node: fx.Node) -> Answer:
    """Match where(x > 0, x, a * x), >= as well, and relu spelled the same way."""
    condition, x, other = node.args
    if not is_call(condition, aten.gt.Scalar, aten.ge.Scalar) or condition.args[0] is not x:
        return None
    if condition.args[1] != 0 or not isinstance(x, fx.Node) or not is_float(x):
        return None
    if node.target is aten.where.ScalarOther:
        return edit.emit(aten.relu.default, x) if other == 0 else None
    slope = _multiple(edit, other, x)
    if slope is None:
        return edit.emit(aten.relu.default, x) if number(edit, other) == 0 else None
    return edit.emit(aten.leaky_relu.default, x, slope)


def _larger(edit: Edit, node: fx.Node) -> Answer:
    """Match max(x, a * x) for a between 0 and 1."""
    for x, other in (node.args[:2], node.args[1::-1]):
        slope = _multiple(edit, other, x)
        if slope is not None and isinstance(x, fx.Node) and is_float(x):
            if not 0 <= slope <= 1:
                return No(Reason.VALUE, f"slope {slope:g} is not between 0 and 1")
            return edit.emit(aten.leaky_relu.default, x, slope)
    return None


def _multiple(edit: Edit, node: object, x: object) -> float | None:
    """Give a of a * x."""
    if not is_call(node, aten.mul.Tensor) or node.kwargs:
        return None
    for value, factor in (node.args[:2], node.args[1::-1]):
        if value is x:
            return number(edit, factor)
    return None


RULES: Final = (
    Rule("raise_gelu", _PRODUCTS, _gelu),
    Rule("raise_sigmoid", (aten.reciprocal.default,), _sigmoid),
    Rule("raise_silu_quotient", (aten.div.Tensor,), _silu_quotient),
    Rule("raise_softplus", (aten.log.default, aten.log1p.default), _softplus),
    Rule("raise_gated", (aten.mul.Tensor,), _gated),
    Rule("raise_hard", (aten.mul.Tensor, aten.div.Tensor), _hard),
    Rule("raise_hardsigmoid", (aten.clamp.default,), _hardsigmoid),
    Rule("raise_leaky_relu", (aten.where.self, aten.where.ScalarOther), _leaky),
    Rule("raise_leaky_maximum", (aten.maximum.default,), _larger),
)
