"""Splits: a template's stages cut into blocks, ranges of stages between two preemption points."""

import itertools
from dataclasses import dataclass

from fusec.ir.errors import VerifyError

__all__ = ["Block", "Split"]


@dataclass(frozen=True, slots=True)
class Block:
    """Stages first_stage .. stop_stage of a template, the last one excluded."""

    first_stage: int
    stop_stage: int
    cost_ns: int
    """Of its stages, and of the cut that it begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """All stages of a template, in blocks."""

    blocks: tuple[Block, ...]
    """In the order in which they run, none of them empty; none at all if there is no stage."""
    note: str = ""
    """Why it is not what was asked for, if it is not."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            VerifyError: a block is empty, or does not begin where the one before it stops.
        """
        if self.blocks and self.blocks[0].first_stage != 0:
            raise VerifyError(f"a split begins at stage {self.blocks[0].first_stage}, not at 0")
        for block in self.blocks:
            if block.stop_stage <= block.first_stage or block.cost_ns < 0:
                raise VerifyError(f"{block} of a split is empty or costs less than nothing")
        for a, b in itertools.pairwise(self.blocks):
            if a.stop_stage != b.first_stage:
                raise VerifyError(f"{b} of a split does not follow {a}")

    @property
    def cuts(self) -> tuple[int, ...]:
        """Stages before which it is cut."""
        return tuple(b.first_stage for b in self.blocks[1:])

    @property
    def largest_ns(self) -> int:
        """Cost of the largest block: how long urgent work waits at most."""
        return max((b.cost_ns for b in self.blocks), default=0)
