"""What running costs: per template, the time of each block as a function of the instances.

Requests count in rows, of which `grain` are one instance of the extents that were measured: one of
half the work has half as many. Below one instance time is in proportion.

{"models": {"cat": "t0"}, "together_percent": 100,
 "templates": {"t0": {"blocks_ns": {"1": [4000, 5000], "8": [16000, 20000]},
                      "cut_ns": 0, "max_batch": 8, "bytes_per_instance": 0, "grain": 1}}}

Between two profiled numbers of instances time is linear; beyond the last, the last slope goes on.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusec.ir.errors import ConfigError

__all__ = ["Profile", "TemplateCost"]

_MOST_BATCH = 4096
_MOST_GRAIN = 1024
_MOST_TIMES = 1 << 20
"""Of one template, by rows and block; far above any, below what fills a memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCost:
    """The measured costs of one template."""

    blocks_ns: Mapping[int, tuple[int, ...]]
    """Instances -> time of each block."""
    cut_ns: int = 0
    """What a run costs more each time that it goes on after something else ran on its lane."""
    max_batch: int = 1
    """Instances that may run together."""
    bytes_per_instance: int = 0
    grain: int = 1
    """Rows of an instance."""
    _left: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    """By rows, then by block: time from there to the end. Row 0 is empty."""

    def __post_init__(self) -> None:
        """Check the table and add it up."""
        known = sorted(self.blocks_ns)
        lengths = {len(row) for row in self.blocks_ns.values()}
        if not known or known[0] != 1 or len(lengths) != 1 or 0 in lengths:
            raise ConfigError(
                f"blocks_ns has {known} instances and {sorted(lengths)} blocks; wanted one "
                "instance and perhaps more, each with the same number of blocks, at least one"
            )
        if any(ns <= 0 for row in self.blocks_ns.values() for ns in row):
            raise ConfigError(f"a block takes no time at all: {dict(self.blocks_ns)}")
        if not 1 <= self.max_batch <= _MOST_BATCH or self.cut_ns < 0 or self.bytes_per_instance < 0:
            raise ConfigError(
                f"max_batch {self.max_batch}, cut_ns {self.cut_ns}, bytes_per_instance "
                f"{self.bytes_per_instance}: wanted 1 to {_MOST_BATCH}, and nothing negative"
            )
        if not 1 <= self.grain <= _MOST_GRAIN:
            raise ConfigError(f"grain {self.grain}: wanted 1 to {_MOST_GRAIN}")
        if self.max_rows * max(lengths) > _MOST_TIMES:
            raise ConfigError(
                f"{max(lengths)} blocks of up to {self.max_rows} rows, wanted "
                f"{_MOST_TIMES} together at most"
            )
        rows = [()] + [_left(self._row(n, known)) for n in range(1, self.max_rows + 1)]
        object.__setattr__(self, "_left", tuple(rows))

    @property
    def n_blocks(self) -> int:
        """How many blocks a run has."""
        return len(self.blocks_ns[1])

    @property
    def max_rows(self) -> int:
        """Rows of several requests that may run together."""
        return self.max_batch * self.grain

    def left_ns(self, block: int, rows: int) -> int:
        """Give the time from the start of a block to the end of the run."""
        if rows < len(self._left):
            return self._left[rows][block]
        return sum(self._row(rows, sorted(self.blocks_ns))[block:])  # one request of many rows

    def span_ns(self, block: int, until: int, rows: int) -> int:
        """Give the time of the blocks from one up to, and without, another."""
        return self.left_ns(block, rows) - self.left_ns(until, rows)

    def rows_of(self, units: float) -> int:
        """Give the rows of a request that takes so many times what one instance takes alone.

        More than one instance's work in one request is not as fast as several instances: each
        worker has its own of those.
        """
        if units <= 1:
            return max(1, round(self.grain * units))
        wanted = round(units * self.solo_ns)
        most = self._left[-1][0]
        if wanted > most:
            return self.max_rows * wanted // most
        return bisect_left(self._left, wanted, lo=self.grain, key=lambda row: row[0])

    def needs_bytes(self, rows: int) -> int:
        """Give the memory that so many rows hold from their start to their end."""
        return self.bytes_per_instance * rows // self.grain

    @property
    def solo_ns(self) -> int:
        """The time of one instance alone."""
        return self._left[self.grain][0]

    @property
    def share_ns(self) -> int:
        """The time of an instance in the fullest batch: what a queue of them costs each."""
        return self._left[self.max_rows][0] // self.max_batch

    def _row(self, rows: int, known: list[int]) -> tuple[int, ...]:
        instances, rest = divmod(rows, self.grain)
        exact = None if rest else self.blocks_ns.get(instances)
        if exact is not None:
            return exact
        if len(known) == 1 or not instances:
            return tuple(max(1, ns * rows // self.grain) for ns in self.blocks_ns[1])
        above = next((i for i, n in enumerate(known) if n > instances), len(known) - 1)
        low, high = known[above - 1], known[above]
        pairs = zip(self.blocks_ns[low], self.blocks_ns[high], strict=True)
        beyond, step = rows - low * self.grain, (high - low) * self.grain
        return tuple(max(1, a + (b - a) * beyond // step) for a, b in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The costs of all templates of a plan, and which model has which."""

    templates: Mapping[str, TemplateCost]
    models: Mapping[str, str]
    together_percent: int = 100
    """Time of blocks of several templates in one super-kernel, in percent of their sum."""
    longest_ns: int = field(init=False, compare=False)
    """The longest solo time of any template."""
    _stated: "Profile | None" = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that models and templates fit."""
        lost = sorted(m for m, t in self.models.items() if t not in self.templates)
        if lost or not self.models:
            raise ConfigError(
                f"models {lost} have templates without costs" if lost else "a profile has no models"
            )
        if not 1 <= self.together_percent <= 1000:
            raise ConfigError(f"together_percent is {self.together_percent}, wanted 1 to 1000")
        longest = max(t.solo_ns for t in self.templates.values())
        object.__setattr__(self, "longest_ns", longest)

    def __getitem__(self, template: str) -> TemplateCost:
        """Give the costs of a template."""
        return self.templates[template]

    @property
    def stated(self) -> "Profile":
        """The profile before corrections: by it are ranks and due times, which must not move."""
        return self if self._stated is None else self._stated

    def having(self, templates: Mapping[str, TemplateCost], models: Mapping[str, str]) -> "Profile":
        """Give the profile with some costs, and models, new or in place of what it has."""
        return Profile(
            templates={**self.templates, **templates},
            models={**self.models, **models},
            together_percent=self.together_percent,
        )

    def to_json(self) -> dict[str, Any]:
        """Give the profile as JSON data."""
        return {
            "models": dict(self.models),
            "together_percent": self.together_percent,
            "templates": {
                key: {
                    "blocks_ns": {str(n): list(row) for n, row in t.blocks_ns.items()},
                    "cut_ns": t.cut_ns,
                    "max_batch": t.max_batch,
                    "bytes_per_instance": t.bytes_per_instance,
                    "grain": t.grain,
                }
                for key, t in self.templates.items()
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> "Profile":
        """Read what `to_json` gave, or a person wrote; what may be left out has its default.

        Raises:
            ConfigError: it is something else.
        """
        try:
            templates = {str(k): _template(t) for k, t in data["templates"].items()}
            models = data.get("models", {name: name for name in templates})
            percent = _whole(data.get("together_percent", 100))
            models = {str(m): str(t) for m, t in models.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise ConfigError(
                f"not a profile ({type(e).__name__}: {e}); wanted "
                '{"templates": {NAME: {"blocks_ns": {"1": [NS, ...]}}}}'
            ) from e
        return cls(templates=templates, models=models, together_percent=percent)

    @classmethod
    def read(cls, path: Path) -> "Profile":
        """Read a profile from a JSON file.

        Raises:
            ConfigError: there is none.
        """
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise ConfigError(f"{path}: cannot be read as JSON: {e}") from e
        try:
            return cls.from_json(data)
        except ConfigError as e:
            raise ConfigError(f"{path}: {e}") from e


def _template(data: Any) -> TemplateCost:
    table = {int(n): tuple(map(_whole, row)) for n, row in data["blocks_ns"].items()}
    return TemplateCost(
        blocks_ns=table,
        cut_ns=_whole(data.get("cut_ns", 0)),
        max_batch=_whole(data.get("max_batch", max(table, default=1))),
        bytes_per_instance=_whole(data.get("bytes_per_instance", 0)),
        grain=_whole(data.get("grain", 1)),
    )


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _left(row: tuple[int, ...]) -> tuple[int, ...]:
    sums = [0]
    for ns in reversed(row):
        sums.append(sums[-1] + ns)
    return tuple(reversed(sums))
