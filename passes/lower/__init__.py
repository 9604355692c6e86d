"""Lower a template to stages. Nothing here needs torch: plans are lowered again when loaded.

rows -> rule of the table -> stages over views -> outputs in buffers of their own
"""

from collections.abc import Set

from fusec.ir.errors import UnsupportedError
from fusec.ir.extents import of, product
from fusec.ir.stage import Buffer, BufferKind, Lowered, TileOp, View, dense, plain_layout
from fusec.ir.template import Arg, Ref, Row, Template, TensorSpec
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.check import check_result
from fusec.passes.lower.extern import ReadsPlain, extern
from fusec.passes.lower.half import lower_half
from fusec.passes.lower.packing import layouts_of
from fusec.passes.lower.rule import FAULTS, Rule
from fusec.passes.lower.settle import Settled, settle
from fusec.passes.lower.table import LOWERINGS

__all__ = ["lower"]


def lower(
    template: Template, *, strict: bool = False, stored: str | None = None, card: bool = False
) -> Lowered:
    """Lower a template.

    Rows without a lowering, or which their lowering refuses, become extern stages.

    Args:
        template: what to lower.
        strict: let a rule fail over what it did not foresee, so that tests see it. A file that
            was tampered with holds such rows; PyTorch then says what is wrong with them.
        stored: "bfloat16" stores so the packed weights whose kernels read it.
        card: for kernels of cards, which read half-width numbers too; in float32 nothing differs.

    Raises:
        UnsupportedError: an input or result is no tensor, or a row can neither be lowered nor be
            an extern stage.
    Cost: milliseconds per hundred rows; weights are not looked at.
    """
    _check_ends(template)
    settled = settle(template)
    template = settled.template(template)
    plain: set[int] = set()
    while True:
        try:
            return _lower(template, settled, plain, strict, stored, card)
        except ReadsPlain as e:
            plain.add(e.weight)


def _lower(
    template: Template,
    settled: Settled,
    plain: Set[int],
    strict: bool,
    stored: str | None,
    card: bool,
) -> Lowered:
    """Lower with some weights left as they are."""
    layouts = [
        plain_layout(shape) if number in plain else layout
        for number, (layout, shape) in enumerate(
            zip(layouts_of(template, stored, card), _weight_shapes(template), strict=True)
        )
    ]
    low = Lowering(template, layouts)
    first = len(template.body.arguments)
    for i in range(len(template.body.rows)):
        low.row = i
        low.values[first + i] = settled.value(_lower_row(low, i, strict, card))
    outputs, shapes = [], []
    for number, result in enumerate(template.body.results):
        spec = template.body.spec_of(result)
        assert isinstance(spec, TensorSpec)
        shape = tuple(of(d) for d in spec.shape)
        view = _result(low, result)
        slot = len(low.buffers)
        out = dense(slot, spec.dtype, shape)
        low.buffers.append(
            Buffer(
                kind=BufferKind.OUTPUT,
                dtype=spec.dtype,
                elements=product(shape),
                index=number,
            )
        )
        low.emit(TileOp.COPY, [view], [out])
        outputs.append(slot)
        shapes.append(shape)
    n = template.n_inputs
    return Lowered(
        buffers=tuple(low.buffers),
        stages=tuple(low.stages),
        inputs=tuple(range(n)),
        outputs=tuple(outputs),
        output_shapes=tuple(shapes),
        weights=tuple(range(n, first)),
        weight_shapes=_weight_shapes(template),
        layouts=low.layouts,
    )


def _weight_shapes(template: Template) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(int(d) for d in spec.shape)
        for spec in template.weights
        if isinstance(spec, TensorSpec)
    )


def _check_ends(template: Template) -> None:
    for spec in template.body.arguments:
        if not isinstance(spec, TensorSpec):
            raise UnsupportedError(f"no stages for an input that is {spec!r}")
    for result in template.body.results:
        if not isinstance(result, Ref):
            raise UnsupportedError(f"no stages for a result that is {result!r}")
        if not isinstance(template.body.spec_of(result), TensorSpec):
            raise UnsupportedError("no stages for a result that is no tensor")


def _result(low: Lowering, result: Arg) -> View:
    try:
        return low.view(result)
    except Refused as e:
        raise UnsupportedError(f"no stages for a result: {e}") from e


def _lower_row(low: Lowering, number: int, strict: bool, card: bool) -> Value:
    row = low.template.body.rows[number]
    rule = LOWERINGS.get(row.op)
    for way in () if rule is None else (_as_it_is, lower_half) if card else (_as_it_is,):
        assert rule is not None
        buffers, stages = len(low.buffers), len(low.stages)
        caught = (Refused,) if strict else (Refused, *FAULTS)
        try:
            value = way(low, row, rule)
            check_result(row, value)
            return value
        except caught:
            del low.buffers[buffers:], low.stages[stages:]
    try:
        return extern(low, row)
    except Refused as e:
        raise UnsupportedError(f"no stages for row {number}: {e}") from e


def _as_it_is(low: Lowering, row: Row, rule: Rule) -> Value:
    return rule(low, row)
