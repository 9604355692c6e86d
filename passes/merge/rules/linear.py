"""Matrix products: members become the batch of one batched product.

linear  x [g, .., I], w [g, O, I]  ->  baddbmm(bias, x [g, M, I], w' [g, I, O])
linear  x shared                   ->  one product with [g*O, I]
linear  w shared                   ->  one product with [g*M, I]
"""

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Declined, Operand, Result
from fusec.passes.merge.rules.rule import MergeRule

__all__ = ["RULES"]

aten = torch.ops.aten


def _linear(b: Builder, call: Call) -> Result:
    x, weight, bias = call.operand("input"), call.operand("weight"), call.optional("bias")
    if weight.rank == 1:
        return Declined("weight is a vector")
    if not weight.grouped:
        return _add_bias(b, b.call(aten.linear.default, x.node, weight.node), bias, x.rank)
    if not x.grouped:
        return _linear_shared_input(b, x, weight, bias)
    rows = _rows(b, x)
    turned = b.call(aten.transpose.int, weight.node, 1, 2)
    if bias is None:
        product = b.call(aten.bmm.default, rows, turned)
    else:
        product = b.call(aten.baddbmm.default, b.lift(bias, 2), rows, turned)
    return _unrows(b, product, x)


def _add_bias(b: Builder, node: fx.Node, bias: Operand | None, rank: int) -> fx.Node:
    if bias is None:
        return node
    return b.call(aten.add.Tensor, node, b.aligned(bias, rank))


def _linear_shared_input(b: Builder, x: Operand, weight: Operand, bias: Operand | None) -> Result:
    joined = b.flatten(weight.node, 0, 1)
    row = None if bias is None else b.flatten(b.full(bias), 0, 1)
    product = b.call(aten.linear.default, x.node, joined, row)
    split = b.call(aten.unflatten.int, product, -1, [b.g, -1])
    return b.call(aten.movedim.int, split, -2, 0)


def _rows(b: Builder, x: Operand) -> fx.Node:
    """Give [g, M, I] of a grouped [g, .., I]."""
    if x.rank == 1:
        return b.unsqueeze(x.node, 1)
    return x.node if x.rank == 2 else b.flatten(x.node, 1, x.rank - 1)


def _unrows(b: Builder, node: fx.Node, x: Operand) -> fx.Node:
    """Give [g, .., O] of [g, M, O]."""
    if x.rank == 1:
        return b.call(aten.squeeze.dim, node, 1)
    if x.rank == 2:
        return node
    lead = [b.extent(x, dim) for dim in range(x.rank - 1)]
    return b.call(aten.unflatten.int, node, 1, lead)


def _addmm(b: Builder, call: Call) -> Result:
    start = b.lift(call.operand("self"), 2)
    left, right = b.full(call.operand("mat1")), b.full(call.operand("mat2"))
    scales = {name: call.get(name) for name in ("beta", "alpha")}
    return b.call(aten.baddbmm.default, start, left, right, **scales)


def _mm(b: Builder, call: Call) -> Result:
    left, right = call.operand("self"), call.operand("mat2")
    if left.grouped and right.grouped:
        return b.call(aten.bmm.default, left.node, right.node)
    return b.call(aten.matmul.default, left.node, right.node)


def _bmm(b: Builder, call: Call) -> Result:
    left, right = call.operand("self"), call.operand("mat2")
    return b.unfold(b.call(aten.bmm.default, b.fold(left), b.fold(right)))


def _baddbmm(b: Builder, call: Call) -> Result:
    start = call.operand("self")
    left, right = call.operand("batch1"), call.operand("batch2")
    if start.rank == 3 and start.shape[0] == left.shape[0]:
        folded = b.fold(start)
    else:
        # Broadcast over the batch: the result's shape is needed in full.
        lead = [b.extent(left, 0), b.extent(left, 1), b.extent(right, 2)]
        folded = b.flatten(b.call(aten.expand.default, b.lift(start, 3), [b.g, *lead]), 0, 1)
    scales = {name: call.get(name) for name in ("beta", "alpha")}
    product = b.call(aten.baddbmm.default, folded, b.fold(left), b.fold(right), **scales)
    return b.unfold(product)


