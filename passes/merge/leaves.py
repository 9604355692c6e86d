"""Inputs and weights of a merged program: placeholders, made as calls ask for them."""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from fusec.passes.merge.gather import Gather
from fusec.passes.merge.numbering import Numbers
from fusec.passes.merge.operand import Bundle, Place, Slot

__all__ = ["Leaves", "Weight", "identifier", "stack"]


def identifier(name: str, taken: Container[str]) -> str:
    """Give a Python identifier for a name that is not taken."""
    base = re.sub(r"\W", "_", name)
    base = base if base and not base[0].isdigit() else f"_{base}"
    found, count = base, 0
    while found in taken:
        count += 1
        found = f"{base}_{count}"
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A weight of the merged program.

    Attributes:
        node: its placeholder.
        name: its name.
        numbers: the values stacked in it.
        grouped: whether they are stacked; else there is one.
    """

    node: fx.Node
    name: str
    numbers: tuple[int, ...]
    grouped: bool


class Leaves(Gather):
    """Gathers like its parent; weights become placeholders, stacked as the first reader asks.

    Stacking in the order of the rows that read them costs nothing at run time. A weight that is
    read in two different companies is stored twice, unless one is a part of the other.
    """

    def __init__(self, graph: fx.Graph, numbers: Numbers) -> None:
        super().__init__(graph)
        self._numbers = numbers
        self._slots: dict[Slot, int] = {}
        self._last: fx.Node | None = None
        self._names: dict[str, fx.Node] = {}
        self._homes: dict[int, list[Place]] = {}
        self.places: dict[int, Place] = {}
        """Where each weight's single value is asked for."""
        self.weights: list[Weight] = []
        for number in numbers.weights:
            slot = Slot((), 1, False)
            self._slots[slot] = number
            self.places[number] = Place(slot, 0)

    def placeholder(self, name: str) -> fx.Node:
        """Add a placeholder behind those that there are."""
        unique = identifier(name, self._names)
        point = (
            self._graph.inserting_before(None)
            if self._last is None
            else self._graph.inserting_after(self._last)
        )
        with point:
            self._last = self._graph.placeholder(unique)
        self._names[unique] = self._last
        return self._last

    def row(self, place: Place) -> fx.Node:
        """Give one value without leading axis."""
        if place.slot not in self._slots:
            return super().row(place)
        number = self._slots[place.slot]
        if number not in self._homes:
            self._weight((number,), False)
        return super().row(self._homes[number][0])

    def __call__(self, bundle: Bundle) -> tuple[fx.Node, bool]:
        """Give the node for all rows of a call, and whether it has a leading axis."""
        if bundle[0].slot not in self._slots:
            return super().__call__(bundle)
        numbers = tuple(self._slots[place.slot] for place in bundle)
        if len(set(numbers)) == 1:
            return self.row(bundle[0]), False
        for home in self._homes.get(numbers[0], ()):
            part = self._part(home, numbers)
            if part:
                return super().__call__(part)
        return self._weight(numbers, True), True

    def _part(self, home: Place, numbers: tuple[int, ...]) -> Bundle:
        """Give the run of a stack that starts at a place and is these numbers; empty if none."""
        if home.row + len(numbers) > home.slot.rows or not home.slot.grouped:
            return ()
        run = tuple(Place(home.slot, home.row + i) for i in range(len(numbers)))
        return (
            run
            if all(p in self._homes.get(n, ()) for p, n in zip(run, numbers, strict=True))
            else ()
        )

    def _weight(self, numbers: tuple[int, ...], grouped: bool) -> fx.Node:
        label = self._label(numbers)
        node = self.placeholder(label)
        self.weights.append(Weight(node, label, numbers, grouped))
        slot = Slot(node, len(numbers), grouped)
        for row, number in enumerate(numbers):
            self._homes.setdefault(number, []).append(Place(slot, row))
        return node

    def _label(self, numbers: Sequence[int]) -> str:
        base = self._numbers.weights[numbers[0]][0]
        taken = {weight.name for weight in self.weights}
        label, count = base, 0
        while label in taken:
            count += 1
            label = f"{base}.{count}"
        return label


def stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack weights."""
    return torch.stack([tensor.detach() for tensor in tensors])
