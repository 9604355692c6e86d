"""What a cut costs: memory that has gone cold by the time the rest runs, and what stops fusing."""

import math
from collections.abc import Collection, Sequence
from typing import Final

from fusec.ir.errors import VerifyError

__all__ = ["FORBIDDEN", "cut_costs"]

FORBIDDEN: Final = None
"""Stands for the cost of a cut that must not be made."""


def cut_costs(
    live_bytes: Sequence[int],
    *,
    bytes_per_ns: float,
    stop_ns: float = 0.0,
    lost_ns: Sequence[float] = (),
    whole: Sequence[tuple[int, int]] = (),
    forbidden: Collection[int] = (),
) -> tuple[int | None, ...]:
    """Give the cost of stopping at each cut and going on later.

    What is alive across the cut was in a cache and is read from memory again:

        cost = stop_ns + live bytes / bytes_per_ns + lost_ns

    Args:
        live_bytes: across the cut between stages i and i + 1, of all instances that run together.
        bytes_per_ns: at which memory is read.
        stop_ns: for stopping and for going on, whatever is alive.
        lost_ns: of each cut, for fusion that it prevents; () is nothing.
        whole: ranges of stages that stay in one block, the last one excluded: a sequential run.
        forbidden: cuts that the caller will not have.

    Returns:
        Nanoseconds of each cut, rounded up; `FORBIDDEN` inside a range that stays whole.

    Raises:
        VerifyError: a cut that there is not, or one that costs less than nothing.
    """
    n = len(live_bytes)
    banned = {*forbidden, *(cut for a, b in whole for cut in range(a, b - 1))}
    if any(not 0 <= cut < n for cut in banned):
        raise VerifyError(f"cuts {sorted(banned)} are forbidden, of {n} that there are")
    lost = lost_ns or (0.0,) * n
    costs: list[int | None] = []
    for cut, (live, more) in enumerate(zip(live_bytes, lost, strict=True)):
        cost = math.ceil(stop_ns + live / bytes_per_ns + more)
        if cost < 0:
            raise VerifyError(f"cut {cut} costs {cost} ns")
        costs.append(FORBIDDEN if cut in banned else cost)
    return tuple(costs)
