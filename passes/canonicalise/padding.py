"""Padding by what is there, and windows of an image, in plainer operators.

reflect, replicate, circular  ->  cat(before, x, behind), axis by axis
im2col                        ->  windows along both axes, moved in front of the places
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape

__all__ = ["RULES"]

aten = torch.ops.aten

_MODES: Final[dict[Any, str]] = {
    getattr(aten, f"{name}_pad{n}d").default: mode
    for name, mode in (("reflection", "reflect"), ("replication", "replicate"))
    for n in (1, 2, 3)
}


def _pad(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    mode = _MODES.get(node.target) or given["mode"]
    pads: list[Any] = given["padding"] if "padding" in given else given["pad"]
    x: fx.Node = given["self"]
    if not all(isinstance(p, int) for p in pads):
        return None
    if mode == "constant":
        value = given["value"]
        return edit.emit(aten.constant_pad_nd.default, x, pads, 0.0 if value is None else value)
    rank = len(shape_of(x))
    for i in range(len(pads) // 2):
        padded = _padded(edit, x, rank - 1 - i, pads[2 * i : 2 * i + 2], mode)
        if padded is None:
            return None
        x = padded
    return x


def _padded(edit: Edit, x: fx.Node, axis: int, pads: Sequence[int], mode: str) -> fx.Node | None:
    size = shape_of(x)[axis]
    before, behind = pads
    if before == behind == 0:
        return x
    if not isinstance(size, int) or before < 0 or behind < 0:
        return None

    def part(start: int, end: int) -> fx.Node:
        return edit.emit(aten.slice.Tensor, x, axis, start, end)

    def turned(start: int, end: int) -> fx.Node:
        return edit.emit(aten.flip.default, part(start, end), [axis])

    def repeated(start: int, times: int) -> fx.Node:
        sizes = [-1] * len(shape_of(x))
        sizes[axis] = times
        return edit.emit(aten.expand.default, part(start, start + 1), sizes)

    parts: list[fx.Node] = [x]
    if before:
        parts.insert(0, {
            "reflect": lambda: turned(1, before + 1),
            "replicate": lambda: repeated(0, before),
            "circular": lambda: part(size - before, size),
        }[mode]())  # fmt: skip
    if behind:
        parts.append({
            "reflect": lambda: turned(size - behind - 1, size - 1),
            "replicate": lambda: repeated(size - 1, behind),
            "circular": lambda: part(0, behind),
        }[mode]())  # fmt: skip
    return edit.emit(aten.cat.default, parts, axis)


def _windows(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x: fx.Node = given["self"]
    kernel, dilation = given["kernel_size"], given["dilation"]
    (above, left), stride = given["padding"], given["stride"]
    if not all(isinstance(d, int) for d in shape_of(x)[-2:]):
        # Windows along an extent that varies would fix it.
        return None
    if above or left:
        x = edit.emit(aten.constant_pad_nd.default, x, [left, left, above, above])
    rank = len(shape_of(x))
    for axis, k, d, s in zip((rank - 2, rank - 1), kernel, dilation, stride, strict=True):
        x = edit.emit(aten.unfold.default, x, axis, d * (k - 1) + 1, s)
        x = edit.emit(aten.slice.Tensor, x, len(shape_of(x)) - 1, 0, None, d)
    batch = list(range(rank - 2))
    moved = permute(edit, x, [*batch, rank, rank + 1, rank - 2, rank - 1])
    return reshape(edit, moved, shape_of(node))


RULES: Final = (
    Rule("pad_to_cat", (*_MODES, aten.pad.default), _pad),
    Rule("im2col_to_windows", (aten.im2col.default,), _windows),
)
