"""Many models of one architecture at batch 1: every peer, every executor."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import harness
import models
import peers
import sessions

BENCH = "fleets"


def cases(smoke: bool) -> Iterable[str]:
    """Name the fleets."""
    return tuple(models.SMOKE if smoke else models.FLEETS)


def setup(case: str, threads: int) -> harness.Setup:
    """Make a fleet with random weights and one request of one row for each member."""
    fleet = {**models.FLEETS, **models.SMOKE}[case]
    members = {f"member{n}": fleet.model().eval() for n in range(fleet.members)}
    inputs = {name: fleet.example() for name in members}
    contents = sessions.exported(members, inputs)
    plans = peers.Plans(members, inputs["member0"], threads)
    return peers.side_by_side(members, plans, contents, inputs)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
