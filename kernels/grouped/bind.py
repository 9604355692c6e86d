"""Tables of a launch: rows for instances, tiles for rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from fusec.ir.extents import value
from fusec.ir.frozen import dataclass
from fusec.kernels.grouped.stage import Address, Grouped

__all__ = ["Bound", "bind", "tiles_of", "tiles_over"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bound:
    """A row of the table and how many tiles it takes."""

    words: np.ndarray[tuple[int], np.dtype[np.int64]]
    row_blocks: int
    column_blocks: int
    layers: int


def bind(
    stage: Grouped,
    addresses: Sequence[int],
    symbols: Mapping[str, int],
    block_m: int,
    block_n: int,
    instances: int = 1,
) -> Bound:
    """Bind a stage to an instance.

    Args:
        stage: what runs.
        addresses: of the instance's buffers, by slot.
        symbols: of the instance.
        block_m: rows of a tile.
        block_n: columns of a tile.
        instances: how many follow in memory, with equal weights and symbols; more than one where
            `stage.joins`.
    """
    assert instances == 1 or stage.joins >= 0, "instances of this stage do not lie as one"
    words = np.empty(len(stage.words), np.int64)
    for number, word in enumerate(stage.words):
        if isinstance(word, Address):
            words[number] = addresses[word.slot] + value(word.offset_bytes, symbols)
        else:
            words[number] = value(word, symbols)
    if stage.joins >= 0:
        words[stage.joins] *= instances
    rows = value(stage.rows, symbols) * instances
    columns = value(stage.columns, symbols)
    return Bound(
        words=words,
        row_blocks=-(-rows // block_m),
        column_blocks=-(-columns // block_n),
        layers=value(stage.layers, symbols),
    )


def tiles_of(rows: Sequence[Bound]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Give the tiles of rows of a table; see `tiles_over`."""
    return tiles_over(
        np.array(
            [(row.row_blocks, row.column_blocks, row.layers) for row in rows], np.int64
        ).reshape(-1, 3)
    )


def tiles_over(
    blocks: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Give tiles: row blocks of one block of columns one after another.

    Neighbours read the same columns of a weight, which are then in the cache.

    Args:
        blocks: of each row of a table: blocks of rows, blocks of columns, layers.
    """
    counts = blocks.prod(axis=1)
    owner = np.repeat(np.arange(len(blocks)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    height, width = blocks[owner, 0], blocks[owner, 1]
    tiles = np.empty((len(owner), 4), np.int32)
    tiles[:, 0] = owner
    tiles[:, 1] = number % height
    tiles[:, 2] = number // height % width
    tiles[:, 3] = number // height // width
    return tiles
