"""Operators on volumes as operators on images, which have kernels.

convolution [n, c, d, h, w]  ->  windows along d beside the channels, then a convolution of
                                 [n * d, c * kd, h, w]: one sum, as before
max, average, adaptive pool  ->  a pool of h and w, then one of d

Comes after constants are folded into the convolutions, which wants to see them whole.
"""

from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import is_float, shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule, rewrite
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape
from fusec.passes.program import Program
from fusec.passes.report import PassReport

__all__ = ["flatten_volumes"]

aten = torch.ops.aten


def flatten_volumes(program: Program) -> tuple[Program, PassReport]:
    """Spell operators on volumes by those on images.

    Cost: a look at each node where there are none.
    """
    name, targets = "flatten_volumes", {t for rule in _RULES for t in rule.targets}
    if not any(n.target in targets and _is_volume(n) for n in program.graph.graph.nodes):
        return program, PassReport(name, (), ())
    return rewrite(program, name=name, rules=_RULES)


def _is_volume(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dim() == 5


def _convolution(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, weight = given["input"], given["weight"]
    if not _is_volume(node) or given["transposed"] or not is_float(node):
        return None
    n, channels, depth, height, width = shape_of(x)
    out, each, kernel, *flat = shape_of(weight)
    (stride, *steps), (dilation, *spread) = given["stride"], given["dilation"]
    deep, *pads = given["padding"]
    # Windows along an extent that varies would fix it.
    if not all(isinstance(d, int) for d in (kernel, each, channels, depth)):
        return None
    if deep:
        x = edit.emit(aten.constant_pad_nd.default, x, [0, 0, 0, 0, deep, deep])
    windows = edit.emit(aten.unfold.default, x, 2, dilation * (kernel - 1) + 1, stride)
    if dilation > 1:
        windows = edit.emit(aten.slice.Tensor, windows, 5, 0, None, dilation)
    depth = shape_of(windows)[2]
    turned = permute(edit, windows, [0, 2, 1, 5, 3, 4])
    images = reshape(edit, turned, [n * depth, channels * kernel, height, width])
    kernels = reshape(edit, weight, [out, each * kernel, *flat])
    if images is None or kernels is None:
        return None
    made = edit.emit(
        aten.convolution.default, images, kernels, given["bias"], steps, pads, spread, False,
        [0, 0], given["groups"],
    )  # fmt: skip
    apart = reshape(edit, made, [n, depth, out, *shape_of(made)[2:]])
    return None if apart is None else permute(edit, apart, [0, 2, 1, 3, 4])


_FLAT: Final[dict[Any, Any]] = {
    aten.max_pool3d.default: aten.max_pool2d.default,
    aten.avg_pool3d.default: aten.avg_pool2d.default,
    aten._adaptive_avg_pool3d.default: aten._adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default: aten._adaptive_avg_pool2d.default,
}


def _pool(edit: Edit, node: fx.Node) -> Answer:
    """Pool pixels, then along the depth: sums, counts and extremes are products of both."""
    given = arguments(node)
    x: fx.Node = given.pop("self")
    if not _is_volume(node) or given.get("divisor_override") is not None:
        return None
    target = _FLAT[node.target]
    n, channels, depth, height, width = shape_of(x)
    images = reshape(edit, x, [n, channels * depth, height, width])
    if images is None:
        return None
    if "output_size" in given:
        deep, *flat = given["output_size"]
        if not isinstance(deep, int):
            return None
        pooled = edit.emit(target, images, flat)
        ends: Any = (deep, 1)
    else:
        pooled = edit.emit(target, images, *_part(given, slice(1, 3)))
    high, wide = shape_of(pooled)[2:]
    lines = reshape(edit, pooled, [n, channels, depth, high * wide])
    if lines is None:
        return None
    if "output_size" in given:
        # Adaptive pools have no window of one: the other axis keeps its extent.
        ends = [deep, high * wide]
        made = edit.emit(target, lines, ends) if isinstance(ends[1], int) else None
    else:
        made = edit.emit(target, lines, *_part(given, slice(0, 1)))
    return None if made is None else reshape(edit, made, shape_of(node))


def _part(given: dict[str, Any], axes: slice) -> list[Any]:
    """Give a pool's arguments for one or two of its axes; the other, of two, is left alone."""
    neutral = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    made = []
    for name, value in given.items():
        if name not in neutral:
            made.append(value)
            continue
        value = given["kernel_size"] if name == "stride" and not value else value
        part = list(value)[axes]
        made.append(part if len(part) == 2 else [*part, neutral[name]])
    return made


_RULES: Final = (
    Rule("volume_as_images", (aten.convolution.default,), _convolution),
    Rule("pool_pixels_then_depth", tuple(_FLAT), _pool),
)
