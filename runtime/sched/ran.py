"""What a stay on a lane took: what predictions are corrected by."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusec.ir.errors import ConfigError
from fusec.runtime.sched.records import Pack

__all__ = ["Ran", "RanPart"]


@dataclass(frozen=True, slots=True)
class RanPart:
    """Whole blocks of one template that ran."""

    template: str
    block: int
    until: int
    """Without it."""
    rows: int

    def __post_init__(self) -> None:
        """Refuse what nobody could have run."""
        if not 0 <= self.block < self.until or self.rows < 1:
            raise ConfigError(f"{self}: wanted blocks one after another and rows")


@dataclass(frozen=True, slots=True)
class Ran:
    """One stay on a lane, from the start of a block to the end of one.

    A driver leaves out stays that began or ended in the middle of a block, and those that failed.
    """

    parts: tuple[RanPart, ...]
    """Of a super-kernel one for each template, each of one block."""
    took_ns: int
    company: bool = False
    """Other lanes were busy for at least half of the time."""
    resumed: bool = False
    """Something else had run there in between: it paid for a cut."""

    def __post_init__(self) -> None:
        """Refuse what took no time."""
        if not self.parts or self.took_ns < 1:
            raise ConfigError(f"{self}: wanted at least one part, and a time")

    @classmethod
    def of(
        cls,
        pack: Pack,
        blocks: int,
        rows: Sequence[int],
        took_ns: int,
        *,
        company: bool = False,
        resumed: bool = False,
    ) -> "Ran":
        """Describe a stay.

        Args:
            pack: as it was launched.
            blocks: how many of them are done.
            rows: of all requests, of each part of the pack.
            took_ns: measured.
            company: other lanes were busy.
            resumed: something else had run there in between.
        """
        parts = tuple(
            RanPart(p.template, p.next_block, p.next_block + blocks, n)
            for p, n in zip(pack.parts, rows, strict=True)
        )
        return cls(parts, took_ns, company, resumed)
