"""Even splits, exactly: a dynamic programme over stage costs and a cost per cut.

    stages    5   4   6 | 3   9   3 | 8   7        the cost of a cut goes to the block that
    cuts        1   2   9   1   2   2   1          begins there: it pays for going on
    blocks       15         24          17

What is minimised, in this order: the largest block; the sum of squares of all blocks, which is
k (mean^2 + deviation^2), so blocks are even but never made so by cuts that cost more; the place of
the last cut, of the last but one, and so on: a split is the same wherever it is computed.

Source: own; the largest-block part is the linear partition problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fusec.ir.errors import VerifyError
from fusec.ir.split import Block, Split

__all__ = ["even_split", "most_blocks", "split_at", "split_for_latency"]

Cuts = Sequence[int | None]
"""Cost of the cut between stages i and i + 1, None where it is forbidden."""


def most_blocks(cut_ns: Cuts) -> int:
    """Count the blocks that there can be at most."""
    return 1 + sum(cost is not None for cost in cut_ns)


def split_at(stage_ns: Sequence[int], cut_ns: Cuts, cuts: Sequence[int]) -> Split:
    """Give the split with chosen cuts.

    Args:
        stage_ns: of each stage.
        cut_ns: of each cut between stages i and i + 1, None where it is forbidden.
        cuts: stages before which to cut, ascending.

    Raises:
        VerifyError: a cut is forbidden or out of place, or a cost is negative.
    """
    atoms = _Atoms.of(stage_ns, cut_ns)
    allowed = atoms.starts[1:-1]
    places = {stage: place for place, stage in enumerate(allowed, 1)}
    if not places.keys() >= set(cuts):
        raise VerifyError(f"cut before stages {list(cuts)}; allowed are {list(allowed)}")
    return atoms.split([places[cut] for cut in cuts])


def even_split(stage_ns: Sequence[int], cut_ns: Cuts, blocks: int) -> Split:
    """Cut stages into so many blocks as evenly as can be.

    Args:
        stage_ns: of each stage, at least one.
        cut_ns: of each cut between stages i and i + 1, None where it is forbidden.
        blocks: how many; with fewer legal places to cut there are fewer, and the note says so.

    Raises:
        VerifyError: a cost is negative, or there is nothing to cut.

    Cost: O(n^2 k) at worst; near n^2 where stages are alike.
    """
    atoms = _Atoms.of(stage_ns, cut_ns)
    if blocks < 1:
        raise VerifyError(f"a split into {blocks} blocks")
    k = min(blocks, atoms.count)
    layers = [atoms.first_layer()]
    while len(layers) < k:
        layers.append(atoms.next_layer(layers[-1]))
    note = "" if k == blocks else f"{blocks} blocks wanted, there are places for {k}"
    return atoms.evenest(layers[-1][-1], k, note)


def split_for_latency(
    stage_ns: Sequence[int], cut_ns: Cuts, latency_ns: int, *, most: int = 64
) -> Split:
    """Cut stages into as few blocks as keep urgent work from waiting longer than wanted.

    Args:
        stage_ns: of each stage, at least one.
        cut_ns: of each cut between stages i and i + 1, None where it is forbidden.
        latency_ns: no block should cost more.
        most: blocks at most.

    Returns:
        The even split into the smallest number of blocks none of which costs more; where there is
        none, the one with the smallest largest block, again with as few blocks as that takes, and
        a note.

    Raises:
        VerifyError: a cost is negative, or there is nothing to cut.
    """
    atoms = _Atoms.of(stage_ns, cut_ns)
    layer = atoms.first_layer()
    best_k, best = 1, layer[-1]
    for k in range(2, min(most, atoms.count) + 1):
        if best <= latency_ns or best <= atoms.largest:
            break
        layer = atoms.next_layer(layer)
        if layer[-1] < best:
            best_k, best = k, layer[-1]
    note = (
        ""
        if best <= latency_ns
        else f"no split into {min(most, atoms.count)} blocks or fewer keeps them within "
        f"{latency_ns} ns; the largest takes {best} ns"
    )
    return atoms.evenest(best, best_k, note)


@dataclass(frozen=True, slots=True)
class _Atoms:
    """Runs of stages between places where a cut is allowed."""

    starts: tuple[int, ...]
    """First stage of each, and the end."""
    before: tuple[int, ...]
    """Cost of all stages before each, and of all."""
    cut_ns: tuple[int, ...]
    """Cost of the cut that each begins with; of the first, 0."""

    @classmethod
    def of(cls, stage_ns: Sequence[int], cut_ns: Cuts) -> "_Atoms":
        n = len(stage_ns)
        if n == 0 or len(cut_ns) != n - 1:
            raise VerifyError(f"{n} stages with {len(cut_ns)} cuts between them")
        if min(stage_ns) < 0 or any(cost is not None and cost < 0 for cost in cut_ns):
            raise VerifyError("a stage or a cut costs less than nothing")
        starts = [0, *(i + 1 for i, cost in enumerate(cut_ns) if cost is not None)]
        sums = list(accumulate(stage_ns, initial=0))
        return cls(
            starts=(*starts, n),
            before=tuple(sums[s] for s in (*starts, n)),
            cut_ns=(0, *(cost for cost in cut_ns if cost is not None)),
        )

    @property
    def count(self) -> int:
        return len(self.cut_ns)

    @property
    def largest(self) -> int:
        """No largest block is smaller than this."""
        return max(b - a for a, b in pairwise(self.before))

    def cost(self, first: int, stop: int) -> int:
        """Cost of atoms first .. stop as one block."""
        return self.cut_ns[first] + self.before[stop] - self.before[first]

    def split(self, cuts: Sequence[int], note: str = "") -> Split:
        """Spell a split whose blocks begin at atoms 0 and `cuts`."""
        edges = [0, *cuts, self.count]
        return Split(
            blocks=tuple(
                Block(self.starts[a], self.starts[b], self.cost(a, b)) for a, b in pairwise(edges)
            ),
            note=note,
        )

    def first_layer(self) -> list[int]:
        """Give the largest block of the first i + 1 atoms in one block, for every i."""
        return list(self.before[1:])

    def next_layer(self, layer: Sequence[int]) -> list[int]:
        """Go from j blocks to j + 1: the smallest largest block of the first i + 1 atoms.

        A block only grows towards the left, so the search ends where its stages alone cost more.
        Too few atoms for so many blocks count as a cost above everything.
        """
        never = self.before[-1] + sum(self.cut_ns) + 1
        made = []
        for stop in range(1, self.count + 1):
            best = never
            for first in range(stop - 1, 0, -1):
                if self.before[stop] - self.before[first] >= best:
                    break
                best = min(best, max(layer[first - 1], self.cost(first, stop)))
            made.append(best)
        return made

    def evenest(self, limit: int, blocks: int, note: str) -> Split:
        """Give the split into so many blocks, none above a limit, with the least squares.

        Args:
            limit: the smallest largest block that there is.
            blocks: how many.
            note: for the split.
        """
        sums: list[int | None] = [0] + [None] * self.count
        chosen: list[list[int]] = []
        for _ in range(blocks):
            sums, places = self._add_block(sums, limit)
            chosen.append(places)
        cuts, at = [], self.count
        for places in reversed(chosen):
            at = places[at]
            cuts.append(at)
        return self.split(cuts[-2::-1], note)

    def _add_block(
        self, sums: Sequence[int | None], limit: int
    ) -> tuple[list[int | None], list[int]]:
        """Go from least squares of j blocks to j + 1, by the atom at which they end."""
        made: list[int | None] = [None] * (self.count + 1)
        places = [0] * (self.count + 1)
        for stop in range(1, self.count + 1):
            best: int | None = None
            for first in range(stop - 1, -1, -1):
                if self.before[stop] - self.before[first] > limit:
                    break
                before, cost = sums[first], self.cost(first, stop)
                if before is None or cost > limit:
                    continue
                total = before + cost * cost
                if best is None or total <= best:  # of equals, the first place
                    best, places[stop] = total, first
            made[stop] = best
        return made, places
