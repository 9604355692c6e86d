"""Resize (every opset) and Upsample: scales, sizes and which axes change."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.resample import Axis, Rule, resample
from fusec.importers.onnx.ops.support import axes_of
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, ints, is_symbolic

Tensor = torch.Tensor

_CENTRED: Final = frozenset({"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"})


def _rule(call: Call) -> Rule:
    if call.op == "Upsample" or call.opset < 11:
        # Before opset 11: asymmetric, and the pixel below when growing, above when shrinking.
        return Rule(mode=call.attr("mode", "nearest"), transform="asymmetric", nearest="simple")
    return Rule(
        mode=call.attr("mode", "nearest"),
        transform=call.attr("coordinate_transformation_mode", "half_pixel"),
        nearest=call.attr("nearest_mode", "round_prefer_floor"),
        cubic=call.attr("cubic_coeff_a", -0.75),
        exclude_outside=bool(call.attr("exclude_outside", 0)),
        extrapolation=call.attr("extrapolation_value", 0.0),
        antialias=bool(call.attr("antialias", 0)),
    )


def _resize(
    call: Call,
    x: Tensor,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Tensor:
    if call.opset < 11:
        roi, scales = None, roi
    return _run(call, x, _rule(call), roi, scales, sizes)


def _upsample(call: Call, x: Tensor, scales: Array | None = None) -> Tensor:
    given: Any = scales if scales is not None else call.attr("scales")
    return _run(call, x, _rule(call), None, given, None)


def _run(call: Call, x: Tensor, rule: Rule, roi: Any, scales: Any, sizes: Any) -> Tensor:
    mode = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}
    rule = dataclasses.replace(rule, mode=mode.get(rule.mode, rule.mode))
    if rule.mode not in ("nearest", "linear", "cubic"):
        call.fail(f"mode is '{rule.mode}'; known are nearest, linear, cubic")
    given = call.attr("axes", None)
    where = list(range(x.ndim)) if given is None else axes_of(call, given, x.ndim)
    axes = _axes(call, x, where, scales, sizes)
    if roi is not None and roi.size and rule.transform == "tf_crop_and_resize":
        half = len(where)
        axes = [
            dataclasses.replace(axis, start=float(roi[i]), end=float(roi[i + half]))
            for i, axis in enumerate(axes)
        ]
    changed = [axis for axis in axes if not axis.idle]
    if not changed:
        return x
    if x.is_floating_point():
        stretched = call.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
        exact = stretched and sizes is not None and sizes.size > 0
        whole = _whole(x, rule, changed, exact=exact)
        return resample(x, rule, changed) if whole is None else whole
    if rule.mode == "nearest" and rule.transform != "tf_crop_and_resize":
        return resample(x, rule, changed)
    info = torch.iinfo(x.dtype)
    return resample(x.to(torch.float32), rule, changed).clamp(info.min, info.max).to(x.dtype)


def _axes(call: Call, x: Tensor, where: Sequence[int], scales: Any, sizes: Any) -> list[Axis]:
    if sizes is not None and sizes.size:
        return _by_sizes(call, x, where, sizes)
    if scales is None or not len(scales):
        call.fail("has neither scales nor sizes")
    return [_by_scale(index, x.shape[index], s) for index, s in zip(where, scales, strict=True)]


def _by_scale(index: int, size: Any, scale: Any) -> Axis:
    if isinstance(scale, (torch.SymFloat, torch.SymInt)):
        return Axis(index=index, size=size, out=_whole_size(size * scale), scale=scale)
    factor = float(scale)
    out: Any
    if factor.is_integer():
        out = size * int(factor)
    elif (1 / factor).is_integer():
        out = size // int(1 / factor)
    else:
        # In float32, as ONNX Runtime: 26 * (63 / 26) must be 63.
        known = isinstance(size, int)
        out = int(np.float32(size) * np.float32(factor)) if known else _whole_size(size * factor)
    return Axis(index=index, size=size, out=out, scale=factor)


def _whole_size(size: Any) -> Any:
    return torch.sym_int(size)  # type: ignore[no-untyped-call]


def _by_sizes(call: Call, x: Tensor, where: Sequence[int], sizes: Array) -> list[Axis]:
    wanted = ints(sizes)
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [
            Axis(index=i, size=x.shape[i], out=out, scale=out / x.shape[i])
            for i, out in zip(where, wanted, strict=True)
        ]
    if policy not in ("not_larger", "not_smaller"):
        call.fail(f"keep_aspect_ratio_policy is '{policy}'")
    if is_symbolic(sizes) or not all(isinstance(x.shape[i], int) for i in where):
        call.fail(f"keep_aspect_ratio_policy '{policy}' needs fixed extents; bind the input sizes")
    ratios = [int(out) / x.shape[i] for i, out in zip(where, wanted, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [
        Axis(index=i, size=x.shape[i], out=math.floor(ratio * x.shape[i] + 0.5), scale=ratio)
        for i in where
    ]


def _whole(x: Tensor, rule: Rule, axes: Sequence[Axis], *, exact: bool) -> Tensor | None:
    """Return torch's own interpolation where it is the same function, else None.

    `exact` says that each scale is the quotient of the extents, which is what torch takes it for.
    """
    rank = x.ndim - 2
    if rank not in (1, 2, 3) or axes[0].index < 2 or rule.antialias or rule.exclude_outside:
        return None
    sizes = list(x.shape[2:])
    for axis in axes:
        sizes[axis.index - 2] = axis.out
    if rule.mode == "nearest":
        # Whole upscaling: every rule that is centred, or floors from the corner, repeats pixels.
        grows = all(isinstance(a.scale, float) and a.scale.is_integer() for a in axes)
        centred = rule.transform in _CENTRED and rule.nearest.startswith("round")
        corner = rule.transform == "asymmetric" and rule.nearest in ("floor", "simple")
        if grows and (centred or corner):
            return F.interpolate(x, size=sizes, mode="nearest")
        return None
    exact = exact or all(
        isinstance(a.scale, float)
        and (a.scale.is_integer() or (isinstance(a.size, int) and a.out == a.size * a.scale))
        for a in axes
    )
    single = any(isinstance(a.out, int) and a.out == 1 for a in axes)
    if not exact or single or rule.cubic != -0.75:
        return None
    corners = rule.transform == "align_corners"
    if not corners and rule.transform not in _CENTRED:
        return None
    if rule.mode == "cubic":
        if rank != 2:
            return None
        return F.interpolate(x, size=sizes, mode="bicubic", align_corners=corners)
    name = ("linear", "bilinear", "trilinear")[rank - 1]
    return F.interpolate(x, size=sizes, mode=name, align_corners=corners)


OPS: Final[Mapping[str, Op]] = {
    "Resize": Op(run=_resize, host=frozenset({1, 2, 3})),
    "Upsample": Op(run=_upsample, host=frozenset({1})),
}
