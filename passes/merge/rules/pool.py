"""Operators on images that treat channels alike: g joins the channels, or the batch."""

import operator
import re

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Operand, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _results(b: Builder, call: Call, node: fx.Node) -> list[fx.Node]:
    if isinstance(call.out, torch.Tensor):
        return [node]
    assert isinstance(call.out, tuple | list)
    return [b.call(operator.getitem, node, i) for i in range(len(call.out))]


def _give(nodes: list[fx.Node]) -> Result:
    return nodes[0] if len(nodes) == 1 else tuple(nodes)


def _image(b: Builder, call: Call) -> Result:
    name = call.target._schema.arguments[0].name
    x = call.operand(name)
    found = re.search(r"([123])d", str(call.target))
    axes = int(found[1]) if found else 2
    if x.rank == axes + 1:
        # With g in front it has the rank of a batch of the same.
        return _give(_results(b, call, b.apply(call)))
    channels = b.ground.folded.get(x.node)
    if channels is not None:
        nodes = _results(b, call, b.apply(call, **{name: channels}))
        return _give([b.from_channels(node) for node in nodes])
    return _give([b.unfold(n) for n in _results(b, call, b.apply(call, **{name: b.fold(x)}))])


def _batch(b: Builder, call: Call) -> Result:
    """All tensor operands have a batch axis in front."""
    operands = {k: v for k, v in call.arguments.items() if isinstance(v, Operand)}
    folded = {name: b.fold(operand) for name, operand in operands.items()}
    return b.unfold(b.apply(call, **folded))


def _columns(b: Builder, call: Call) -> Result:
    """Columns of patches and back; the batch axis may be missing."""
    x = call.operand("self")
    with_batch = 4 if call.target is aten.im2col.default else 3
    if x.rank < with_batch:
        return b.apply(call)
    return b.unfold(b.apply(call, self=b.fold(x)))


def _unpool(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    axes = 2 if "2d" in str(call.target) else 3
    if x.rank == axes + 1:
        indices = call.operand("indices")
        return b.apply(call, self=b.full(x), indices=b.full(indices))
    return _batch(b, call)


def _affine_grid(b: Builder, call: Call) -> Result:
    theta = call.operand("theta")
    batch, *rest = call.sizes("size")
    count = batch * b.g if isinstance(batch, int) else b.call(operator.mul, batch, b.g)
    return b.unfold(b.apply(call, theta=b.fold(theta), size=[count, *rest]))


IMAGE = (
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d", "_upsample_nearest_exact2d.vec",
    "_upsample_nearest_exact3d", "_upsample_nearest_exact3d.vec", "upsample_bicubic2d",
    "upsample_bicubic2d.vec", "upsample_bilinear2d", "upsample_bilinear2d.vec",
    "upsample_linear1d", "upsample_linear1d.vec", "upsample_nearest1d", "upsample_nearest1d.vec",
    "upsample_nearest2d", "upsample_nearest2d.vec", "upsample_nearest3d", "upsample_nearest3d.vec",
    "upsample_trilinear3d", "upsample_trilinear3d.vec",
)  # fmt: skip

RULES = (
    MergeRule(name="image", targets=defaults(IMAGE), build=_image),
    MergeRule(
        name="grid_sampler",
        targets=defaults(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")),
        build=_batch,
    ),
    MergeRule(name="columns", targets=defaults(("im2col", "col2im")), build=_columns),
    MergeRule(name="unpool", targets=defaults(("max_unpool2d", "max_unpool3d")), build=_unpool),
    MergeRule(name="affine_grid", targets=defaults(("affine_grid_generator",)), build=_affine_grid),
)
