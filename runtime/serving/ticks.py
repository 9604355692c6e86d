"""Ticks that came before: the same models, dtypes and shapes. Only the arrays are looked at again.

A tick of 122 models is read and copied in some 3 us a model this way.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.request import Request
from fusec.runtime.serving.answer import Answer, Courier
from fusec.runtime.serving.items import Item, Kind
from fusec.runtime.tile.arrays import ArrayReader, readable

__all__ = ["Ticks"]

_MOST_TICKS = 64
_MOST_AXES = 10
"""What an `ArrayReader` takes."""

Futures = dict[str, "Future[dict[str, Any]]"]


@dataclass(frozen=True, slots=True, eq=False)
class _Tick:
    reader: ArrayReader
    requests: tuple[Request, ...]
    """Without inputs, in the order of the names."""
    kinds: tuple[Kind, ...]
    alike: tuple[tuple[int, ...], ...]
    """Positions of inputs of one shape and dtype: they are copied together."""
    groups: tuple[tuple[int, ...], ...]
    """Positions of each template's items."""


class Ticks:
    """What was asked for together lately, of one version of the plan."""

    def __init__(self, courier: Courier) -> None:
        """Begin without any.

        Args:
            courier: for the futures.
        """
        self._courier = courier
        self._known: OrderedDict[tuple[str, ...], _Tick] = OrderedDict()
        self._version = -1
        self._last: tuple[str, ...] = ()

    def read(
        self, requests: Mapping[str, Any], version: int
    ) -> tuple[Futures, Sequence[Sequence[Item]]] | None:
        """Read a tick like one before.

        Args:
            requests: model name -> inputs, unchecked.
            version: of the plan.

        Returns:
            A future for each call, and the items by template; None if there was no such tick.
        """
        if version != self._version:
            self._known.clear()  # it keeps the weights of its models alive
            self._version = version
            return None
        names = tuple(requests)
        tick = self._known.get(names)
        if tick is None:
            return None
        given = list(requests.values())
        if tick.reader.addresses(given) is None:
            return None
        inputs, addresses = _copies(tick, given)
        courier = self._courier
        items = [
            Item(request, kind, (array,), (address,), Answer(courier))
            for request, kind, array, address in zip(
                tick.requests, tick.kinds, inputs, addresses, strict=True
            )
        ]
        futures: Futures = {name: item.future for name, item in zip(names, items, strict=True)}
        if len(tick.groups) == 1:
            return futures, (items,)
        return futures, tuple([[items[i] for i in group] for group in tick.groups])

    def remember(
        self, names: tuple[str, ...], groups: Sequence[Sequence[Item]], version: int
    ) -> None:
        """Remember a tick that comes the second time, if it is of the usual sort.

        Args:
            names: of its models.
            groups: its items by template; none of a bad call.
            version: of the plan when the models' names were looked up.
        """
        before, self._last = self._last, names
        items = {item.request.target.name: item for group in groups for item in group}
        if before != names or len(items) != len(names) or version != self._version:
            return
        ordered = [items[name] for name in names]
        if not all(map(_usual, ordered)) or not readable():
            return
        arrays = [item.inputs[0] for item in ordered]
        position = {name: i for i, name in enumerate(names)}
        alike: dict[object, list[int]] = {}
        for i, array in enumerate(arrays):
            alike.setdefault((array.dtype, array.shape), []).append(i)
        self._known[names] = _Tick(
            ArrayReader([a.dtype for a in arrays], [a.shape for a in arrays]),
            tuple([item.request for item in ordered]),
            tuple([item.kind for item in ordered]),
            tuple(map(tuple, alike.values())),
            tuple(tuple(position[i.request.target.name] for i in group) for group in groups),
        )
        if len(self._known) > _MOST_TICKS:
            self._known.popitem(last=False)


def _usual(item: Item) -> bool:
    """Tell whether a call is one array that native code can read."""
    return (
        item.kind.binding is not None
        and len(item.inputs) == 1
        and item.request.rows != 0
        and item.request.wants_numpy
        and 1 <= item.inputs[0].ndim <= _MOST_AXES
    )


def _copies(tick: _Tick, given: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """Copy inputs, alike ones into one block; give them with their addresses."""
    first = given[0]
    if all(array is first for array in given):
        copy = np.array(first, order="C", copy=True)
        return [copy] * len(given), [copy.ctypes.data] * len(given)
    arrays, addresses = given.copy(), [0] * len(given)
    for positions in tick.alike:
        block = np.concatenate([given[i] for i in positions])
        block = block.reshape(len(positions), *given[positions[0]].shape)
        address, step = block.ctypes.data, block.strides[0]
        for n, (i, array) in enumerate(zip(positions, block, strict=True)):
            arrays[i], addresses[i] = array, address + n * step
    return arrays, addresses
