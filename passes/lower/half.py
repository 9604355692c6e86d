"""Rows of half-width numbers for cards: the rules of float32, then each view named by its memory.

Kernels for cards read float16 and bfloat16, compute in float32 and round what they store. So a rule
is shown such operands and results as float32, and what it emitted is named anew:

    a view of a half-width buffer                is half-width
    a buffer that a copy of one fills            is, too
    any other new float32 buffer                 is, if the row's results are

A pointwise program rounds its results in registers, where a later step may be joined to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fusec.ir.stage import PointProgram, PointStep, Stage, TileOp, View
from fusec.ir.template import Arg, DType, Ref, Row, Spec, TensorSpec
from fusec.kernels.pointwise.steps import cast_steps
from fusec.kernels.triton_table import grouped
from fusec.passes.lower.builder import HALVES, Lowering, Refused, Value
from fusec.passes.lower.rule import Rule

__all__ = ["lower_half", "widened_spec"]


def lower_half(low: Lowering, row: Row, rule: Rule) -> Value:
    """Lower a row of float16 or bfloat16.

    Args:
        low: the lowering.
        row: the row.
        rule: what lowers it in float32.

    Raises:
        Refused: there is nothing half-width, or both kinds are; the rule does not take it; cards
            have no kernel for what it emits.
    """
    kinds = set(_kinds(low, row))
    if len(kinds) != 1:
        raise Refused(f"widths {sorted(kinds)}")
    (half,) = kinds
    buffers, stages = len(low.buffers), len(low.stages)
    low.widens = True
    try:
        value = rule(low, _widened(row))
    finally:
        low.widens = False
    results = any(spec.dtype == half for spec in _specs(row.out))
    dtypes = {slot: b.dtype for slot, b in enumerate(low.buffers) if slot < buffers}
    copied = {s.writes[0].slot: s.reads[0].slot for s in low.stages[stages:] if s.op is TileOp.COPY}
    for slot in range(buffers, len(low.buffers)):
        own = low.buffers[slot].dtype
        if own == "float32":
            # A copy reads what was there before, or what a stage before it made.
            source = dtypes.get(copied.get(slot, -1))
            narrow = source == half if source is not None else results
            own = half if narrow else own
        dtypes[slot] = own
        low.buffers[slot] = replace(low.buffers[slot], dtype=own)
    for at in range(stages, len(low.stages)):
        low.stages[at] = _stage(low.stages[at], dtypes)
        if grouped(low.stages[at], low.buffers) is None:
            raise Refused(f"cards have no {low.stages[at].op} of {half}")
    return _renamed(value, dtypes)


def widened_spec(spec: TensorSpec) -> TensorSpec:
    """Give a spec with float32 in place of a half-width dtype."""
    return replace(spec, dtype="float32") if spec.dtype in HALVES else spec


def _kinds(low: Lowering, row: Row) -> Iterator[str]:
    body = low.template.body
    for spec in (*_specs(row.out), *(s for n in _references(row) for s in _specs(body.spec_of(n)))):
        if spec.dtype in HALVES:
            yield spec.dtype


def _references(row: Row) -> Iterator[Ref]:
    todo: list[Arg] = [*row.args, *(v for _, v in row.kwargs)]
    while todo:
        arg = todo.pop()
        if isinstance(arg, Ref):
            yield arg
        elif isinstance(arg, tuple):
            todo += arg


def _specs(spec: Spec) -> Sequence[TensorSpec]:
    if isinstance(spec, TensorSpec):
        return (spec,)
    return tuple(s for item in spec for s in _specs(item)) if isinstance(spec, tuple) else ()


def _widened(row: Row) -> Row:
    return replace(
        row,
        args=tuple(map(_wide_arg, row.args)),
        kwargs=tuple((name, _wide_arg(arg)) for name, arg in row.kwargs),
        out=_wide_spec(row.out),
    )


def _wide_arg(arg: Arg) -> Arg:
    if isinstance(arg, tuple):
        return tuple(map(_wide_arg, arg))
    return DType("float32") if isinstance(arg, DType) and arg.name in HALVES else arg


def _wide_spec(spec: Spec) -> Spec:
    if isinstance(spec, tuple):
        return tuple(map(_wide_spec, spec))
    return widened_spec(spec) if isinstance(spec, TensorSpec) else spec


def _stage(stage: Stage, dtypes: dict[int, str]) -> Stage:
    writes = tuple(_view(v, dtypes) for v in stage.writes)
    point = stage.point and _program(stage.point, writes, dtypes)
    return replace(
        stage, reads=tuple(_view(v, dtypes) for v in stage.reads), writes=writes, point=point
    )


def _program(point: PointProgram, writes: Sequence[View], dtypes: dict[int, str]) -> PointProgram:
    operands = tuple(v and _view(v, dtypes) for v in point.operands)
    steps = list(point.steps)
    results = []
    for write, register in zip(writes, point.results, strict=True):
        operand = operands[register] if register < len(operands) else None
        known = operand.dtype if operand else point.steps[register - len(operands)].dtype
        rounded = cast_steps(known, write.dtype) if write.dtype in HALVES else ()
        for name, dtype in rounded:
            steps.append(PointStep(name, (register,), dtype, None))
            register = len(operands) + len(steps) - 1
        results.append(register)
    return replace(point, operands=operands, steps=tuple(steps), results=tuple(results))


def _view(view: View, dtypes: dict[int, str]) -> View:
    own = dtypes[view.slot]
    return replace(view, dtype=own) if view.dtype == "float32" and own in HALVES else view


def _renamed(value: Value, dtypes: dict[int, str]) -> Value:
    if isinstance(value, tuple):
        return tuple(_renamed(v, dtypes) for v in value)
    return _view(value, dtypes) if isinstance(value, View) else value
