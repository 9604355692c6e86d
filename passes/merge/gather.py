"""Brings the places that the rows of a call read into one node."""

from itertools import groupby

import torch
from torch import fx

from fusec.passes.merge.operand import Bundle, Place, Slot

__all__ = ["Gather"]

aten = torch.ops.aten


class Gather:
    """Selects, slices and joins slots; asks for the same thing twice, emits it once."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._rows: dict[Place, fx.Node] = {}
        self._slices: dict[tuple[Slot, int, int, int], fx.Node] = {}
        self._joined: dict[Bundle, fx.Node] = {}

    def row(self, place: Place) -> fx.Node:
        """Give one value without leading axis."""
        node = place.slot.value
        assert isinstance(node, fx.Node)
        if not place.slot.grouped:
            return node
        if place not in self._rows:
            self._rows[place] = self._graph.call_function(aten.select.int, (node, 0, place.row))
        return self._rows[place]

    def __call__(self, bundle: Bundle) -> tuple[fx.Node, bool]:
        """Give the node for all rows of a call, and whether it has a leading axis."""
        first = bundle[0]
        slot = first.slot
        if first.row == 0 and len(bundle) == slot.rows and slot.grouped and is_whole(bundle):
            assert isinstance(slot.value, fx.Node)
            return slot.value, True
        if all(place == first for place in bundle):
            return self.row(first), False
        if bundle not in self._joined:
            self._joined[bundle] = self._join(bundle)
        return self._joined[bundle], True

    def _join(self, bundle: Bundle) -> fx.Node:
        if not any(place.slot.grouped for place in bundle):
            return self._graph.call_function(
                aten.stack.default, ([self.row(place) for place in bundle], 0)
            )
        step = _step(bundle)
        if step > 1:
            return self._slice(bundle[0].slot, bundle[0].row, bundle[-1].row + 1, step)
        pieces = [self._piece(run) for run in _runs(bundle)]
        if len(pieces) == 1:
            return pieces[0]
        return self._graph.call_function(aten.cat.default, (pieces, 0))

    def _piece(self, run: list[Place]) -> fx.Node:
        first = run[0]
        value = first.slot.value
        assert isinstance(value, fx.Node)
        if not first.slot.grouped:
            return self._graph.call_function(aten.unsqueeze.default, (value, 0))
        if len(run) == first.slot.rows:
            return value
        return self._slice(first.slot, first.row, first.row + len(run), 1)

    def _slice(self, slot: Slot, start: int, end: int, step: int) -> fx.Node:
        key = (slot, start, end, step)
        if key not in self._slices:
            args = (slot.value, 0, start, end) if step == 1 else (slot.value, 0, start, end, step)
            self._slices[key] = self._graph.call_function(aten.slice.Tensor, args)
        return self._slices[key]


def _step(bundle: Bundle) -> int:
    """Give the distance of a bundle's rows where it is one and the same in one stack, else 0."""
    slot, step = bundle[0].slot, bundle[1].row - bundle[0].row
    even = all(p.slot is slot and p.row == bundle[0].row + i * step for i, p in enumerate(bundle))
    return step if even and slot.grouped else 0


def is_whole(bundle: Bundle) -> bool:
    """Tell whether a bundle is all rows of one slot in order."""
    slot = bundle[0].slot
    return all(place.slot is slot and place.row == i for i, place in enumerate(bundle))


def _runs(bundle: Bundle) -> list[list[Place]]:
    """Cut a bundle into runs of consecutive rows of one slot."""
    numbered = enumerate(bundle)
    return [
        [place for _, place in run]
        for _, run in groupby(numbered, lambda x: (id(x[1].slot), x[1].row - x[0]))
    ]
