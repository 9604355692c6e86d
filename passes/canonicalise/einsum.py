"""Einsums brought to products of two operands, every axis named.

'...c,cd->...d'   ->  letters for the dots
'ij,jk'           ->  'ij,jk->ik'
'ab,bc,cd->ad'    ->  two einsums, from the left
'abc->ca'         ->  permute(sum(x))
'bi,bij->j'       ->  einsum of what is summed over alone, summed first
'abct,abcs->abcts' and more than two shared axes  ->  those joined into one
"""

import string
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import same, shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape

__all__ = ["RULES"]

aten = torch.ops.aten

_BATCHES = 2
"""Shared axes that products take as they are."""


def _einsum(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    operands = list(given["tensors"])
    named = _named(given["equation"], [len(shape_of(x)) for x in operands])
    if named is None:
        return None
    terms, result = named
    if not _plain(terms, result, [shape_of(x) for x in operands]):
        return None
    if len(operands) > 2:
        later = set(result).union(*terms[2:])
        kept = "".join(x for x in dict.fromkeys(terms[0] + terms[1]) if x in later)
        first = _two(edit, operands[:2], terms[:2], kept)
        if first is None:
            return None
        return _call(edit, [first, *operands[2:]], [kept, *terms[2:]], result)
    if len(operands) == 1:
        return _one(edit, operands[0], terms[0], result)
    new = _two(edit, operands, terms, result)
    if new is None or (new.target is node.target and new.args[0] == given["equation"]):
        return None
    return new


def _named(equation: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """Give each operand's letters and the result's, dots and what is implied written out."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [x for x in string.ascii_letters if x not in equation]
    dots = [rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t]
    if any(n != dots[0] for n in dots):
        return None
    letters = "".join(free[: dots[0]]) if dots else ""
    terms = [t.replace("...", letters) for t in terms]
    if not arrow:
        every = "".join(terms)
        single = sorted(x for x in set(every) - set(letters) if every.count(x) == 1)
        result = letters + "".join(single)
    return terms, result.replace("...", letters)


def _plain(terms: Sequence[str], result: str, shapes: Sequence[Any]) -> bool:
    """Tell whether no letter is twice in a term, and none is broadcast."""
    if any(len(set(t)) != len(t) for t in (*terms, result)):
        return False
    sizes: dict[str, Any] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if not same(sizes.setdefault(letter, size), size):
                return False
    return set(result) <= set(sizes)


def _call(edit: Edit, operands: list[fx.Node], terms: Sequence[str], result: str) -> fx.Node:
    return edit.emit(aten.einsum.default, f"{','.join(terms)}->{result}", operands)


def _one(edit: Edit, x: fx.Node, term: str, result: str) -> fx.Node:
    x, term = _summed(edit, x, term, result)
    return permute(edit, x, [term.index(letter) for letter in result])


def _summed(edit: Edit, x: fx.Node, term: str, wanted: str) -> tuple[fx.Node, str]:
    """Sum over the axes that nobody else wants."""
    axes = [i for i, letter in enumerate(term) if letter not in wanted]
    if not axes:
        return x, term
    kept = "".join(letter for letter in term if letter in wanted)
    return edit.emit(aten.sum.dim_IntList, x, axes), kept


def _two(
    edit: Edit, operands: Sequence[fx.Node], terms: Sequence[str], result: str
) -> fx.Node | None:
    """Multiply two operands: alone summed axes first, many shared axes as one."""
    (a, left) = _summed(edit, operands[0], terms[0], result + terms[1])
    (b, right) = _summed(edit, operands[1], terms[1], result + terms[0])
    shared = [x for x in left if x in right and x in result]
    if len(shared) <= _BATCHES:
        return _call(edit, [a, b], [left, right], result)
    batch = "".join(shared)
    rows = "".join(x for x in left if x not in right)
    summed = "".join(x for x in left if x in right and x not in result)
    columns = "".join(x for x in right if x not in left)
    sizes = dict(zip(left + right, (*shape_of(a), *shape_of(b)), strict=True))
    first = _joined(edit, a, left, batch, rows + summed, sizes)
    second = _joined(edit, b, right, batch, summed + columns, sizes)
    if first is None or second is None:
        return None
    one = batch[0]
    made = _call(
        edit, [first, second], [one + rows + summed, one + summed + columns], one + rows + columns
    )
    order = batch + rows + columns
    apart = reshape(edit, made, [sizes[x] for x in order])
    return None if apart is None else permute(edit, apart, [order.index(x) for x in result])


def _joined(
    edit: Edit, x: fx.Node, term: str, batch: str, rest: str, sizes: dict[str, Any]
) -> fx.Node | None:
    """Move shared axes to the front and join them."""
    moved = permute(edit, x, [term.index(letter) for letter in batch + rest])
    whole: Any = 1
    for letter in batch:
        whole = whole * sizes[letter]
    return reshape(edit, moved, [whole, *(sizes[letter] for letter in rest)])


RULES: Final = (Rule("einsum_of_two", (aten.einsum.default,), _einsum),)
