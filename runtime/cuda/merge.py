"""Templates that run together: their stages in one order, equal kernels at one place.

    a   gemm1 norm gemm2            gemm1 norm conv gemm2
    b   gemm1 conv gemm2      ->    a+b   a    b    a+b        each a launch for all its instances

Each template keeps its own order. Which of several such orders it is does not change an answer.
"""

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from typing import TypeAlias

__all__ = ["Step", "merged"]

Step: TypeAlias = tuple[tuple[int, int], ...]
"""(sequence, position in it) of all that run as one."""


def merged(sequences: Sequence[Sequence[Hashable]]) -> tuple[Step, ...]:
    """Put sequences together; equal keys meet where the orders allow it.

    Args:
        sequences: keys of each; None meets nobody.

    Cost: about quadratic in the lengths, in Python: keep what it gives.
    """
    steps: list[tuple[Hashable, list[tuple[int, int]]]] = []
    for number, keys in enumerate(sequences):
        own = [(key, [(number, at)]) for at, key in enumerate(keys)]
        steps = _joined(steps, own) if steps else own
    return tuple(tuple(members) for _, members in steps)


_Steps = list[tuple[Hashable, list[tuple[int, int]]]]


def _joined(steps: _Steps, own: _Steps) -> _Steps:
    # What meets nobody has a key of its own.
    first = [key if key is not None else object() for key, _ in steps]
    then = [key if key is not None else object() for key, _ in own]
    matcher = SequenceMatcher(None, first, then, autojunk=False)
    result: _Steps = []
    i = j = 0
    for a, b, size in matcher.get_matching_blocks():
        result += steps[i:a]
        result += own[j:b]
        for k in range(size):
            key, members = steps[a + k]
            result.append((key, members + own[b + k][1]))
        i, j = a + size, b + size
    return result
