"""The merged executor's link to the compiler: from a template to one program for n instances."""

from collections.abc import Sequence

from torch._subclasses.fake_tensor import DynamicOutputShapeException

from fusec.explain import MergeInfo
from fusec.ir.errors import MergeError, UnsupportedError
from fusec.ir.template import Template
from fusec.passes.merge import MergeReport, hoist, merge_uniform
from fusec.passes.unpack import unpack
from fusec.runtime.merged import MergedProgram

__all__ = ["build_merged", "merge_info"]


# Operators whose result has a size of its own for each input cannot be run side by side.
_NO_MERGE = (MergeError, UnsupportedError, DynamicOutputShapeException)


def build_merged(
    template: Template, shapes: Sequence[tuple[int, ...]], n: int, shared: frozenset[int]
) -> MergedProgram | None:
    """Merge n instances of a template at concrete input shapes; None where that cannot be.

    Args:
        template: of the group.
        shapes: input shapes of one instance.
        n: number of instances.
        shared: weights that are equal in all instances.

    Cost: some milliseconds per hundred operators.
    """
    try:
        program = unpack(template, shapes)
        module, _ = merge_uniform(program, n, shared_weights=shared, values=True)
    except _NO_MERGE:
        return None
    return MergedProgram(*hoist(module, template.n_inputs))


def merge_info(template: Template, shapes: Sequence[tuple[int, ...]], n: int) -> MergeInfo:
    """Say by which rules n members of a template would be merged."""
    try:
        _, report = merge_uniform(unpack(template, shapes), n)
    except _NO_MERGE as e:
        why = str(e).strip().partition("\n")[0]
        return MergeInfo(rules=(), notes=(f"members run one after the other: {why}",))
    return MergeInfo(rules=_counts(report), notes=tuple(report.notes))


def _counts(report: MergeReport) -> tuple[tuple[str, str, int], ...]:
    counts: dict[tuple[str, str], int] = {}
    for use in report.uses:
        counts[use.op, use.rule] = counts.get((use.op, use.rule), 0) + 1
    return tuple((op, rule, n) for (op, rule), n in counts.items())
