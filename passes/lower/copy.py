"""Operators that put elements elsewhere: concatenate, pad, repeat, turn round; and constants."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusec.ir.extents import Extent, Poly
from fusec.ir.stage import PointProgram, PointStep, TileOp, View
from fusec.ir.template import Row
from fusec.kernels.pointwise.steps import CLASS_OF
from fusec.passes.lower.arguments import axis_of, given, moved, need, shape_of
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.formula import Formula, Number
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]


def _part(view: View, axis: int, start: Extent, extent: Extent) -> View:
    """See a range along an axis."""
    shape = (*view.shape[:axis], extent, *view.shape[axis + 1 :])
    return replace(view, shape=shape, offset=view.offset + start * view.strides[axis])


def _tensors(low: Lowering, row: Row) -> list[View]:
    parts = row.args[0]
    if not isinstance(parts, tuple):
        raise Refused("operands that are no list")
    views = [low.view(p) for p in parts]
    need(all(v.dtype == low.out(row).dtype for v in views), "operands of several dtypes")
    return views


def _cat(low: Lowering, row: Row) -> Value:
    shape = shape_of(low, row)
    axis = axis_of(low, given(row, 1, "dim", 0), len(shape))
    parts = _tensors(low, row)
    out = low.new_like(parts, low.out(row).dtype, shape)
    start: Extent = 0
    for part in parts:
        if part.shape == (0,) and len(shape) > 1:
            continue  # torch takes an empty row for an empty tensor of any shape
        need(len(part.shape) == len(shape), "operands of several ranks")
        target = _part(out, axis, start, part.shape[axis])
        need(part.shape == target.shape, f"{part.shape} into {target.shape}")
        low.emit(TileOp.COPY, [part], [target])
        start = start + part.shape[axis]
    need(start == shape[axis], "parts that do not add up")
    return out


def _stack(low: Lowering, row: Row) -> Value:
    shape = shape_of(low, row)
    axis = axis_of(low, given(row, 1, "dim", 0), len(shape))
    out = low.new(low.out(row).dtype, shape)
    for i, part in enumerate(_tensors(low, row)):
        place = _part(out, axis, i, 1)
        target = replace(
            place,
            shape=place.shape[:axis] + place.shape[axis + 1 :],
            strides=place.strides[:axis] + place.strides[axis + 1 :],
        )
        need(part.shape == target.shape, f"{part.shape} into {target.shape}")
        low.emit(TileOp.COPY, [part], [target])
    return out


def _fill(low: Lowering, target: View, value: Number) -> None:
    """Emit a stage that writes a number everywhere."""
    need(target.dtype in CLASS_OF, f"constants of {target.dtype}")
    fitted = Formula.fitting(value, target.dtype)
    step = PointStep(f"const_{CLASS_OF[target.dtype]}", (), target.dtype, fitted)
    program = PointProgram(shape=target.shape, operands=(), steps=(step,), results=(0,))
    low.emit(TileOp.POINTWISE, (), [target], point=program)


def _number(low: Lowering, row: Row, position: int, name: str, default: Number) -> Number:
    value = low.value(given(row, position, name, None))
    if value is None:
        return default
    if isinstance(value, View | tuple):
        raise Refused(f"{name} is no number")
    return value


def _pad(low: Lowering, row: Row) -> Value:
    """Copy into the middle; what is around is filled slab by slab, each place once."""
    x, shape = low.view(row.args[0]), shape_of(low, row)
    pads = low.ints(row.args[1])
    value = _number(low, row, 2, "value", 0)
    out = low.new_like([x], x.dtype, shape)
    middle = out
    for i in range(len(pads) // 2):
        axis = len(shape) - 1 - i
        before, after = pads[2 * i], pads[2 * i + 1]
        x = _part(x, axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
        inside = x.shape[axis]
        need(not isinstance(inside, int) or inside >= 0, "nothing is left")
        need(inside + max(before, 0) + max(after, 0) == shape[axis], "another shape")
        if before > 0:
            _fill(low, _part(middle, axis, 0, before), value)
        if after > 0:
            _fill(low, _part(middle, axis, inside + max(before, 0), after), value)
        middle = _part(middle, axis, max(before, 0), inside)
    low.emit(TileOp.COPY, [x], [middle])
    return out


def _flip(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    offset, strides = x.offset, list(x.strides)
    for axis in {a % len(x.shape) for a in low.ints(row.args[1])}:
        offset = offset + (x.shape[axis] - 1) * strides[axis]
        strides[axis] = strides[axis] * -1
    out = low.new_like([x], x.dtype, x.shape)
    need(all(e != 0 for e in x.shape), "nothing to turn round")
    low.emit(TileOp.COPY, [replace(x, offset=offset, strides=tuple(strides))], [out])
    return out


def _roll(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    shifts, axes = low.ints(row.args[1]), low.ints(given(row, 2, "dims", ()))
    need(len(shifts) == len(axes), "a roll of all elements")
    for shift, axis_ in zip(shifts, axes, strict=True):
        axis = axis_ % len(x.shape)
        n = x.shape[axis]
        if not isinstance(n, int) or n == 0:
            raise Refused("a roll along a symbolic or empty axis")
        by = shift % n
        out = low.new_like([x], x.dtype, x.shape)
        low.emit(TileOp.COPY, [_part(x, axis, 0, n - by)], [_part(out, axis, by, n - by)])
        if by:
            low.emit(TileOp.COPY, [_part(x, axis, n - by, by)], [_part(out, axis, 0, by)])
        x = out
    return x


def _repeat(low: Lowering, row: Row) -> Value:
    """Copy in the shape (times, extent) per axis, where the source does not move along times."""
    x, shape = low.view(row.args[0]), shape_of(low, row)
    value = low.value(row.args[1])
    times = value if isinstance(value, tuple) else (value,)
    ones = (1,) * (len(shape) - len(times))  # tile may name fewer axes than there are
    counts: list[Extent] = [*ones]
    for n in times:
        need(isinstance(n, int | Poly) and not isinstance(n, bool), "a count that is no integer")
        assert isinstance(n, int | Poly)
        counts.append(n)
    extra = len(shape) - len(x.shape)
    extents = (*(1,) * extra, *x.shape)
    steps = (*(0,) * extra, *x.strides)
    out = low.new(x.dtype, shape)
    pairs = list(zip(counts, extents, strict=True))
    need(all(n * e == total for (n, e), total in zip(pairs, shape, strict=True)), "another shape")
    both = tuple(e for pair in pairs for e in pair)
    source = tuple(s for step in steps for s in (0, step))
    target = tuple(
        s for step, extent in zip(out.strides, extents, strict=True) for s in (step * extent, step)
    )
    low.emit(
        TileOp.COPY,
        [View(x.slot, x.dtype, both, source, x.offset)],
        [View(out.slot, out.dtype, both, target, out.offset)],
    )
    return out


def _pixel_shuffle(low: Lowering, row: Row) -> Value:
    x, shape = low.view(row.args[0]), shape_of(low, row)
    (r,) = low.ints(row.args[1])
    *outer, _, height, width = x.shape
    apart = low.reshaped(x, (*outer, shape[-3], r, r, height, width))
    n = len(outer)
    turned = moved(apart, [*range(n), *(n + i for i in (0, 3, 1, 4, 2))])
    return low.reshaped(turned, shape)


def _constant(default: Number | None, position: int = 1) -> Rule:
    """Make the rule of a tensor that is the same everywhere."""

    def rule(low: Lowering, row: Row) -> Value:
        value = _number(low, row, position, "fill_value", 0) if default is None else default
        out = low.new(low.out(row).dtype, shape_of(low, row))
        _fill(low, out, value)
        return out

    return rule


def _arange(low: Lowering, row: Row) -> Value:
    """Number elements; the last operand but one, the end, shows in the result's shape."""
    start: Number = 0 if len(row.args) == 1 else _number(low, row, 0, "start", 0)
    step = _number(low, row, 2, "step", 1)
    dtype = low.out(row).dtype
    need(dtype in ("int64", "int32", "float32"), f"numbers of {dtype}")
    numbers = (start, step)
    if dtype == "float32":
        need(not any(isinstance(n, Poly) for n in numbers), "symbolic floats")
        numbers = tuple(float(n) for n in numbers if not isinstance(n, Poly))  # type: ignore[assignment]
    else:
        need(all(isinstance(n, int | Poly) for n in numbers), "integers counted by floats")
    out = low.new(dtype, shape_of(low, row))
    low.emit(TileOp.COPY, [], [out], form="arange", start=numbers[0], step=numbers[1])
    return out


def _names(operators: Sequence[str], rule: Rule) -> Mapping[str, Rule]:
    return {f"aten.{name}": rule for name in operators}


RULES: Mapping[str, Rule] = {
    "aten.cat.default": _cat,
    "aten.concat.default": _cat,
    "aten.stack.default": _stack,
    "aten.constant_pad_nd.default": _pad,
    "aten.flip.default": _flip,
    "aten.roll.default": _roll,
    "aten.repeat.default": _repeat,
    "aten.tile.default": _repeat,
    "aten.pixel_shuffle.default": _pixel_shuffle,
    **_names(("full.default", "full_like.default"), _constant(None)),
    "aten.new_full.default": _constant(None, 2),
    "aten.scalar_tensor.default": _constant(None, 0),
    **_names(("zeros.default", "zeros_like.default", "new_zeros.default"), _constant(0)),
    **_names(("ones.default", "ones_like.default", "new_ones.default"), _constant(1)),
    **_names(("arange.start_step", "arange.start", "arange.default"), _arange),
}
