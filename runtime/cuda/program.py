"""What an instance list does on a card: launches, each for all whose stage it is, and host stages.

    classes (requests of one template and extents)  ->  steps  ->  segments between host stages

A segment is what one graph can do. What tables hold of addresses is entered when those are known.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.kernels.triton_table import Special
from fusec.runtime.cuda.choose import Shape
from fusec.runtime.cuda.code import KernelKey, StageOnCard, StagesOnCard, Words
from fusec.runtime.cuda.merge import Step, merged
from fusec.runtime.tile.layout import Class

__all__ = [
    "Addresses",
    "HostStage",
    "KindOf",
    "Launched",
    "Program",
    "Segment",
    "program_of",
    "steps_of",
]

Addresses: TypeAlias = "Callable[[int], np.ndarray]"
"""Class -> [instances, slots] int64, where each buffer is."""


KindOf: TypeAlias = "Callable[[tuple[KernelKey, ...]], int]"
"""Numbers the kernels of segments: equal ones alike."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of a launch's table that are one class's."""

    cls: int
    words: Words
    firsts: np.ndarray
    """First instance of each row."""
    counts: np.ndarray
    """How many instances each row is."""

    def table(self, addresses: np.ndarray) -> np.ndarray:
        table = np.repeat(self.words.values[None, :], len(self.firsts), axis=0)
        if len(self.words.places):
            table[:, self.words.places] += addresses[np.ix_(self.firsts, self.words.slots)]
        if self.words.joins >= 0:
            table[:, self.words.joins] *= self.counts
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Launched:
    """One launch."""

    step: int
    key: KernelKey
    kernels: tuple[Special, ...]
    """Configurations, the preferred one first."""
    rows: tuple[_Rows, ...]
    shape: Shape
    width: int
    """Words of a row."""

    @property
    def n_rows(self) -> int:
        """Rows of its table."""
        return len(self.shape.extents)

    def table(self, addresses: Addresses) -> np.ndarray:
        """Give the table: [rows, words] int64."""
        return np.concatenate([own.table(addresses(own.cls)) for own in self.rows])


@dataclass(frozen=True, slots=True, eq=False)
class HostStage:
    """A stage without a kernel."""

    step: int
    cls: int
    stage: StageOnCard


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Launches one after another."""

    launches: tuple[Launched, ...]
    kind: int
    """Segments of equal kernels have equal numbers: sizes apart, one graph does for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """All of it."""

    parts: tuple[Segment | HostStage, ...]
    steps: int
    weights: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
    """By step: class, and the weights of its template that are read."""


def program_of(
    classes: Sequence[Class],
    stages: Sequence[StagesOnCard],
    on_host: Callable[[StageOnCard], bool],
    steps: Sequence[Step],
    kind_of: KindOf,
) -> Program:
    """Work out what to launch.

    Args:
        classes: of an instance list.
        stages: of each class.
        on_host: tells whether a stage has no kernel that this card can run.
        steps: as `steps_of` gave them for these templates.
        kind_of: numbers segments.
    """
    parts: list[Segment | HostStage] = []
    launches: list[Launched] = []
    weights = []

    def cut() -> None:
        if launches:
            kind = kind_of(tuple(launch.key for launch in launches))
            parts.append(Segment(tuple(launches), kind))
            launches.clear()

    for number, members in enumerate(steps):
        cls, at = members[0]
        stage = stages[cls].template.stages[at]
        weights.append(tuple((c, stages[c].template.stages[i].weights) for c, i in members))
        if not on_host(stage):
            launch = _launch(number, members, classes, stages)
            if launch is not None:
                launches.append(launch)
            continue
        cut()
        parts.append(HostStage(number, cls, stage))
    cut()
    return Program(tuple(parts), len(steps), tuple(weights))


def steps_of(
    stages: Sequence[StagesOnCard], on_host: Callable[[StageOnCard], bool]
) -> tuple[Step, ...]:
    """Put the stages of classes in one order; stages of equal kernels meet where they can."""
    return merged(
        [[None if on_host(stage) else stage.key for stage in own.template.stages] for own in stages]
    )


def _launch(
    number: int, members: Step, classes: Sequence[Class], stages: Sequence[StagesOnCard]
) -> Launched | None:
    """Give a launch; None if there is nothing to compute."""
    rows = []
    extents = []
    for cls, at in members:
        words = stages[cls].words[at]
        assert words is not None
        stage = stages[cls].template.stages[at]
        firsts, counts = _runs(classes[cls], stage.weights if words.joins >= 0 else None)
        rows.append(_Rows(cls, words, firsts, counts))
        own = np.empty((len(firsts), 3), dtype=np.int64)
        own[:, 0] = words.rows * counts
        own[:, 1:] = words.columns, words.layers
        extents.append(own)
    shape = Shape(np.concatenate(extents))
    if not shape.extents.prod(axis=1).any():
        return None
    first = stages[members[0][0]].template.stages[members[0][1]]
    key = first.key
    assert key is not None
    return Launched(number, key, first.kernels, tuple(rows), shape, len(rows[0].words.values))


def _runs(cls: Class, weights: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Give first instances and counts of rows: neighbours whose weights are equal are one.

    Args:
        cls: the class.
        weights: that the stage reads; None where each instance is a row of its own.
    """
    if weights is None:
        return np.arange(cls.instances), np.ones(cls.instances, dtype=np.int64)
    starts = np.asarray(cls.starts, dtype=np.int64)
    new = ~cls.same[:, list(weights)].all(axis=1)
    firsts = np.concatenate([starts[:1], starts[1:-1][new]])
    return firsts, np.diff(np.append(firsts, starts[-1]))
