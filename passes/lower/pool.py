"""Pooling of 1-D and 2-D data: windows over channels-last images."""

from collections.abc import Callable, Mapping
from typing import Any

from fusec.ir.extents import of
from fusec.ir.stage import Attr, TileOp, View
from fusec.ir.template import Ref, Row
from fusec.passes.lower.arguments import flag, given, need
from fusec.passes.lower.builder import Lowering, Value
from fusec.passes.lower.convolution import channels_last, logical
from fusec.passes.lower.rule import Rule

__all__ = ["RULES", "image_in", "image_out"]


def image_in(low: Lowering, row: Row, spatial: int) -> View:
    """Give a row's first operand as [N, H, W, C], channels next to each other.

    Raises:
        Refused: it is no float32, or has another number of axes.
    """
    view = low.view(row.args[0])
    need(view.dtype == "float32", f"pooling of {view.dtype}")
    need(len(view.shape) in (1 + spatial, 2 + spatial), f"pooling of rank {len(view.shape)}")
    if len(view.shape) == 1 + spatial:
        strides = (view.shape[0] * view.strides[0], *view.strides)
        view = View(view.slot, view.dtype, (1, *view.shape), strides, view.offset)
    x = channels_last(view)
    if x.strides[3] == 1 or x.shape[3] == 1:
        return x
    copy = low.new(x.dtype, x.shape)
    low.emit(TileOp.COPY, [x], [copy])
    return copy


def image_out(low: Lowering, row: Row, x: View, spatial: int) -> tuple[View, View]:
    """Make a row's result: as [N, H, W, C], and as the template sees it.

    Raises:
        Refused: it is no float32.
    """
    spec = low.out(row)
    need(spec.dtype == "float32", f"pooling to {spec.dtype}")
    shape = tuple(map(of, spec.shape))
    unbatched = len(shape) == 1 + spatial
    full = (1, *shape) if unbatched else shape
    height = full[2] if spatial == 2 else 1
    y = low.new("float32", (full[0], height, full[-1], full[1]))
    need(x.shape[3] == full[1] and x.shape[0] == full[0], f"{shape} of {x.shape}")
    seen = logical(y, len(full))
    if unbatched:
        seen = View(seen.slot, seen.dtype, seen.shape[1:], seen.strides[1:], 0)
    return y, seen


def _numbers(low: Lowering, row: Row, position: int, name: str, missing: int) -> tuple[int, int]:
    """Give height and width of a list that may have one number for all axes, or none."""
    spatial = 1 if "1d" in row.op else 2
    value = given(row, position, name, ())
    numbers = low.ints(value) if value != () else (missing,)
    if not numbers:
        return (-1, -1)
    numbers = numbers * spatial if len(numbers) == 1 else numbers
    need(len(numbers) == spatial, f"{name} of {len(numbers)} axes")
    return (missing, numbers[0]) if spatial == 1 else (numbers[0], numbers[1])


def _only_values(low: Lowering, row: Row) -> None:
    """Refuse a row that gives indices too, unless nobody looks at them."""
    me = Ref(len(low.template.body.arguments) + low.row)
    body = low.template.body
    used = any(me in r.args and not (r.op == "getitem" and r.args[1] == 0) for r in body.rows)
    need(not used and me not in body.results, "the indices are used")


def _emit(low: Lowering, row: Row, mode: str, **attrs: Attr) -> Value:
    spatial = 1 if "1d" in row.op else 2
    x = image_in(low, row, spatial)
    y, seen = image_out(low, row, x, spatial)
    named: dict[str, Any] = {"mode": mode, **attrs}
    low.emit(TileOp.POOL, [x], [y], **named)
    if not isinstance(row.out, tuple):
        return seen
    _only_values(low, row)
    spec = low.out(row, 1)
    shape = tuple(map(of, spec.shape))
    # Nobody reads it: one element stands for all.
    return (seen, View(low.new_flat(spec.dtype, 1), spec.dtype, shape, (0,) * len(shape), 0))


