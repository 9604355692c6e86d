"""The merged executor's link to the compiler: from a template to one program for n instances."""

from collections.abc import Sequence

from fusec.explain import MergeInfo
from fusec.ir.template import Template
from fusec.passes.merge import MergeReport, merge_uniform
from fusec.passes.unpack import unpack
from fusec.runtime.merged import MergedProgram

__all__ = ["build_merged", "merge_info"]


def build_merged(
    template: Template, shapes: Sequence[tuple[int, ...]], n: int, shared: frozenset[int]
) -> MergedProgram:
    """Merge n instances of a template at concrete input shapes.

    Args:
        template: of the group.
        shapes: input shapes of one instance.
        n: number of instances.
        shared: weights that are equal in all instances.

    Cost: some milliseconds per hundred operators.
    """
    module, report = merge_uniform(unpack(template, shapes), n, shared_weights=shared)
    return MergedProgram(module, report.layouts)


def merge_info(template: Template, shapes: Sequence[tuple[int, ...]], n: int) -> MergeInfo:
    """Say by which rules n members of a template would be merged."""
    _, report = merge_uniform(unpack(template, shapes), n)
    return MergeInfo(rules=_counts(report), notes=tuple(report.notes))


def _counts(report: MergeReport) -> tuple[tuple[str, str, int], ...]:
    counts: dict[tuple[str, str], int] = {}
    for use in report.uses:
        counts[use.op, use.rule] = counts.get((use.op, use.rule), 0) + 1
    return tuple((op, rule, n) for (op, rule), n in counts.items())
