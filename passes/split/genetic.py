"""SPLIT's genetic search for even blocks, for comparison: `even_split` is exact and faster.

The fitness is the published one, of a split into k blocks whose uncut stages take `raw`:

    f = exp(3 (overhead / (0.08 k) - 1)) + exp(deviation / (0.03 raw) - 1)

Population, selection and crossover are as published. Two operators are mended: crossover stops at
the last gene, and a mutation reaches as far up as down (adding less than 1 to an integer and
dropping the fraction could only step down). Block times come from stage costs, not from runs.

Source: Luo et al., "SPLIT", ICPP 2023, and its code (UniformOptimizer.cpp, openGA.hpp).
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev

from fusec.ir.split import Split
from fusec.passes.split.even import Cuts, most_blocks, split_at

__all__ = ["Settings", "fitness", "genetic_split"]

_OVERHEAD, _DEVIATION = 0.08, 0.03
_LARGEST_POWER = 700.0

Genes = tuple[int, ...]
"""Numbers of the legal cuts that are made, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to search; the defaults are the published ones."""

    population: int = 20
    generations: int = 100
    stall: int = 7
    """Generations without progress after which the search ends."""
    tolerance: float = 0.01
    """Less than this is no progress."""
    crossover: float = 0.7
    """Children per generation, as a share of the population."""
    mutation: float = 0.2
    """Share of the children that are mutated, and how far a gene may move."""


def fitness(block_ns: Sequence[int], raw_ns: int) -> float:
    """Give SPLIT's fitness of block times; smaller is better.

    Args:
        block_ns: of each block, at least one.
        raw_ns: of all stages uncut.
    """
    raw = max(1, raw_ns)
    overhead = (sum(block_ns) - raw) / raw
    powers = (
        3 * (overhead / (_OVERHEAD * len(block_ns)) - 1),
        pstdev(block_ns) / (_DEVIATION * raw) - 1,
    )
    return sum(math.exp(min(power, _LARGEST_POWER)) for power in powers)


def genetic_split(
    stage_ns: Sequence[int],
    cut_ns: Cuts,
    blocks: int,
    *,
    seed: int = 0,
    settings: Settings | None = None,
) -> Split:
    """Search a split into so many blocks, or as many as there are places for.

    Args:
        stage_ns: of each stage, at least one.
        cut_ns: of each cut between stages i and i + 1, None where it is forbidden.
        blocks: how many.
        seed: equal seeds give equal splits.
        settings: how to search; None is as published.

    Raises:
        VerifyError: a cost is negative, or there is nothing to cut.
    """
    legal = [i + 1 for i, cost in enumerate(cut_ns) if cost is not None]
    k = min(blocks, most_blocks(cut_ns))
    search = _Search(stage_ns, cut_ns, legal, k - 1, seed, settings or Settings())
    return search.split(search.best())


class _Search:
    """One search: its random numbers and the fitness of what it has seen."""

    def __init__(
        self,
        stage_ns: Sequence[int],
        cut_ns: Cuts,
        legal: Sequence[int],
        cuts: int,
        seed: int,
        settings: Settings,
    ) -> None:
        self._stage_ns, self._cut_ns, self._legal = stage_ns, cut_ns, legal
        self._cuts, self._settings = cuts, settings
        self._random = random.Random(seed)
        self._raw_ns = sum(stage_ns)
        self._known: dict[Genes, float] = {}

    def split(self, genes: Genes) -> Split:
        return split_at(self._stage_ns, self._cut_ns, [self._legal[g] for g in genes])

    def best(self) -> Genes:
        """Search until nothing improves any more."""
        settings = self._settings
        people = [self._stranger() for _ in range(settings.population)]
        people.sort(key=self._fitness)
        stalled = 0
        for generation in range(settings.generations):
            before = self._fitness(people[0])
            children = round(settings.population * settings.crossover)
            born = [self._child(people, generation) for _ in range(children)]
            people = self._survivors([*people, *born])
            progress = before - self._fitness(people[0])
            stalled = 0 if progress >= settings.tolerance else stalled + 1
            if stalled >= settings.stall:
                break
        return people[0]

    def _fitness(self, genes: Genes) -> float:
        if genes not in self._known:
            blocks = [b.cost_ns for b in self.split(genes).blocks]
            self._known[genes] = fitness(blocks, self._raw_ns)
        return self._known[genes]

    def _stranger(self) -> Genes:
        return tuple(sorted(self._random.sample(range(len(self._legal)), self._cuts)))

    def _child(self, people: Sequence[Genes], generation: int) -> Genes:
        """Mix two of the ranked, gene by gene; some mixes are mutated."""
        weights = [1 / math.sqrt(rank + 1) for rank in range(len(people))]
        a, b = self._random.choices(people, weights, k=2)
        genes = []
        for x, y in zip(a, b, strict=True):
            share = self._random.random()
            genes.append(int(share * x + (1 - share) * y))
        if self._random.random() < self._settings.mutation:
            reach = self._reach(generation)
            genes = [g + self._random.randint(-reach, reach) for g in genes]
        return self._repaired(genes)

    def _reach(self, generation: int) -> int:
        """How many places a mutation moves a gene at most: fewer as the search goes on."""
        shrink = 1.0 if generation <= 5 else 1 / math.sqrt(generation - 4)
        return max(1, round(self._settings.mutation * shrink * len(self._legal)))

    def _repaired(self, genes: Sequence[int]) -> Genes:
        """Order genes, keep them in range and apart."""
        made: list[int] = []
        for i, gene in enumerate(sorted(genes)):
            least = made[-1] + 1 if made else 0
            most = len(self._legal) - (len(genes) - i)
            made.append(min(max(gene, least), most))
        return tuple(made)

    def _survivors(self, people: Sequence[Genes]) -> list[Genes]:
        """Keep the elite, and draw the others by rank."""
        ranked = sorted(people, key=self._fitness)
        elite = max(1, self._settings.population // 4)
        kept, rest = ranked[:elite], list(enumerate(ranked[elite:], elite))
        while len(kept) < self._settings.population:
            weights = [1 / math.sqrt(rank + 1) for rank, _ in rest]
            (at,) = self._random.choices(range(len(rest)), weights)
            kept.append(rest.pop(at)[1])
        return sorted(kept, key=self._fitness)
