"""Many models of one architecture: one after the other, stacked, compiled, and through fusec."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import harness
import models
import peers

BENCH = "merge_fleets"


def cases(smoke: bool) -> Iterable[str]:
    """Name the fleets."""
    return tuple(models.SMOKE if smoke else models.FLEETS)


def setup(case: str, threads: int) -> harness.Setup:
    """Make a fleet with random weights and one request of one row for each member."""
    fleet = {**models.FLEETS, **models.SMOKE}[case]
    members = {f"member{n}": fleet.model().eval() for n in range(fleet.members)}
    inputs = {name: fleet.example() for name in members}
    contents = peers.exported(members, inputs)
    return peers.side_by_side(
        members, members, contents, inputs, threads=threads, compilers=case not in models.SMOKE
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
