"""Tables of all launches of a segment as one block of memory, with room for other lists.

    | count of each launch | table, tiles of the first launch | table, tiles of the next | ...

Where each table is depends on capacities only: a graph has these addresses, and any list that fits
runs through it.
"""

from collections.abc import Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.kernels.grouped.bind import tiles_over
from fusec.runtime.cuda.choose import Shape
from fusec.runtime.cuda.program import Addresses, Launched

__all__ = ["Room", "Sheet", "fill_launch", "filled", "tile_count"]

_LINE_BYTES = 16
"""All that kernels are given lies at multiples of this."""
_TILE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Room:
    """How much a launch may be of, and the sizes of its tiles."""

    rows: int
    tiles: int
    width: int
    block_m: int
    block_n: int


class Sheet:
    """The layout for some rooms."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        """Lay out.

        Args:
            rooms: of each launch.
        """
        self.rooms = tuple(rooms)
        end = _LINE_BYTES * len(self.rooms)
        tables, tiles = [], []
        for room in self.rooms:
            tables.append(end)
            end = _up(end + room.rows * room.width * 8)
            tiles.append(end)
            end = _up(end + room.tiles * _TILE_BYTES)
        self.counts = tuple(_LINE_BYTES * i for i in range(len(self.rooms)))
        self.tables, self.tiles = tuple(tables), tuple(tiles)
        self.n_bytes = end

    def span(self, number: int) -> tuple[int, int]:
        """Give the bytes of a launch's table and tiles: first, and end."""
        end = self.tables[number + 1] if number + 1 < len(self.rooms) else self.n_bytes
        return self.tables[number], end


def tile_count(shape: Shape, block_m: int, block_n: int) -> int:
    """Count the tiles of a launch."""
    return int(shape.blocks(block_m, block_n).prod(axis=1).sum())


def filled(sheet: Sheet, launches: Sequence[Launched], addresses: Addresses) -> np.ndarray:
    """Give all bytes of a sheet for a list.

    Args:
        sheet: with room for it.
        launches: of the list.
        addresses: of its buffers.
    """
    memory = np.zeros(sheet.n_bytes, dtype=np.uint8)
    known: dict[bytes, np.ndarray] = {}
    for number, launch in enumerate(launches):
        fill_launch(memory, sheet, number, launch, addresses, known)
    return memory


def fill_launch(
    memory: np.ndarray,
    sheet: Sheet,
    number: int,
    launch: Launched,
    addresses: Addresses,
    known: dict[bytes, np.ndarray],
) -> None:
    """Enter a launch.

    Args:
        memory: of the sheet, bytes.
        sheet: its layout.
        number: of the launch.
        launch: of the list.
        addresses: of its buffers.
        known: tiles that were made for this list before: most launches have those of another.
    """
    room = sheet.rooms[number]
    blocks = launch.shape.blocks(room.block_m, room.block_n)
    tiles = known.get(key := blocks.tobytes())
    if tiles is None:
        tiles = known[key] = tiles_over(blocks)
    table = launch.table(addresses)
    memory[sheet.counts[number] :][:4].view(np.int32)[0] = len(tiles)
    memory[sheet.tables[number] :][: table.nbytes].view(np.int64)[:] = table.reshape(-1)
    memory[sheet.tiles[number] :][: tiles.nbytes].view(np.int32)[:] = tiles.reshape(-1)


def _up(n_bytes: int) -> int:
    return -(-n_bytes // _LINE_BYTES) * _LINE_BYTES
