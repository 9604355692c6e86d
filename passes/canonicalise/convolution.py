"""Convolutions of every kind as `aten.convolution`, constants after them folded into the weight.

    conv1d, conv2d, conv3d, conv_transpose*   ->  convolution(x, w, b, stride, padding, ...)
    conv2d(x, w, padding="same")              ->  explicit padding
    convolution(constant_pad_nd(x, p, 0), w)  ->  convolution(x, w, padding=p)
    add(convolution(x, w), b per channel)     ->  convolution(x, w, b)
    mul(convolution(x, w, b), s per channel)  ->  convolution(x, s * w, s * b)

`aten.convolution` is one operator for all ranks, plain and transposed, with every attribute
explicit: one merge rule and one folding rule serve them all.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import (
    dtype_of,
    is_call,
    number,
    only_user,
    same_shape,
    shape_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import reshape
from fusec.passes.canonicalise.weights import exactly, may_scale, per_channel
from fusec.passes.report import Reason

__all__ = ["FOLDS", "RULES"]

aten = torch.ops.aten
CONV: Final = aten.convolution.default

_PLAIN: Final = (
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
)  # fmt: skip
_TRANSPOSED: Final = (
    aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input,
)  # fmt: skip


def _convolution(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x: fx.Node = given["input"]
    spatial = len(shape_of(given["weight"])) - 2
    stride, dilation = _full(given["stride"], spatial), _full(given["dilation"], spatial)
    padding = given["padding"]
    if isinstance(padding, str):
        before, after = _same(padding, given["weight"], dilation)
        padding = [min(b, a) for b, a in zip(before, after, strict=True)]
        x = _pad(edit, x, before, after, padding)
    unbatched = len(shape_of(x)) == spatial + 1
    batched = reshape(edit, x, [1, *shape_of(x)]) if unbatched else x
    if batched is None:
        return None
    extra = _full(given.get("output_padding", 0), spatial)
    new = edit.emit(
        CONV, batched, given["weight"], given["bias"], stride, _full(padding, spatial), dilation,
        node.target in _TRANSPOSED, extra, given["groups"],
    )  # fmt: skip
    return reshape(edit, new, shape_of(node))


def _full(value: Any, spatial: int) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * spatial if len(items) == 1 else items


def _same(mode: str, weight: fx.Node, dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Give padding before and after each axis for "same" and "valid", as torch does."""
    kernel = shape_of(weight)[2:]
    if mode == "valid":
        return [0] * len(kernel), [0] * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [t // 2 for t in total], [t - t // 2 for t in total]


def _pad(
    edit: Edit, x: fx.Node, before: Sequence[int], after: Sequence[int], taken: Sequence[int]
) -> fx.Node:
    """Pad by what the convolution's own, symmetric padding leaves over."""
    pads = [
        side - t
        for b, a, t in reversed(list(zip(before, after, taken, strict=True)))
        for side in (b, a)
    ]
    return edit.emit(aten.constant_pad_nd.default, x, pads) if any(pads) else x


def _take_padding(edit: Edit, node: fx.Node) -> Answer:
    """Fold a padding with zeros into the convolution's own, as far as it is symmetric."""
    given = arguments(node)
    source = given["input"]
    if not is_call(source, aten.constant_pad_nd.default) or given["transposed"]:
        return None
    pad = arguments(source)
    pads, spatial = list(pad["pad"]), len(given["stride"])
    if number(edit, pad["value"]) != 0:
        return No(Reason.VALUE, f"{source.name} pads with {pad['value']}, convolution with 0")
    if any(not isinstance(p, int) or p < 0 for p in pads) or any(pads[2 * spatial :]):
        return None
    pads = (pads + [0] * 2 * spatial)[: 2 * spatial]
    own = list(given["padding"])
    before = [p + pads[2 * (spatial - 1 - i)] for i, p in enumerate(own)]
    after = [p + pads[2 * (spatial - 1 - i) + 1] for i, p in enumerate(own)]
    taken = [min(b, a) for b, a in zip(before, after, strict=True)]
    if taken == own:
        return None
    inner = _pad(edit, pad["self"], before, after, taken)
    return edit.emit(CONV, inner, *_with(given, padding=taken))


def _with(given: dict[str, Any], **changes: Any) -> list[Any]:
    """Give a convolution's arguments after the first, some replaced."""
    return [changes.get(name, value) for name, value in given.items()][1:]


def _constant_after(edit: Edit, node: fx.Node) -> tuple[fx.Node, Any] | None:
    """Give (convolution, constant per channel) of a binary call."""
    if node.kwargs:
        return None
    for product, constant in (node.args[:2], node.args[1::-1]):
        if not is_call(product, CONV) or dtype_of(product) != dtype_of(node):
            continue
        shape = shape_of(product)
        vector = per_channel(edit, constant, shape[1], 1, len(shape))
        if vector is not None and same_shape(shape, shape_of(node)):
            return product, vector
    return None


def _add_bias(edit: Edit, node: fx.Node) -> Answer:
    found = _constant_after(edit, node)
    if found is None:
        return None
    product, term = found
    given = arguments(product)
    if not isinstance(term, fx.Node) or dtype_of(term) != dtype_of(node):
        return None
    if given["bias"] is not None and not edit.is_weight(given["bias"]):
        return None
    if not only_user(product, node):
        return No(Reason.USED_ELSEWHERE, f"{product.name} without its bias is needed elsewhere")
    if given["bias"] is not None:
        pair = (given["bias"], term)
        term = exactly(edit, lambda a, b: edit.emit(aten.add.Tensor, a, b), pair, node)
    return edit.emit(CONV, given["input"], *_with(given, bias=term))


def _multiply(edit: Edit, node: fx.Node) -> Answer:
    found = _constant_after(edit, node)
    if found is None or not may_scale(node):
        return None
    product, scale = found
    given = arguments(product)
    weight, bias = given["weight"], given["bias"]
    if not edit.is_weight(weight) or not (bias is None or edit.is_weight(bias)):
        return None
    if not only_user(product, node):
        return No(Reason.USED_ELSEWHERE, f"{product.name} without its factor is needed elsewhere")
    scaled = exactly(edit, lambda w, s: _scaled(edit, given, w, s), (weight, scale), weight)
    if bias is not None:
        pair = (bias, scale)
        bias = exactly(edit, lambda b, s: edit.emit(aten.mul.Tensor, b, s), pair, bias)
    return edit.emit(CONV, given["input"], *_with(given, weight=scaled, bias=bias))


def _scaled(edit: Edit, given: dict[str, Any], weight: fx.Node, scale: Any) -> fx.Node:
    """Multiply a kernel by a factor per output channel."""
    if not isinstance(scale, fx.Node):
        return edit.emit(aten.mul.Tensor, weight, scale)
    shape = list(shape_of(weight))
    tail, groups = [1] * (len(shape) - 2), given["groups"]
    if not given["transposed"]:
        factor = edit.emit(aten.reshape.default, scale, [shape[0], 1, *tail])
        return edit.emit(aten.mul.Tensor, weight, factor)
    # A transposed kernel is [in, out / groups, ...]: its groups follow each other along `in`.
    split = [groups, shape[0] // groups, *shape[1:]]
    parts = edit.emit(aten.reshape.default, weight, split)
    factor = edit.emit(aten.reshape.default, scale, [groups, 1, shape[1], *tail])
    return edit.emit(aten.reshape.default, edit.emit(aten.mul.Tensor, parts, factor), shape)


def _pad_spelling(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x: fx.Node = given["self"]
    if all(isinstance(p, int) and p == 0 for p in given["pad"]):
        return x
    if node.target is not aten.pad.default or given["mode"] != "constant":
        return None
    value = 0.0 if given["value"] is None else given["value"]
    return edit.emit(aten.constant_pad_nd.default, x, given["pad"], value)


RULES: Final = (
    Rule("spell_pad", (aten.pad.default, aten.constant_pad_nd.default), _pad_spelling),
    Rule("spell_convolution", (*_PLAIN, *_TRANSPOSED), _convolution),
    Rule("padding_into_convolution", (CONV,), _take_padding),
    Rule("bias_into_convolution", (aten.add.Tensor,), _add_bias),
)

FOLDS: Final = (Rule("factor_into_convolution", (aten.mul.Tensor,), _multiply),)
"""Apply these after activations are raised, which may want to see the factor."""
