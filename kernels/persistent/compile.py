"""Super-kernels of a plan, compiled ahead of time: one for all of its templates, if not too many.

Registers and shared memory are those of the greediest branch. If the preferred configurations spill
when they are together, each stage takes the one that alone had the fewest registers, and in the end
loads do not run ahead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from fusec.ir.device import Constants, DeviceKernel, DroppedKernel
from fusec.kernels.cuda.cards import Card, why_not
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.persistent.branches import NAME, WARPS, Branches, branch_of
from fusec.kernels.triton_table import Special, specials

__all__ = ["MOST_BRANCHES", "super_kernels"]

MOST_BRANCHES = 48
"""More are compiled by template: a kernel of 20 takes some ten seconds."""

_Kept: TypeAlias = "Mapping[tuple[str, Constants], DeviceKernel]"
_Choice: TypeAlias = "Callable[[Grouped, Card, _Kept], Special | None]"


def super_kernels(
    templates: Sequence[Sequence[Grouped]], kept: _Kept, card: Card
) -> tuple[list[Made], list[DroppedKernel]]:
    """Compile super-kernels for templates.

    Args:
        templates: spelled stages of those that have a kernel for every stage.
        kept: kernels that fit the card, by name and constants.
        card: to compile for.

    Returns:
        Those that fit, and the reasons of others.

    Raises:
        UnsupportedError: there is no compiler here.
        KernelError: compiling processes do not start.
    """
    made: list[Made] = []
    dropped: list[DroppedKernel] = []
    left = [list(templates)]
    if len(_branches(left[0], kept, card, _preferred).keys) > MOST_BRANCHES:
        left = [[template] for template in templates]
    for choice, most_stages in ((_preferred, 3), (_leanest, 3), (_leanest, 1)):
        tried = [(part, _branches(part, kept, card, choice)) for part in left]
        tried = [
            (part, replace(b, stages=min(b.stages, most_stages)))
            for part, b in tried
            if 0 < len(b.keys) <= MOST_BRANCHES
        ]
        left = []
        jobs = list(dict.fromkeys(b.job(card.arch) for _, b in tried))
        results = dict(zip(jobs, compile_jobs(jobs), strict=True))
        for job, result in results.items():
            reason = result.reason if isinstance(result, DroppedKernel) else None
            if isinstance(result, Made):
                reason = why_not(result.kernel, card)
                if reason is None:
                    made.append(result)
            if reason is not None:
                gone = DroppedKernel(name=NAME, constants=job.constants, reason=reason)
                dropped.append(gone)
                left += [part for part, b in tried if b.job(card.arch) == job]
    return made, dropped


def _branches(
    templates: Sequence[Sequence[Grouped]], kept: _Kept, card: Card, choice: _Choice
) -> Branches:
    """Choose branches for those templates that can have one for each stage."""
    found: list[Special] = []
    for template in templates:
        chosen = [choice(stage, card, kept) for stage in template]
        if all(special is not None for special in chosen):
            found += [special for special in chosen if special is not None]
    return Branches.of(found)


def _fitting(stage: Grouped, card: Card, kept: _Kept) -> Iterator[tuple[int, Special]]:
    for special in specials(stage, card.arch):
        kernel = kept.get(_key(special))
        if kernel is not None and special.config.warps == WARPS:
            yield kernel.registers, special


def _preferred(stage: Grouped, card: Card, kept: _Kept) -> Special | None:
    fitting = {_key(special) for _, special in _fitting(stage, card, kept)}
    return branch_of(stage, card.arch, allowed=lambda special: _key(special) in fitting)


def _leanest(stage: Grouped, card: Card, kept: _Kept) -> Special | None:
    found = sorted(_fitting(stage, card, kept), key=lambda pair: pair[0])
    return found[0][1] if found else None


def _key(special: Special) -> tuple[str, Constants]:
    return special.kernel.function, special.constants
