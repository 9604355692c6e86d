"""Arena planning: an offset for every buffer so that buffers alive at the same time never overlap.

stage   0   1   2   3
a       #####                 a and c share bytes, b keeps its own
b           #########
c               #####
"""

from collections.abc import Callable, Sequence

from fusec.runtime.tile.code import Lifetime

__all__ = ["ALIGN_BYTES", "plan_arena"]

ALIGN_BYTES = 64


def plan_arena(
    lifetimes: Sequence[Lifetime],
    sizes: Sequence[int],
    conflict: Callable[[int, int], bool] | None = None,
) -> tuple[dict[int, int], int]:
    """Place buffers, the largest first, each at the lowest offset that is free while it lives.

    Args:
        lifetimes: of each buffer.
        sizes: bytes by slot.
        conflict: slot, slot -> whether they may be in use at the same time; by default, if their
            lifetimes meet.

    Returns:
        Slot -> offset, a multiple of 64; and the bytes in all.
    Source: greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
        Inference", 2020, section 5).
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[int, int] = {}
    total = 0
    for life in sorted(lifetimes, key=lambda x: (-sizes[x.slot], x.slot)):
        size = -(-sizes[life.slot] // ALIGN_BYTES) * ALIGN_BYTES
        offset = 0
        for start, end, other in placed:
            if conflict is None:
                meets = other.first <= life.last and life.first <= other.last
            else:
                meets = conflict(other.slot, life.slot)
            if meets and start < offset + size:
                offset = max(offset, end)
        if size:
            placed.append((offset, offset + size, life))
            placed.sort(key=lambda x: x[0])
        offsets[life.slot] = offset
        total = max(total, offset + size)
    return offsets, total
