"""Who runs together: requests of equal templates and extents in one class, cut into groups.

    parts (requests)  ->  classes (equal binding, equal weights adjacent)  ->  groups of instances

A group's instances lie one after another in memory. Where neighbours share a stage's weights, its
rows become one range, so that weights are read once.
"""

import bisect
import itertools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.tile.bind import Binding

__all__ = ["Arranged", "Class", "Group", "Part", "arrange", "groups_of", "joins_of"]

_TASK_NS = 200_000
_HEAVY_WEIGHTS_BYTES = 1 << 18
"""From here on weights do not stay in a core's cache between groups: rows stay together."""
_CHAIN_ARENA_BYTES, _HEAVY_ARENA_BYTES = 1 << 19, 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One request: a bound template, the addresses of one member's weights, so many instances."""

    binding: Binding
    weights: np.ndarray
    """Address of each template weight, int64."""
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Class:
    """Requests with one binding, as a program sees them: whose they are does not matter."""

    binding: Binding
    starts: tuple[int, ...]
    """First instance of each request, and the end."""
    same: np.ndarray
    """[requests - 1, weights] bool: whether the next request has the same weight."""

    @property
    def instances(self) -> int:
        """How many instances."""
        return self.starts[-1]

    def part_of(self, instance: int) -> int:
        """Give the position of the request that an instance belongs to."""
        return bisect.bisect_right(self.starts, instance) - 1

    def mixed(self, first: int, last: int) -> bool:
        """Tell whether requests first .. last - 1 differ in a weight."""
        return not self.same[first : last - 1].all()


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """An instance list in the order of its program; classes come as their first requests do."""

    classes: tuple[Class, ...]
    parts: tuple[tuple[int, ...], ...]
    """Numbers of the requests in each class, equal weights adjacent."""
    weights: tuple[np.ndarray, ...]
    """Of each class: [requests, weights] addresses."""
    n_requests: int
    """Those without instances, which are in no class, included."""

    @property
    def shape(self) -> Hashable:
        """Give what a program depends on: equal shapes, equal programs."""
        return tuple((c.binding, c.starts, c.same.tobytes()) for c in self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Instances start .. stop of a class that one chain of tasks, or one cohort, runs."""

    cls: Class
    start: int
    stop: int
    mixed: bool
    """Spans requests whose weights are not all the same."""
    family: int
    """Groups of one family share most of their weights."""

    @property
    def cost_ns(self) -> float:
        """Rough cost."""
        return self.cls.binding.instance_ns * (self.stop - self.start)


def arrange(parts: Sequence[Part]) -> Arranged:
    """Sort requests into classes."""
    by_binding: dict[int, list[int]] = {}
    for number, part in enumerate(parts):
        if part.count:
            by_binding.setdefault(id(part.binding), []).append(number)
    classes, weights = [], []
    for numbers in by_binding.values():
        if len(numbers) > 1:
            numbers.sort(key=lambda n: parts[n].weights.tobytes())
        starts = (0, *itertools.accumulate(parts[n].count for n in numbers))
        own = np.concatenate([parts[n].weights for n in numbers])
        own = own.reshape(len(numbers), len(parts[numbers[0]].weights))
        classes.append(Class(parts[numbers[0]].binding, starts, own[1:] == own[:-1]))
        weights.append(own)
    order = tuple(map(tuple, by_binding.values()))
    return Arranged(tuple(classes), order, tuple(weights), len(parts))


def groups_of(cls: Class, workers: int) -> list[Group]:
    """Cut a class into groups: neighbours that share most of their weights stay together."""
    groups = []
    for family, (first, last) in enumerate(_families(cls)):
        start, stop = cls.starts[first], cls.starts[last]
        mixed = cls.mixed(first, last)
        n = _groups(stop - start, _group_size(cls.binding, stop - start, workers), workers)
        cuts = [start + i * (stop - start) // n for i in range(n + 1)]
        groups += [Group(cls, a, b, mixed, family) for a, b in itertools.pairwise(cuts)]
    return groups


def joins_of(cls: Class, groups: Iterable[Group]) -> list[tuple[int, int]]:
    """Give first and end of the requests of each group that spans several.

    Rows of theirs are one range for some stages: inputs and outputs have to lie together.
    """
    spans = [(cls.part_of(g.start), cls.part_of(g.stop - 1) + 1) for g in groups if g.cls is cls]
    joins: list[tuple[int, int]] = []
    for a, b in sorted(span for span in spans if span[1] - span[0] > 1):
        if joins and a < joins[-1][1]:
            joins[-1] = (joins[-1][0], max(b, joins[-1][1]))
        else:
            joins.append((a, b))
    return joins


def _families(cls: Class) -> list[tuple[int, int]]:
    """Runs of parts, each sharing most of its weight bytes with the one before."""
    n = len(cls.starts) - 1
    if n == 1:
        return [(0, 1)]
    binding = cls.binding
    shared = cls.same @ binding.sizes[list(binding.code.lowered.weights)]
    # Strictly more than half: without weights there is nothing to share.
    cuts = [0, *(np.flatnonzero(2 * shared <= binding.weight_bytes) + 1).tolist(), n]
    return list(itertools.pairwise(cuts))


def _groups(count: int, size: int, workers: int) -> int:
    """Choose how many groups of at most `size` there are: as many for each worker, if any has one.

    A smaller group at the end would leave workers without work, or make others share theirs.
    """
    n = -(-count // size)
    return min(-(-n // workers) * workers, count) if n > 1 else 1


def _group_size(binding: Binding, count: int, workers: int) -> int:
    if count == 1:
        return 1
    arena = max(1, binding.arena_bytes)
    if binding.weight_bytes >= _HEAVY_WEIGHTS_BYTES:
        return max(1, min(-(-count // workers), _HEAVY_ARENA_BYTES // arena))
    by_time = max(1, int(_TASK_NS / binding.instance_ns))
    return max(1, min(by_time, _CHAIN_ARENA_BYTES // arena, -(-count // workers)))
