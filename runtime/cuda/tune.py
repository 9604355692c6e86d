"""Which configuration is fastest, by measuring: kept on disk for each card and compiler.

All configurations of a stage give the same bytes, so a wrong or an old choice costs time only.
Stages of equal kernels and sizes within a factor of two share a choice.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import TypeAlias

from fusec.ir.errors import ConfigError
from fusec.kernels.cache import load_object, store_object
from fusec.kernels.triton_table import Special
from fusec.runtime.cuda.choose import Shape

__all__ = ["Choices", "Measure", "fastest", "tuned"]

Measure: TypeAlias = Callable[[Special], int]
"""Launches a kernel once and gives how long it ran, in nanoseconds, as the card's events say."""

_ROUNDS = 7
_MARGIN = 1.03
"""What another configuration has to win by: less is noise, and the preferred one is proven."""


def fastest(times_ns: Sequence[Sequence[int]]) -> int:
    """Give the number of the configuration to take; pure.

    Args:
        times_ns: of each configuration, the preferred one first.

    Raises:
        ConfigError: a configuration was not measured.
    """
    if not times_ns or not all(times_ns):
        raise ConfigError("tuning wants at least one time of each configuration")
    middles = [median_low(own) for own in times_ns]
    best = min(range(len(middles)), key=middles.__getitem__)
    return best if middles[0] > middles[best] * _MARGIN else 0


def tuned(kernels: Sequence[Special], measure: Measure, rounds: int = _ROUNDS) -> int:
    """Measure configurations in turn and give the number of the one to take.

    Args:
        kernels: of one stage, the preferred one first.
        measure: runs one.
        rounds: how often each runs, after once that does not count.

    Raises:
        KernelError: the driver refuses.
    """
    if len(kernels) == 1:
        return 0
    for special in kernels:
        measure(special)
    # In turn, so that a card whose clock changes is slow for all of them.
    rows = [[measure(special) for special in kernels] for _ in range(rounds)]
    return fastest(list(zip(*rows, strict=True)))


class Choices:
    """Choices for one kind of card. Not for several threads at once."""

    def __init__(self, device: str, compiler: str) -> None:
        """Read what earlier processes found.

        Args:
            device: the card's name, as its driver gives it.
            compiler: with its version; another one's code takes other times.
        """
        self._key = hashlib.sha256(f"{device}\0{compiler}".encode()).digest()
        self._found = _read(load_object(_NAME, self._key))

    def of(self, kernels: Sequence[Special], shape: Shape, measure: Measure) -> int:
        """Give the number of the configuration to take, measured if nobody did.

        Args:
            kernels: that the card can run, of one stage, the preferred one first.
            shape: of the launch.
            measure: runs one.
        """
        key = _stage_key(kernels, shape)
        number = self._found.get(key)
        if number is None or number >= len(kernels):
            number = self._found[key] = tuned(kernels, measure)
            store_object(_NAME, self._key, json.dumps(self._found, sort_keys=True).encode())
        return number


_NAME = "tuned"


def _stage_key(kernels: Sequence[Special], shape: Shape) -> str:
    """Name kernels with their configurations, and how large a launch is."""
    sizes = [int(x).bit_length() for x in (*shape.extents.max(axis=0), len(shape.extents))]
    what = [(k.kernel.function, k.constants, k.config.warps, k.config.stages) for k in kernels]
    return hashlib.sha256(repr((what, sizes)).encode()).hexdigest()


def _read(data: bytes | None) -> dict[str, int]:
    """Read choices; another fusec may have written something else there."""
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if type(v) is int and v >= 0}
