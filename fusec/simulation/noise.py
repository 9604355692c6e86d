"""Blocks that take as long as they did when they were measured: often more than the profile says.

A time is drawn anew for each block, from the line through the percentiles that the profile has.
Where nothing was measured there is no noise.
"""

import random
from collections.abc import Mapping
from itertools import pairwise

from fusec.runtime.drivers.virtual import Service
from fusec.runtime.sched.profile import Profile
from fusec.schedule import Schedule, named

__all__ = ["noisy"]

_SHARES = (0.2, 0.5, 0.8, 0.95)
"""Of runs that take at most so much: as the profile states, and what `spread_percent` has."""


def noisy(profile: Profile, schedule: Schedule, seed: int) -> Service:
    """Give what blocks really take.

    Args:
        profile: costs, by the names of templates.
        schedule: of the same plan.
        seed: the same one gives the same times.
    """
    spreads = {named(key): (0, *t.spread_percent) for key, t in schedule.templates.items()}
    chance = random.Random(seed)

    def service(template: str, block: int, instances: int) -> int:
        ns = profile[template].span_ns(block, block + 1, instances)
        return ns + round(ns * _above(spreads, template, chance.random()) / 100)

    return service


def _above(spreads: Mapping[str, tuple[int, ...]], template: str, share: float) -> float:
    """Give by how many percent a run is slower than stated, if such a share is at most as slow."""
    points = list(zip(_SHARES, spreads.get(template, ()), strict=False))
    for (low, a), (high, b) in pairwise(points):
        if share <= high:
            return a + (b - a) * max(0.0, share - low) / (high - low)
    return points[-1][1] if points else 0.0