def _windows(low: Lowering, row: Row) -> dict[str, Attr]:
    kernel = _numbers(low, row, 1, "kernel_size", 1)
    stride = _numbers(low, row, 2, "stride", -1)
    # -1: as the kernel; a line has no height to step.
    stride = (
        kernel[0] if stride[0] == -1 else stride[0],
        kernel[1] if stride[1] == -1 else stride[1],
    )
    need(min(*kernel, *stride) > 0, "a window or step of nothing")
    return {"kernel": kernel, "stride": stride, "padding": _numbers(low, row, 3, "padding", 0)}


def _max(low: Lowering, row: Row) -> Value:
    return _emit(
        low, row, "max", dilation=_numbers(low, row, 4, "dilation", 1), **_windows(low, row)
    )


def _avg(low: Lowering, row: Row) -> Value:
    include = given(row, 5, "count_include_pad", True)
    divisor = given(row, 6, "divisor_override")
    need(isinstance(include, bool), f"count_include_pad is {include!r}")
    need(divisor is None or (type(divisor) is int and divisor != 0), f"divisor is {divisor!r}")
    return _emit(
        low, row, "avg", include_pad=bool(include),
        divisor=divisor if isinstance(divisor, int) else 0,
        **_windows(low, row),
    )  # fmt: skip


def _adaptive(mode: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        return _emit(low, row, mode)

    return rule


def _resize(mode: str, corners: bool) -> Callable[[Lowering, Row], Value]:
    def rule(low: Lowering, row: Row) -> Value:
        spatial = 1 if "1d" in row.op else 2
        x = image_in(low, row, spatial)
        y, seen = image_out(low, row, x, spatial)
        align = corners and flag(row, 2, "align_corners")
        low.emit(
            TileOp.POOL, [x], [y], mode=mode, align_corners=align,
            scales=_scales(low, row, spatial, 3 if corners else 2),
        )  # fmt: skip
        return seen

    return rule


def _scales(low: Lowering, row: Row, spatial: int, position: int) -> tuple[float, float]:
    """Give source pixels per output pixel where the row says so, else 0."""
    if row.op.endswith(".vec"):
        value = low.value(given(row, position, "scale_factors"))
    else:
        names = ("scales",) if spatial == 1 else ("scales_h", "scales_w")
        value = tuple(low.value(given(row, position + i, n)) for i, n in enumerate(names))
    factors = (None,) * spatial if value is None else value
    need(isinstance(factors, tuple) and len(factors) == spatial, f"scales {value!r}")
    assert isinstance(factors, tuple)
    result = []
    for factor in factors:
        need(factor is None or isinstance(factor, float | int), f"scale {factor!r}")
        known = isinstance(factor, float | int) and factor > 0
        result.append(1.0 / factor if known and isinstance(factor, float | int) else 0.0)
    return (0.0, result[0]) if spatial == 1 else (result[0], result[1])


RULES: Mapping[str, Rule] = {
    "aten.max_pool1d.default": _max,
    "aten.max_pool2d.default": _max,
    "aten.max_pool1d_with_indices.default": _max,
    "aten.max_pool2d_with_indices.default": _max,
    "aten.avg_pool1d.default": _avg,
    "aten.avg_pool2d.default": _avg,
    "aten.adaptive_avg_pool1d.default": _adaptive("adaptive_avg"),
    "aten.adaptive_avg_pool2d.default": _adaptive("adaptive_avg"),
    "aten._adaptive_avg_pool2d.default": _adaptive("adaptive_avg"),
    "aten.adaptive_max_pool1d.default": _adaptive("adaptive_max"),
    "aten.adaptive_max_pool2d.default": _adaptive("adaptive_max"),
    **{
        f"aten.{name}.{overload}": _resize(mode, corners)
        for name, mode, corners in (
            ("upsample_nearest1d", "nearest", False),
            ("upsample_nearest2d", "nearest", False),
            ("_upsample_nearest_exact1d", "nearest_exact", False),
            ("_upsample_nearest_exact2d", "nearest_exact", False),
            ("upsample_linear1d", "bilinear", True),
            ("upsample_bilinear2d", "bilinear", True),
        )
        for overload in ("vec", "default")
    },
}
