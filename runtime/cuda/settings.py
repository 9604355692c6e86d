"""What a user decides of runs on a card, and what is counted of them."""

from dataclasses import fields

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass

__all__ = ["Counters", "CudaSettings", "CudaStats"]

_MOST_LANES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSettings:
    """How a plan runs on a card; `check` finds what makes no sense."""

    card: int = 0
    """Number of the card."""
    lanes: int = 2
    """Runs that go on at once, each in a stream with memory of its own."""
    urgencies: tuple[int, ...] = ()
    """Of each lane's stream, 0 the least; () is 0 for all."""
    graphs: bool = True
    """Record the launches of a run once and enqueue them as one from then on."""
    most_graphs: int = 32
    """Graphs that a lane keeps; the least recently used leaves for another."""
    memory_budget: int | None = None
    """Bytes for weights on the card; None: most of what is free when it is first used."""
    overlapping: bool = False
    """Let a kernel start while the one before it ends (from sm_90 on)."""
    green: bool = False
    """Give each lane multiprocessors of its own, an equal share; all lanes or none."""

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: names the field, what it has and what is wanted.
        """
        limits = {"card": 0, "lanes": 1, "most_graphs": 1}
        for name, least in limits.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigError(f"{name} is {number!r}, wanted a whole number, {least} or more")
        if self.lanes > _MOST_LANES:
            raise ConfigError(f"lanes is {self.lanes}, wanted {_MOST_LANES} at most")
        if self.urgencies and len(self.urgencies) != self.lanes:
            raise ConfigError(
                f"urgencies has {len(self.urgencies)} numbers for {self.lanes} lanes; give one for "
                "each lane, or none"
            )
        budget = self.memory_budget
        if budget is not None and (type(budget) is not int or budget < 1):
            raise ConfigError(f"memory_budget is {budget!r}, wanted bytes, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaStats:
    """What was counted since a card was opened."""

    runs: int
    captures: int
    """Graphs that were recorded."""
    graphs: int
    """Those that are kept now."""
    graph_launches: int
    kernel_launches: int
    """One by one, outside of graphs."""
    compiles: int
    """Kernels that the plan had no code of."""
    uploads: int
    """Pages of weights that came to the card."""
    uploaded_bytes: int
    """Of weights."""
    evictions: int
    """Pages of weights that left for others."""
    resident_bytes: int
    """Weights that are on the card now."""
    input_bytes: int
    output_bytes: int
    table_bytes: int
    """Of tables that say who runs; a list that runs again has its tables there."""
    host_stages: int
    """Stages without a kernel that ran on the host meanwhile."""


class Counters:
    """The same numbers, counting; threads may lose each other's increments."""

    __slots__ = tuple(
        f.name for f in fields(CudaStats) if f.name not in ("graphs", "resident_bytes")
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        setattr(self, name, getattr(self, name) + count)

    def stats(self, *, graphs: int, resident_bytes: int) -> CudaStats:
        """Give what was counted by now."""
        counted = {name: getattr(self, name) for name in self.__slots__}
        return CudaStats(**counted, graphs=graphs, resident_bytes=resident_bytes)
