"""How stages tell those after them that tiles are done: cuSync's policies as counters.

    policy   counters of the stage before     a tile waits for
    none     one                              all of its tiles: always possible
    row      one for each block of rows       the block of rows that it reads
    window   the same                         the blocks of rows that its window covers
    tile     one for each tile                the tiles that it reads

A counter is waited for in full, so a tile never goes by which of several signals came first.

Source: Jangda, Maleki et al., "A Framework for Fine-Grained Synchronization of Dependent GPU
Kernels" (cuSync), CGO 2024.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusec.runtime.persistent.needs import Need

__all__ = ["POLICIES", "Policy", "Shape", "counters_of", "name_of", "waited", "waited_part"]

Shape: TypeAlias = "tuple[int, int, int, int]"
"""Of a stage's tiles: rows of its table, layers, blocks of columns, blocks of rows."""


class Policy(StrEnum):
    """How fine a pair of stages is tied."""

    NONE = "none"
    ROW = "row"
    WINDOW = "window"
    TILE = "tile"


def _one(shape: Shape) -> NDArray[np.int64]:
    return np.zeros(np.prod(shape), np.int64)


def _rows(shape: Shape) -> NDArray[np.int64]:
    tables, _, _, rows = shape
    number = np.arange(tables)[:, None, None, None] * rows + np.arange(rows)
    return np.broadcast_to(number, shape).reshape(-1)


def _tiles(shape: Shape) -> NDArray[np.int64]:
    return np.arange(np.prod(shape), dtype=np.int64)


POLICIES: Mapping[Policy, Callable[[Shape], NDArray[np.int64]]] = {
    Policy.NONE: _one,
    Policy.ROW: _rows,
    Policy.TILE: _tiles,
}
"""Number of the counter that each tile signals, among its stage's; the coarsest policy first.

Rows and windows differ in what waits, not in what signals.
"""


def counters_of(policy: Policy, shape: Shape) -> NDArray[np.int64]:
    """Give the number of the counter that each tile of a stage signals, from 0.

    Args:
        policy: of the stage's pairs; a window's counters are those of rows.
        shape: of the stage's tiles.
    """
    return POLICIES[Policy.ROW if policy is Policy.WINDOW else policy](shape)


def waited(need: Need, counters: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Give which counters each tile waits for [tiles, counters].

    Args:
        need: [tiles, tiles before].
        counters: of the tiles before.
    """
    count = int(counters.max(initial=-1)) + 1
    # Tiles of one counter are put together in order, so that each is a run of columns.
    order = np.argsort(counters, kind="stable")
    starts = np.searchsorted(counters[order], np.arange(count))
    if not count:
        return np.zeros((len(need), 0), np.bool_)
    return np.logical_or.reduceat(need[:, order], starts, axis=1)


def waited_part(waits: NDArray[np.bool_], sizes: NDArray[np.int64]) -> float:
    """Give how many of a stage's tiles a tile of another waits for, of all of them.

    Args:
        waits: [tiles, counters].
        sizes: tiles that signal each counter.
    """
    # Who waits for a counter waits for all of its tiles.
    return float((waits.astype(float) @ sizes).mean() / max(1, sizes.sum())) if len(waits) else 0.0


def name_of(policy: Policy, waits: NDArray[np.bool_]) -> Policy:
    """Name what a pair became: rows of which a tile waits for several are a window."""
    if policy is Policy.ROW and (waits.sum(axis=1) > 1).any():
        return Policy.WINDOW
    return policy
