"""How even a split is, and what it costs: predicted from a profile, or measured block by block."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SplitReport", "report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """Figures of one split."""

    block_ns: tuple[float, ...]
    whole_ns: float
    """Of the same stages uncut."""

    @property
    def mean_ns(self) -> float:
        """Mean of the block times."""
        return statistics.fmean(self.block_ns)

    @property
    def deviation(self) -> float:
        """Standard deviation of the block times over their mean."""
        return statistics.pstdev(self.block_ns) / self.mean_ns if self.mean_ns else 0.0

    @property
    def overhead(self) -> float:
        """What all blocks take more than the uncut stages, as a share of these."""
        return sum(self.block_ns) / self.whole_ns - 1 if self.whole_ns else 0.0

    @property
    def overhead_per_cut(self) -> float:
        """The same for one cut; 0 where there is none."""
        return self.overhead / max(1, len(self.block_ns) - 1)

    def __str__(self) -> str:
        times = ", ".join(f"{ns / 1e3:.1f}" for ns in self.block_ns)
        return (
            f"{len(self.block_ns)} blocks of {times} us: deviation {self.deviation:.1%} of the "
            f"mean, overhead {self.overhead_per_cut:+.1%} per cut"
        )


def report(block_ns: Sequence[float], whole_ns: float) -> SplitReport:
    """Give the figures of a split.

    Args:
        block_ns: time of each block, at least one: predicted (`Split.blocks`) or measured.
        whole_ns: time of all stages without a cut.
    """
    return SplitReport(block_ns=tuple(block_ns), whole_ns=whole_ns)
