"""A template's stages as tiles of the super-kernel, for one set of extents."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.errors import UnsupportedError
from fusec.ir.extents import value
from fusec.ir.frozen import dataclass
from fusec.ir.stage import BufferKind, Lowered, Stage
from fusec.kernels.grouped.bind import Bound, bind, tiles_of
from fusec.kernels.grouped.stage import Address, Grouped
from fusec.kernels.persistent.footprint import Access, footprint
from fusec.kernels.triton_table import Special, grouped
from fusec.runtime.tile.code import encode_stage

__all__ = ["SLOT_BITS", "Laid", "Pick", "group_at", "groups_of", "lay", "slot_of"]

Pick: TypeAlias = "Callable[[Grouped], Special | None]"
"""Spelled stage -> how its tiles are run."""

SLOT_BITS = 40
"""Before buffers have addresses, each begins at its slot number times 2^40."""


def slot_of(address: int) -> int:
    """Give the buffer that such an address is in."""
    return address >> SLOT_BITS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laid:
    """A stage in tiles."""

    stage: Stage
    special: Special
    words: NDArray[np.int64]
    """Its table [rows, words]; addresses are as `SLOT_BITS` says."""
    addresses: NDArray[np.bool_]
    """Which words of a row are addresses."""
    tiles: NDArray[np.int32]
    """As a launch has them."""
    shape: tuple[int, int, int, int]
    """Of the tiles: rows of the table, layers, blocks of columns, blocks of rows."""
    accesses: tuple[tuple[Access, ...], ...] | None
    """Of each row of the table; None where every tile may touch all operands."""
    flops: int
    moved_bytes: int
    """Both of all tiles together."""


def groups_of(laid: Laid, access: Access) -> NDArray[np.int64]:
    """Number the groups of tiles that elements of an access belong to."""
    _, _, columns, rows = laid.shape
    # 0 is all of them.
    return ((access.layer + 1) * (columns + 1) + access.column + 1) * (rows + 1) + access.row + 1


def group_at(laid: Laid, group: int) -> tuple[slice, slice, slice]:
    """Give the layers, blocks of columns and blocks of rows of a group of tiles."""
    _, _, columns, rows = laid.shape
    rest, row = divmod(group, rows + 1)
    layer, column = divmod(rest, columns + 1)
    return _part(layer), _part(column), _part(row)


def _part(number: int) -> slice:
    return slice(None) if number == 0 else slice(number - 1, number)


def lay(lowered: Lowered, symbols: Mapping[str, int], count: int, pick: Pick) -> tuple[Laid, ...]:
    """Lay out all stages.

    Args:
        lowered: a template's stages.
        symbols: of the instances.
        count: instances, which have equal weights and lie one after another.
        pick: chooses a configuration.

    Raises:
        UnsupportedError: a stage has no kernel for cards.

    Cost: some nanoseconds per element that is read or written; once per extents.
    """
    sizes = [
        0 if b.kind is BufferKind.WEIGHT else value(b.elements, symbols) * itemsize_bytes(b.dtype)
        for b in lowered.buffers
    ]
    layer = _Layer(lowered, symbols, count, sizes)
    return tuple(layer.lay(number, stage, pick) for number, stage in enumerate(lowered.stages))


class _Layer:
    def __init__(
        self, lowered: Lowered, symbols: Mapping[str, int], count: int, sizes: Sequence[int]
    ) -> None:
        self._lowered, self._symbols, self._count, self._sizes = lowered, symbols, count, sizes
        self._moves = [b.kind is not BufferKind.WEIGHT for b in lowered.buffers]

    def lay(self, number: int, stage: Stage, pick: Pick) -> Laid:
        spelled = grouped(stage, self._lowered.buffers)
        special = None if spelled is None else pick(spelled)
        if spelled is None or special is None:
            raise UnsupportedError(f"stage {number} ({stage.op}) has no kernel for cards")
        bounds = self._bounds(spelled, special)
        first = bounds[0]
        accesses = [footprint(special, bound, self._moving) for bound in bounds]
        encoded = encode_stage(stage, self._lowered.buffers)
        parts = (encoded.flops, encoded.read_bytes, encoded.written_bytes)
        flops, *moved = (value(part, self._symbols) * self._count for part in parts)
        return Laid(
            stage=stage,
            special=special,
            words=np.stack([bound.words for bound in bounds]),
            addresses=np.array([isinstance(w, Address) for w in spelled.words], np.bool_),
            tiles=tiles_of(bounds),
            shape=(len(bounds), first.layers, first.column_blocks, first.row_blocks),
            accesses=None
            if any(found is None for found in accesses)
            else tuple(found for found in accesses if found is not None),
            flops=flops,
            moved_bytes=sum(moved),
        )

    def _bounds(self, spelled: Grouped, special: Special) -> list[Bound]:
        blocks = dict(special.config.blocks)
        m, n = blocks.get("BLOCK_M", 1), blocks.get("BLOCK_N", 1)
        joined = spelled.joins >= 0
        return [
            bind(
                spelled,
                [(slot << SLOT_BITS) + i * size for slot, size in enumerate(self._sizes)],
                self._symbols,
                m,
                n,
                self._count if joined else 1,
            )
            for i in range(1 if joined else self._count)
        ]

    def _moving(self, address: int) -> bool:
        return self._moves[slot_of(address)]
