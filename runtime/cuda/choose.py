"""Which configuration a launch takes: all give the same bytes, so only time counts."""

from collections.abc import Mapping, Sequence

import numpy as np

from fusec.ir.frozen import dataclass

__all__ = ["Shape", "blocks_of", "choose"]

_EDGE = 24
"""What fetching a row or column of a tile costs, in products of a tile."""
_START = 1024
"""What a tile costs at least, in the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What a launch works on: of each row of its table rows, columns and layers."""

    extents: np.ndarray
    """[rows of the table, 3] int64."""

    def blocks(self, block_m: int, block_n: int) -> np.ndarray:
        """Give blocks of rows, blocks of columns and layers, [rows of the table, 3]."""
        blocks = self.extents.copy()
        blocks[:, 0] = -(-blocks[:, 0] // block_m)
        blocks[:, 1] = -(-blocks[:, 1] // block_n)
        return blocks


def blocks_of(blocks: Sequence[tuple[str, int]] | Mapping[str, int]) -> tuple[int, int]:
    """Give rows and columns of a tile, of a configuration's sizes of blocks."""
    sizes = dict(blocks)
    return sizes.get("BLOCK_M", 1), sizes.get("BLOCK_N", 1)


def choose(shape: Shape, sizes: Sequence[tuple[int, int]], multiprocessors: int) -> int:
    """Give the number of the configuration that should take least time; of equals the first.

    Tiles are dealt out to multiprocessors in rounds; small tiles fill them all, large ones fetch
    less.

    Args:
        shape: of the launch.
        sizes: rows and columns of a tile, of each configuration.
        multiprocessors: of the card.
    """
    costs = []
    for block_m, block_n in sizes:
        tiles = int(shape.blocks(block_m, block_n).prod(axis=1).sum())
        rounds = -(-tiles // multiprocessors)
        costs.append(rounds * (block_m * block_n + _EDGE * (block_m + block_n) + _START))
    return costs.index(min(costs))
