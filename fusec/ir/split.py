"""Splits: a template's stages cut into blocks, ranges of stages between two preemption points."""

import itertools
from dataclasses import dataclass

from fusec.ir.errors import VerifyError

__all__ = ["Block", "Split"]


@dataclass(frozen=True, slots=True)
class Block:
    """Stages first_stage .. stop_stage of a template, the last one excluded.

    A block that begins or stops inside a stage says after how many of its parts.
    """

    first_stage: int
    stop_stage: int
    cost_ns: int
    """Of its stages, and of the cut that it begins with."""
    first_part: int = 0
    stop_part: int = 0
    """Parts of the stage `stop_stage` that it still has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """All stages of a template, in blocks."""

    blocks: tuple[Block, ...]
    """In the order in which they run, none of them empty; none at all if there is no stage."""
    parts: tuple[int, ...] = ()
    """How many parts each stage counts; () is one each. What a part is, the executor says: about
    so much of the stage's work."""
    note: str = ""
    """Why it is not what was asked for, if it is not."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            VerifyError: a block is empty, or does not begin where the one before it stops.
        """
        places = [(0, 0)]
        for block in self.blocks:
            first = (block.first_stage, block.first_part)
            stop = (block.stop_stage, block.stop_part)
            if first != places[-1]:
                raise VerifyError(f"{block} of a split does not follow stage and part {places[-1]}")
            if stop <= first or block.cost_ns < 0:
                raise VerifyError(f"{block} of a split is empty or costs less than nothing")
            places.append(stop)
        if any(not 0 <= part < self._parts_of(stage) for stage, part in places if part):
            raise VerifyError(f"places {places} of a split whose stages have {self.parts} parts")

    def _parts_of(self, stage: int) -> int:
        return self.parts[stage] if stage < len(self.parts) else 1

    @property
    def cuts(self) -> tuple[int, ...]:
        """Stages before or in which it is cut."""
        return tuple(b.first_stage for b in self.blocks[1:])

    @property
    def largest_ns(self) -> int:
        """Cost of the largest block: how long urgent work waits at most."""
        return max((b.cost_ns for b in self.blocks), default=0)

    def stops(self, stages: int) -> tuple[int, ...]:
        """Give where each block stops, counted in parts from the first stage on.

        Args:
            stages: how many the template has.

        Raises:
            VerifyError: it is another template's.
        """
        parts = self.parts or (1,) * stages
        before = (0, *itertools.accumulate(parts))
        ends = [(b.stop_stage, b.stop_part) for b in self.blocks] or [(0, 0)]
        if len(parts) != stages or min(parts, default=1) < 1 or ends[-1] != (stages, 0):
            raise VerifyError(f"a split up to stage and part {ends[-1]} of {stages} stages")
        return tuple(before[stage] + part for stage, part in ends)
