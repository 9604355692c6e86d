"""Which weights are packed how: decided before any row is lowered, from all uses of each weight.

A weight has one packed copy. It is packed when every row that reads it either proposes the same
layout or can read panels; otherwise it stays plain. Where asked for, panels are stored as bfloat16
if all that read them are kernels that widen it on the way: matrix products.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fusec.ir.stage import Layout, LayoutKind
from fusec.ir.template import Arg, Ref, Row, Template, TensorSpec
from fusec.passes.lower import convolution, rnn
from fusec.passes.lower.builder import HALVES
from fusec.passes.lower.gather import reads_rows
from fusec.passes.lower.half import widened_spec
from fusec.passes.lower.panels import panel_width
from fusec.passes.lower.rule import FAULTS

__all__ = ["PACKERS", "layouts_of", "panel_width", "plain"]

Packer = Callable[[TensorSpec, Row], Layout | None]
"""Propose a layout for a weight of this spec in this row."""


def plain(spec: TensorSpec) -> Layout:
    """Give the layout of a weight that is not packed."""
    elements = 1
    for extent in spec.shape:
        elements *= int(extent)
    order = tuple(range(len(spec.shape)))
    return Layout(kind=LayoutKind.PLAIN, order=order, groups=1, k=1, n=elements, nr=1)


def _linear(spec: TensorSpec, row: Row) -> Layout | None:
    if spec.dtype != "float32" or len(spec.shape) != 2:
        return None
    n, k = (int(extent) for extent in spec.shape)
    return Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=panel_width(n))


PACKERS: Mapping[str, tuple[int | tuple[int, ...], Packer]] = {
    "aten.linear.default": (1, _linear),
    **convolution.PACKERS,
    **rnn.PACKERS,
}
"""Operator -> position of the weight among its operands, or of several, and what it proposes."""

READS_PANELS: Mapping[str, int] = {"aten.embedding.default": 0, "aten.index.Tensor": 0}
"""Operators that read rows of a matrix in panels too, with the position of that operand."""


READS_BFLOAT16: Mapping[str, int] = {"aten.linear.default": 1, "fusec.rnn.default": 1}
"""Operators whose kernel reads bfloat16 panels, with the position of that operand."""


def layouts_of(
    template: Template, stored: str | None = None, card: bool = False
) -> tuple[Layout, ...]:
    """Decide the layout of every weight of a template.

    Args:
        template: with all uses of its weights.
        stored: "bfloat16" stores so what is packed in panels and only read by kernels that can.
        card: kernels of cards read half-width panels too.
    """
    n = template.n_inputs
    proposals: list[set[Layout | None]] = [set() for _ in template.weights]
    wide: set[int] = set()
    for row in template.body.rows:
        for position, arg in enumerate((*row.args, *(v for _, v in row.kwargs))):
            for number in _references(arg):
                if n <= number < n + len(proposals):
                    if READS_BFLOAT16.get(row.op) != position:
                        wide.add(number - n)
                    proposal = _proposal(template, row, position, number, arg, card)
                    if proposal != "any":
                        proposals[number - n].add(proposal)  # type: ignore[arg-type]
    for result in template.body.results:
        for number in _references(result):
            if n <= number < n + len(proposals):
                proposals[number - n].add(None)
    decided = map(_decide, template.weights, proposals)
    if stored is None:
        return tuple(decided)
    return tuple(
        layout
        if number in wide or layout.kind is LayoutKind.PLAIN or _is_half(template, number)
        else replace(layout, stored=stored)
        for number, layout in enumerate(decided)
    )


def _is_half(template: Template, number: int) -> bool:
    spec = template.weights[number]
    return isinstance(spec, TensorSpec) and spec.dtype in HALVES


def _proposal(
    template: Template, row: Row, position: int, number: int, arg: Arg, card: bool
) -> "Layout | str | None":
    if not isinstance(arg, Ref):
        return None
    try:
        return _proposed(template, row, position, number, card)
    except FAULTS:
        return None


def _proposed(
    template: Template, row: Row, position: int, number: int, card: bool
) -> "Layout | str | None":
    if READS_PANELS.get(row.op) == position and reads_rows(row):
        return "any"
    spec = template.body.arguments[number]
    where, packer = PACKERS.get(row.op, (-1, None))
    here = where if isinstance(where, tuple) else (where,)
    if packer is None or position not in here or not isinstance(spec, TensorSpec):
        return None
    return packer(widened_spec(spec) if card else spec, row)


def _decide(spec: object, proposals: "set[Layout | None]") -> Layout:
    assert isinstance(spec, TensorSpec)
    if len(proposals) == 1:
        (only,) = proposals
        if only is not None:
            return only
    return plain(spec)


def _references(arg: Arg) -> Sequence[int]:
    if isinstance(arg, Ref):
        return (arg.index,)
    if isinstance(arg, tuple):
        return [n for a in arg for n in _references(a)]
    return ()
