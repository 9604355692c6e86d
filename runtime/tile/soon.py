"""What to fetch ahead: the first lines of weights that the next tasks of a chain will read.

Small weights (biases, scales, the matrices of small layers) cost a trip to memory each, one after
another, where a chain meets them; a stream of large ones takes a while to get going. So a task
asks for those of the stages behind it before it starts, and the last task of a unit for those
that the next unit starts with. Asking is a hint: nothing waits for it, and nobody's bytes depend
on it.

    words of a stage    own, later, then (slot, lines) for each weight: first its own, then later
"""

from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["soon_words"]

LINE_BYTES = 64
_WEIGHT_LINES = 64
"""Of one weight, at most: beyond that the processor has seen the stream."""
_AHEAD_LINES = 192
"""Asked for but not used yet, at most: a third of the smallest first-level cache."""


def soon_words(
    weights: Sequence[Sequence[int]], size_bytes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose what each stage fetches.

    Args:
        weights: the slots of the weights that each stage reads.
        size_bytes: of each buffer, by slot.

    Returns:
        Words, and the position of each stage's first.
    """
    heads = [list(_heads(slots, size_bytes)) for slots in weights]
    words: list[int] = []
    starts: list[int] = []
    asked, ahead = 1, 0
    for stage, own in enumerate(heads):
        if stage and stage < asked:
            ahead -= _lines(own)
        asked = max(asked, stage + 1)
        later: list[tuple[int, int]] = []
        while asked < len(heads) and (not later or ahead + _lines(heads[asked]) <= _AHEAD_LINES):
            later += heads[asked]
            ahead += _lines(heads[asked])
            asked += 1
        starts.append(len(words))
        words += [len(own), len(later), *(word for pair in (*own, *later) for word in pair)]
    return np.array(words, dtype=np.int64), np.array(starts, dtype=np.int64)


def _lines(heads: Sequence[tuple[int, int]]) -> int:
    return sum(lines for _, lines in heads)


def _heads(slots: Sequence[int], size_bytes: Sequence[int]) -> Iterator[tuple[int, int]]:
    for slot in slots:
        lines = min(-(-size_bytes[slot] // LINE_BYTES), _WEIGHT_LINES)
        if lines:
            yield slot, lines
