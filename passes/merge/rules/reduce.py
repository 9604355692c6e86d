"""Reductions, softmax, scans and sorts: the same along axes one further to the right.

A member's tensor without axes gets one first: behind g, axis 0 and axis -1 are an axis of its own.
"""

import operator
from collections.abc import Mapping

import torch
from torch import fx

from fusec.passes.merge.builder import Builder, axis
from fusec.passes.merge.operand import Call, Operand, PerMember, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _source(call: Call) -> tuple[str, Operand]:
    name = call.target._schema.arguments[0].name
    return name, call.operand(name)


def _own(b: Builder, x: Operand) -> tuple[fx.Node, int]:
    """Give a grouped tensor with at least one axis per member, and that number of axes."""
    return (x.node, x.rank) if x.rank else (b.unsqueeze(x.node, 1), 1)


def _close(b: Builder, call: Call, node: fx.Node, rank: int) -> Result:
    """Split results, and drop the axis that a member's tensor does not have."""
    several = not isinstance(call.out, torch.Tensor)
    outs = list(call.out) if several else [call.out]  # type: ignore[call-overload]
    nodes = [b.call(operator.getitem, node, i) for i in range(len(outs))] if several else [node]
    keeps = bool(call.arguments.get("keepdim"))
    reduces = "keepdim" in _names(call) or "count_nonzero" in str(call.target)
    if rank == 0 and (keeps or not reduces):
        nodes = [b.call(aten.squeeze.dim, n, 1) for n in nodes]
    return tuple(nodes) if several else nodes[0]


def _names(call: Call) -> set[str]:
    return {argument.name for argument in call.target._schema.arguments}


def _over_axes(b: Builder, call: Call) -> Result:
    """Attribute `dim` lists axes; none stands for all of them."""
    name, x = _source(call)
    node, rank = _own(b, x)
    dims = [axis(d, rank) for d in call.integers("dim")] or list(range(1, rank + 1))
    return _close(b, call, b.apply(call, **{name: node, "dim": dims}), x.rank)


def _along_axis(b: Builder, call: Call) -> Result:
    """Attribute `dim` is one axis."""
    name, x = _source(call)
    node, rank = _own(b, x)
    dim = axis(call.integer("dim"), rank)
    return _close(b, call, b.apply(call, **{name: node, "dim": dim}), x.rank)


def _flat(b: Builder, x: Operand) -> fx.Node:
    return b.flatten(x.node, 1, x.rank) if x.rank else b.unsqueeze(x.node, 1)


def _arg(b: Builder, call: Call) -> Result:
    """Operators whose `dim` may be None: the place in the flattened tensor, or all of it."""
    if call.get("dim") is not None:
        return _along_axis(b, call)
    _, x = _source(call)
    node = b.apply(call, self=_flat(b, x), dim=1, keepdim=False)
    several = not isinstance(call.out, torch.Tensor)
    nodes = [b.call(operator.getitem, node, i) for i in range(2)] if several else [node]
    if call.get("keepdim"):
        nodes = [b.unsqueeze(n, *[-1] * x.rank) for n in nodes]
    return tuple(nodes) if several else nodes[0]


FULL: Mapping[str, torch._ops.OpOverload] = {
    "aten.sum.default": aten.sum.dim_IntList,
    "aten.mean.default": aten.mean.dim,
    "aten.max.default": aten.amax.default,
    "aten.min.default": aten.amin.default,
    "aten.all.default": aten.all.dims,
    "aten.any.default": aten.any.dims,
    "aten.var.default": aten.var.dim,
    "aten.std.default": aten.std.dim,
    "aten.var_mean.default": aten.var_mean.dim,
    "aten.std_mean.default": aten.std_mean.dim,
    "aten.count_nonzero.default": aten.count_nonzero.dim_IntList,
    "aten.norm.Scalar": aten.norm.ScalarOpt_dim,
    "aten.norm.ScalarOpt_dtype": aten.norm.ScalarOpt_dim_dtype,
}
"""Reductions of a whole tensor -> the same over listed axes."""

FULL_ONE: Mapping[str, torch._ops.OpOverload] = {
    "aten.prod.default": aten.prod.dim_int,
    "aten.median.default": aten.median.dim,
    "aten.nanmedian.default": aten.nanmedian.dim,
}
"""Reductions of a whole tensor -> the same over one axis; the first result counts."""


def _full(b: Builder, call: Call) -> Result:
    _, x = _source(call)
    if call.arguments.get("dim") is not None:
        return _along_axis(b, call)
    if str(call.target) in FULL_ONE:
        if "median" in str(call.target) and any(extent == 0 for extent in x.shape):
            return PerMember("the median of nothing is NaN")
        node = b.retarget(call, FULL_ONE[str(call.target)], self=_flat(b, x), dim=1)
        return node if "prod" in str(call.target) else b.call(operator.getitem, node, 0)
    power = {"p": call.get("p")} if "p" in _names(call) else {}
    target = FULL[str(call.target)]
    node = b.retarget(call, target, self=_flat(b, x), dim=[1], keepdim=False, **power)
    return _split_only(b, call, node)


def _split_only(b: Builder, call: Call, node: fx.Node) -> Result:
    if isinstance(call.out, torch.Tensor):
        return node
    return tuple(b.call(operator.getitem, node, i) for i in range(2))


def _msort(b: Builder, call: Call) -> Result:
    _, x = _source(call)
    node, _ = _own(b, x)
    ordered = b.call(operator.getitem, b.call(aten.sort.default, node, 1), 0)
    return _close(b, call, ordered, x.rank)


OVER_AXES = (
    "all.dims", "amax", "amin", "any.dims", "count_nonzero.dim_IntList",
    "linalg_vector_norm", "logsumexp", "mean.dim",
    "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype", "std.correction", "std.dim",
    "std_mean.correction", "std_mean.dim", "sum.dim_IntList", "var.correction", "var.dim",
    "var_mean.correction", "var_mean.dim", "_fft_c2c", "_fft_r2c", "_fft_c2r",
)  # fmt: skip

ALONG_AXIS = (
    "all.dim", "any.dim", "argsort", "argsort.stable", "cummax", "cummin", "cumprod", "cumsum",
    "kthvalue", "log_softmax.int", "_log_softmax", "logcumsumexp", "max.dim", "median.dim",
    "min.dim", "mode", "nanmedian.dim", "prod.dim_int", "_softmax", "softmax.int", "sort",
    "sort.stable", "special_log_softmax", "special_softmax", "topk",
)  # fmt: skip

RULES = (
    MergeRule(name="reduce", targets=defaults(OVER_AXES), build=_over_axes),
    MergeRule(name="along_axis", targets=defaults(ALONG_AXIS), build=_along_axis),
    MergeRule(name="arg", targets=defaults(("argmax", "argmin", "aminmax")), build=_arg),
    MergeRule(
        name="reduce_all",
        targets=tuple(n.removeprefix("aten.") for n in (*FULL, *FULL_ONE)),
        build=_full,
    ),
    MergeRule(name="msort", targets=("msort.default",), build=_msort),
)
