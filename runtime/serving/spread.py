"""How times are spread: how many are at most this long, for some lengths."""

from bisect import bisect_left

from fusec.ir.frozen import dataclass

__all__ = ["BOUNDS_NS", "Spread", "Spreading"]

BOUNDS_NS = tuple(
    round(ms * 1_000_000) for ms in (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000)
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Times that were counted."""

    counts: tuple[int, ...]
    """Of those up to each of `BOUNDS_NS` and beyond the bound before; the last: of longer ones."""
    sum_ns: int


class Spreading:
    """Counts times."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._counts = [0] * (len(BOUNDS_NS) + 1)
        self._sum_ns = 0

    def add(self, took_ns: int, times: int = 1) -> None:
        """Count a time, as many times as that.

        Cost: 0.3 us.
        """
        self._counts[bisect_left(BOUNDS_NS, took_ns)] += times
        self._sum_ns += times * took_ns

    def read(self) -> Spread:
        """Give what was counted."""
        return Spread(tuple(self._counts), self._sum_ns)