def _matmul(b: Builder, call: Call) -> Result:
    left, right = call.operand("self"), call.operand("other")
    if right.rank == 2 and left.grouped and left.rank > 1:
        if not right.grouped:
            return b.call(aten.matmul.default, left.node, right.node)
        product = b.call(aten.bmm.default, _rows(b, left), right.node)
        return _unrows(b, product, left)
    rank = max(left.rank, right.rank, 2)
    first, second = b.lift(left, max(left.rank, 2)), b.lift(right, right.rank)
    if right.rank == 1:
        second = b.unsqueeze(second, -1)
    first = _pad(b, first, rank - max(left.rank, 2))
    second = _pad(b, second, rank - max(right.rank, 2))
    product = b.call(aten.matmul.default, first, second)
    if right.rank == 1:
        product = b.call(aten.squeeze.dim, product, -1)
    if left.rank == 1:
        product = b.call(aten.squeeze.dim, product, -1 if right.rank == 1 else -2)
    return product


def _pad(b: Builder, node: fx.Node, count: int) -> fx.Node:
    return b.unsqueeze(node, *[1] * count)


def _mv(b: Builder, call: Call) -> Result:
    left, right = b.full(call.operand("self")), b.full(call.operand("vec"))
    return b.call(aten.squeeze.dim, b.call(aten.bmm.default, left, b.unsqueeze(right, 2)), 2)


def _dot(b: Builder, call: Call) -> Result:
    left, right = b.full(call.operand("self")), b.full(call.operand("tensor"))
    product = b.call(aten.bmm.default, b.unsqueeze(left, 1), b.unsqueeze(right, 2))
    return b.flatten(product, 0, 2)


def _outer(b: Builder, call: Call) -> Result:
    left, right = b.lift(call.operand("self")), b.lift(call.operand("vec2"))
    return b.call(aten.mul.Tensor, b.unsqueeze(left, 2), b.unsqueeze(right, 1))


def _einsum(b: Builder, call: Call) -> Result:
    """Put a letter that the equation does not use in front of grouped terms and the result."""
    equation = str(call.get("equation")).replace(" ", "")
    operands = call.operands("tensors")
    if call.get("path") is not None:
        return Declined("the order of contractions is given")
    terms, arrow, result = equation.partition("->")
    free = [c for c in "gZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    if not free:
        return Declined("the equation uses all letters")
    if not arrow:
        letters = sorted({c for c in terms if c.isalpha()})
        result = "".join(c for c in letters if terms.count(c) == 1)
        result = ("..." if "..." in terms else "") + result
    marked = ",".join(
        (free[0] if operand.grouped else "") + term
        for term, operand in zip(terms.split(","), operands, strict=True)
    )
    nodes = [operand.node for operand in operands]
    return b.call(aten.einsum.default, f"{marked}->{free[0]}{result}", nodes)


RULES = (
    MergeRule(name="linear", targets=("linear.default",), build=_linear),
    MergeRule(name="addmm", targets=("addmm.default",), build=_addmm),
    MergeRule(name="mm", targets=("mm.default",), build=_mm),
    MergeRule(name="bmm", targets=("bmm.default",), build=_bmm),
    MergeRule(name="baddbmm", targets=("baddbmm.default",), build=_baddbmm),
    MergeRule(name="matmul", targets=("matmul.default",), build=_matmul),
    MergeRule(name="mv", targets=("mv.default",), build=_mv),
    MergeRule(name="dot", targets=("dot.default",), build=_dot),
    MergeRule(name="outer", targets=("outer.default",), build=_outer),
    MergeRule(name="einsum", targets=("einsum.default",), build=_einsum),
)
