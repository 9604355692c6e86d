"""Blocks that take as long as they took when served: what a runtime's decision log tells.

A profile is measured while nothing else runs. Served, a launch meets caches that others have
filled, and pays for deciding and answering as well. A log has what each launch took, so each block
takes the share of the stated time that a launch of its template and size took there, any of them.

    ratio    took / stated, of a launch of one template; by template and bits of the rows
    service  stated time of the block x a ratio of its template, of the size nearest to its own
"""

import random
from collections.abc import Iterable, Mapping

from fusec.ir.errors import ConfigError
from fusec.runtime.drivers.virtual import Service
from fusec.runtime.sched.corrected import Correction
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.ran import Ran

__all__ = ["as_served"]

_LEAST = 5
"""Launches of a size, before its ratios count."""
_Ratios = Mapping[int, list[float]]
"""By bits of the rows."""


def as_served(
    profile: Profile, decisions: Iterable[Decision], seed: int
) -> tuple[Profile, Service]:
    """Give costs and what blocks really take, from a log.

    Args:
        profile: of the log.
        decisions: of the log.
        seed: the same one gives the same times.

    Returns:
        The profile, with what templates take together as it was served; and what blocks take.

    Raises:
        ConfigError: the log has no launch of which it is known what it took.
    """
    ratios: dict[str, dict[int, list[float]]] = {}
    correction = Correction.of(profile)
    for change in (decision.change for decision in decisions):
        correction = correction.learned(change.costs, change.ran)
        for ran in change.ran:
            if len(ran.parts) == 1:
                own = ratios.setdefault(ran.parts[0].template, {})
                own.setdefault(ran.parts[0].rows.bit_length(), []).append(
                    _ratio(ran, correction.stated)
                )
    if not ratios:
        raise ConfigError("the log tells of no launch what it took; serve for longer")
    stated = correction.stated
    known = {name: _enough(own) for name, own in ratios.items()}
    chance = random.Random(seed)

    def service(template: str, block: int, rows: int) -> int:
        ns = stated[template].span_ns(block, block + 1, rows)
        return round(ns * chance.choice(_nearest(known.get(template), rows.bit_length())))

    together = correction.profile(company=False).together_percent
    costs = Profile(templates=stated.templates, models=stated.models, together_percent=together)
    return costs, service


def _ratio(ran: Ran, profile: Profile) -> float:
    (part,) = ran.parts
    cost = profile[part.template]
    stated = cost.span_ns(part.block, part.until, part.rows)
    return max(0.01, (ran.took_ns - cost.cut_ns * ran.resumed) / max(1, stated))


def _enough(own: _Ratios) -> _Ratios:
    """Leave out sizes of which little is known, unless there is no other."""
    return {bits: seen for bits, seen in own.items() if len(seen) >= _LEAST} or own


def _nearest(own: _Ratios | None, bits: int) -> list[float]:
    """Give the ratios of the size nearest to one; of a template that was not served, one."""
    return own[min(own, key=lambda known: (abs(known - bits), known))] if own else [1.0]
