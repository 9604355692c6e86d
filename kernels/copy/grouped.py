"""A copy stage for the grouped pointwise kernel: its program only moves, or counts."""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, PointProgram, PointStep, Stage, View
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.pointwise.grouped import over_frame

__all__ = ["grouped"]

_BITS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}
"""Bytes of an element -> the dtype that moves them."""


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped | None:
    """Spell a copy stage for its grouped kernel; None for elements of 16 bytes.

    Args:
        stage: of op `copy`.
        buffers: of the lowered template.
    """
    if dict(stage.attrs).get("form") == "arange":
        return over_frame(_numbers(stage), stage.writes, buffers)
    source, target = (_plain(view) for view in (stage.reads[0], stage.writes[0]))
    if source is None or target is None:
        return None
    program = PointProgram(shape=target.shape, operands=(source,), steps=(), results=(0,))
    return over_frame(program, (target,), buffers)


def _plain(view: View) -> View | None:
    bits = _BITS.get(itemsize_bytes(view.dtype))
    return None if bits is None else replace(view, dtype=bits)


def _numbers(stage: Stage) -> PointProgram:
    """Count: start + column * step; floats in doubles, rounded once."""
    (target,) = stage.writes
    floats = target.dtype == "float32"
    kind, dtype = ("f64", "float64") if floats else ("i64", "int64")
    ops = [("mul", _number(stage, "step", floats)), ("add", _number(stage, "start", floats))]
    steps = [PointStep("f64_of_i64", (0,), "float64", None)] if floats else []
    for op, number in ops:
        steps.append(PointStep(f"{op}_{kind}", (len(steps),), dtype, number))
    if target.dtype != dtype:
        last = "f32_of_f64" if floats else "i32_of_i64"
        steps.append(PointStep(last, (len(steps),), target.dtype, None))
    return PointProgram(
        shape=target.shape, operands=(None,), steps=tuple(steps), results=(len(steps),)
    )


def _number(stage: Stage, name: str, floats: bool) -> Extent | float:
    value = stage.attr(name)
    assert value is not None and not isinstance(value, str | tuple)
    if isinstance(value, int | float):
        return float(value) if floats else int(value)
    return value
