"""What is alive at a cut: arena bytes that a run has to keep while it is stopped there.

stage     0     1     2     3
a         #########                 cut 0 (between stages 0 and 1): a
b               ###########         cut 1: b;  cut 2: b and c
c                     #######
"""

from collections.abc import Mapping

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, value
from fusec.ir.stage import BufferKind, Lowered
from fusec.passes.fuse.state import read_slots

__all__ = ["live_bytes", "live_extents", "live_inside"]


def live_extents(lowered: Lowered) -> tuple[Extent, ...]:
    """Count the arena bytes of one instance alive across each cut.

    A buffer lives from the first stage that touches it to the last. Inputs, outputs and weights
    are no arena memory: they stay where they are.

    Args:
        lowered: stages in the order in which they run.

    Returns:
        Of the cut between stages i and i + 1, for every i.
    """
    first, last = _lives(lowered)
    cuts: list[Extent] = [0] * max(0, len(lowered.stages) - 1)
    for slot, start in first.items():
        buffer = lowered.buffers[slot]
        for cut in range(start, last[slot]):
            cuts[cut] = cuts[cut] + buffer.elements * itemsize_bytes(buffer.dtype)
    return tuple(cuts)


def live_bytes(lowered: Lowered, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """Count the arena bytes of one instance alive across each cut, at some extents.

    Args:
        lowered: stages in the order in which they run.
        symbols: value of every symbol.

    Returns:
        Of the cut between stages i and i + 1, for every i.
    """
    return tuple(value(extent, symbols) for extent in live_extents(lowered))


def live_inside(lowered: Lowered, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """Count the arena bytes of one instance alive while each stage runs: across a cut inside it.

    Args:
        lowered: stages in the order in which they run.
        symbols: value of every symbol.
    """
    first, last = _lives(lowered)
    stages = [0] * len(lowered.stages)
    for slot, start in first.items():
        buffer = lowered.buffers[slot]
        size = value(buffer.elements * itemsize_bytes(buffer.dtype), symbols)
        for stage in range(start, last[slot] + 1):
            stages[stage] += size
    return tuple(stages)


def _lives(lowered: Lowered) -> tuple[dict[int, int], dict[int, int]]:
    """Give the first and the last stage that touches each arena buffer."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, stage in enumerate(lowered.stages):
        for slot in read_slots(stage) | {v.slot for v in stage.writes}:
            if lowered.buffers[slot].kind is BufferKind.ARENA:
                first.setdefault(slot, i)
                last[slot] = i
    return first, last
