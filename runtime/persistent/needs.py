"""Which tiles of a stage need which tiles of stages before it, element by element.

Every buffer has a map of who wrote each of its elements last. A stage's reads are looked up there,
whatever their strides, windows and views: there is no rule per pair of operations to get wrong.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import value
from fusec.ir.stage import BufferKind, Lowered, Stage
from fusec.kernels.persistent.footprint import Access
from fusec.runtime.persistent.stages import SLOT_BITS, Laid, group_at, groups_of, slot_of

__all__ = ["Need", "needs_of", "touched_slots"]

Need: TypeAlias = "NDArray[np.bool_]"
"""[tiles of the stage, tiles of the one before]: who needs whom."""


def needs_of(
    lowered: Lowered, symbols: Mapping[str, int], count: int, laid: Sequence[Laid]
) -> tuple[Mapping[int, Need], ...]:
    """Give, for each stage, the stages that it needs directly, with the tiles of each.

    Args:
        lowered: the stages.
        symbols: of the instances.
        count: instances.
        laid: the stages in tiles.
    """
    book = _Book(lowered, symbols, count, laid)
    return tuple(book.stage(number) for number in range(len(laid)))


def touched_slots(stage: Stage) -> tuple[set[int], set[int]]:
    """Give the slots that a stage reads and those that it writes."""
    point = stage.point.operands if stage.point else ()
    return (
        {v.slot for v in (*stage.reads, *point) if v is not None},
        {v.slot for v in stage.writes},
    )


class _Book:
    def __init__(
        self, lowered: Lowered, symbols: Mapping[str, int], count: int, laid: Sequence[Laid]
    ) -> None:
        self._laid, self._buffers = laid, lowered.buffers
        sizes = [len(stage.tiles) for stage in laid]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._elements = [
            0 if b.kind is BufferKind.WEIGHT else value(b.elements, symbols) * count
            for b in lowered.buffers
        ]
        self._sizes = [itemsize_bytes(b.dtype) for b in lowered.buffers]
        self._owners: dict[int, NDArray[np.int32]] = {}
        """Slot -> number of the tile, among those of all stages, that wrote each element."""
        self._writers: dict[int, set[int]] = {}
        self._coarse: dict[int, set[int]] = {}
        """Stages of which nobody knows what their tiles write."""
        self._touched: dict[int, set[int]] = {}

    def stage(self, number: int) -> Mapping[int, Need]:
        laid = self._laid[number]
        reads, writes = touched_slots(laid.stage)
        moving = {s for s in reads | writes if self._buffers[s].kind is not BufferKind.WEIGHT}
        needs: dict[int, Need] = {}
        # All of it, where one of the two stages does not tell.
        whole = {p for slot in reads & moving for p in self._coarse.get(slot, ())}
        if laid.accesses is None:
            whole |= {p for slot in reads & moving for p in self._writers.get(slot, ())}
        else:
            for at, accesses in enumerate(laid.accesses):
                for access in accesses:
                    if not access.writes:
                        self._read(number, at, access, needs)
        whole |= self._write(number, writes)
        for producer in whole - {number}:
            shape = (len(laid.tiles), len(self._laid[producer].tiles))
            needs[producer] = np.ones(shape, np.bool_)
        for slot in moving:
            self._touched.setdefault(slot, set()).add(number)
        return {p: need for p, need in sorted(needs.items()) if need.any()}

    def _places(self, access: Access) -> tuple[int, NDArray[np.int64]]:
        slot = slot_of(int(access.addresses.flat[0]))
        return slot, (access.addresses - (slot << SLOT_BITS)) // access.size_bytes

    def _read(self, number: int, at: int, access: Access, needs: dict[int, Need]) -> None:
        if not access.addresses.size:
            return
        slot, places = self._places(access)
        if slot not in self._owners:
            return
        laid = self._laid[number]
        _, layers, columns, rows = laid.shape
        owner = self._owners[slot][places].astype(np.int64)
        owner, who = np.broadcast_arrays(owner, groups_of(laid, access))
        owner, who = owner[owner >= 0], who[owner >= 0]
        if not owner.size:
            return
        low, high = int(owner.min()), int(owner.max()) + 1
        hits = np.zeros(((layers + 1) * (columns + 1) * (rows + 1), high - low), np.bool_)
        hits[who, owner - low] = True
        for group in np.flatnonzero(hits.any(axis=1)).tolist():
            where = (at, *group_at(laid, group))
            for producer in self._stages(low, high):
                first, end = int(self._first[producer]), int(self._first[producer + 1])
                a, b = max(first, low), min(end, high)
                if hits[group, a - low : b - low].any():
                    need = needs.setdefault(
                        producer, np.zeros((len(laid.tiles), end - first), np.bool_)
                    )
                    need.reshape(*laid.shape, -1)[(*where, slice(a - first, b - first))] |= hits[
                        group, a - low : b - low
                    ]

    def _stages(self, low: int, high: int) -> range:
        first = int(np.searchsorted(self._first, low, side="right")) - 1
        last = int(np.searchsorted(self._first, high - 1, side="right")) - 1
        return range(first, last + 1)

    def _write(self, number: int, slots: set[int]) -> set[int]:
        """Note who writes; give stages that have to be done as they used the elements before."""
        laid = self._laid[number]
        again: set[int] = set()
        if laid.accesses is None:
            for slot in slots:
                again |= self._touched.get(slot, set())
                self._coarse.setdefault(slot, set()).add(number)
        else:
            for at, accesses in enumerate(laid.accesses):
                for access in accesses:
                    if access.writes and access.addresses.size:
                        again |= self._own(number, at, access)
        for slot in slots:
            self._writers.setdefault(slot, set()).add(number)
        return again

    def _own(self, number: int, at: int, access: Access) -> set[int]:
        slot, places = self._places(access)
        if slot not in self._owners:
            self._owners[slot] = np.full(self._elements[slot], -1, np.int32)
        owners = self._owners[slot]
        first, end = int(self._first[number]), int(self._first[number + 1])
        before = owners[places]
        rewritten = ((before >= 0) & ((before < first) | (before >= end))).any()
        _, layers, columns, rows = self._laid[number].shape
        layer, column, row = (np.maximum(x, 0) for x in (access.layer, access.column, access.row))
        tile = ((at * layers + layer) * columns + column) * rows + row + first
        owners[places] = np.broadcast_to(tile, np.broadcast_shapes(places.shape, tile.shape))
        if rewritten or slot in self._coarse:
            return set(self._touched.get(slot, ()))
        return set()
