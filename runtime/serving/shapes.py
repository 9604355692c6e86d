"""Programs by shape: whose weights they run with is entered anew for each batch.

    requests -> families of equal weights -> shape (how many, how large) -> program, cut into blocks

Where weights are small, a family of five is run as one of four and one of one: there are few powers
of two, so few shapes, so that random mixes of members seldom need a program that is not there.
"""

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.cache import LockedCache, Uses
from fusec.runtime.lending import Lender
from fusec.runtime.request import Choice
from fusec.runtime.serving.items import Item, Kind
from fusec.runtime.tile.answers import Memory, Ports
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.cut import cut_program
from fusec.runtime.tile.layout import Class, joins_of
from fusec.runtime.tile.memory import Region
from fusec.runtime.tile.table import Table
from fusec.runtime.tile.tables import Tables

__all__ = ["Body", "Piece", "Shapes"]

_MOST_SHAPES = 256
_HEAVY_WEIGHTS_BYTES = 1 << 18
"""From here on it is dear to read the same weights twice; a program is cheap beside the run."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One block of one body: tasks whose address tables are named by their addresses."""

    table: Table
    cost_ns: int
    """Roughly; for the order of tasks among pieces that run together."""
    scratch_bytes: int
    alone: list[Any]
    """The step of this piece and no other, once there is one; as long as the body."""


class Body:
    """A program with address tables, for one batch at a time."""

    def __init__(
        self, program: Program, blocks: Sequence[Table], kind: Kind, rows: "_Rows"
    ) -> None:
        """Lay out tables and ports.

        Args:
            program: of one class, as `cut_program` gives it.
            blocks: of it.
            kind: of its requests.
            rows: of each request.
        """
        (cls,) = program.classes
        self._cls = cls
        # All of a block's instances have arenas of their own: workers share one table.
        self._tables = Tables(replace(program, workers=1, scratch_bytes=0))
        self._words = self._tables.block(cls)
        joins = joins_of(cls, [g for g, _ in program.cohorts])
        self._ports = Ports(cls, kind.template, rows, joins)
        base = self._tables.words.ctypes.data
        costs = [] if kind.split is None else [block.cost_ns for block in kind.split.blocks]
        self.pieces = tuple(
            Piece(_based(table, base), cost * cls.instances, program.scratch_bytes, [])
            for table, cost in zip(blocks, costs, strict=True)
        )
        groups = sorted((g.start, g.stop) for g, _ in program.cohorts)
        self._group_of = np.repeat(np.arange(len(groups)), [b - a for a, b in groups])
        self._bound: np.ndarray | None = None
        self._held: list[np.ndarray] = []
        self._outputs: list[Memory] = []

    @property
    def n_bytes(self) -> int:
        """Of the region that a run needs."""
        return self._tables.n_bytes

    def enter(self, region: Region, weights: np.ndarray, items: Sequence[Item]) -> None:
        """Point tables at weights, inputs, fresh outputs and an arena.

        Args:
            region: for this run alone.
            weights: [requests, weights] addresses.
            items: in the order of the class.
        """
        if weights is not self._bound:
            self._tables.enter_weights((weights,))
            self._bound = weights
        addresses = np.array([item.addresses for item in items], dtype=np.int64)
        self._held = self._ports.enter_inputs(
            self._words, [item.inputs for item in items], addresses.reshape(len(items), -1)
        )
        self._outputs = self._ports.enter_outputs(self._words)
        self._tables.settle(region)

    def without(self, piece: Piece, gone: Sequence[bool]) -> Piece:
        """Give a piece less the work that is for requests that are gone alone.

        Instances that lie in one group with others run on: their tasks are the same.

        Args:
            piece: of this body.
            gone: of each request, in the order of the class.
        """
        instances = np.repeat(np.array(gone, dtype=bool), np.diff(self._cls.starts))
        alive = np.bincount(self._group_of, ~instances) > 0
        table = piece.table
        first = table.tasks["instance"][table.units["task"]]
        units = table.units[alive[self._group_of[first]]]
        return replace(piece, table=replace(table, units=units), alone=[])

    def leave(self) -> list[tuple[np.ndarray, ...]]:
        """Give the answers in the order of the class, and let go of inputs and outputs."""
        outputs, self._held, self._outputs = self._outputs, [], []
        return self._ports.answers(outputs)


_Rows = tuple[int | None, ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class _Own:
    """A member's weights."""

    addresses: np.ndarray
    key: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _List:
    """Items that came together before, arranged."""

    choices: tuple["weakref.ref[Choice]", ...]
    weights: np.ndarray
    """[requests, weights] addresses, in the order of the body."""
    order: tuple[int, ...]
    """Positions of the items; () if they are in order."""
    bodies: Lender[Body]


class Shapes:
    """Arranges items and lends bodies for them. Safe from many threads."""

    def __init__(
        self,
        workers: int,
        address: Callable[[str], int],
        weights: Callable[[Choice], np.ndarray],
    ) -> None:
        """Make a store without programs.

        Args:
            workers: how many run a program.
            address: kernel name -> address.
            weights: a member's choice -> the address of each weight.
        """
        self._workers, self._address, self._weights = workers, address, weights
        self._known: LockedCache[Lender[Body]] = LockedCache(limit=_MOST_SHAPES)
        self._lists: LockedCache[_List] = LockedCache(limit=_MOST_SHAPES)
        self._own: weakref.WeakKeyDictionary[Choice, _Own] = weakref.WeakKeyDictionary()
        self._owners: weakref.WeakValueDictionary[int, _Own] = weakref.WeakValueDictionary()
        self._sharing: set[str] = set()

    @property
    def uses(self) -> Uses:
        """Count batches whose program was there, and those for which one was built."""
        lists, known = self._lists.uses, self._known.uses
        return Uses(lists.hits + known.hits, known.misses)

    def lend(
        self, kind: Kind, items: Sequence[Item]
    ) -> tuple[Body, np.ndarray, list[Item], Callable[[Body], None]]:
        """Lend a body for a batch.

        Args:
            kind: of all items.
            items: of the batch.

        Returns:
            The body, the weights and the items in its order, and what takes it back.
        """
        choices = [item.request.choice for item in items]
        key = (kind, tuple(map(id, choices)), tuple([item.rows for item in items]))
        made = self._lists.get(key, lambda: self._arrange(kind, items))
        if [ref() for ref in made.choices] != choices:
            self._lists.drop(lambda other: other == key)  # another member's that is no more
            made = self._lists.get(key, lambda: self._arrange(kind, items))
        ordered = [items[i] for i in made.order] if made.order else list(items)
        return made.bodies.take(), made.weights, ordered, made.bodies.give

    def _arrange(self, kind: Kind, items: Sequence[Item]) -> "_List":
        own = [self._of(item.request.choice) for item in items]
        if kind.template.key in self._sharing:
            order, starts_new, same = _exactly(own)
        else:
            order, starts_new, same = self._in_families(kind, items, own)
        rows = tuple([items[i].rows for i in order])
        key = (kind.binding, id(kind.split), rows, starts_new)
        weights = np.concatenate([own[i].addresses for i in order])
        return _List(
            tuple([weakref.ref(item.request.choice) for item in items]),
            weights.reshape(len(order), -1),
            () if order == list(range(len(order))) else tuple(order),
            self._known.get(key, partial(self._build, kind, rows, same)),
        )

    def _build(self, kind: Kind, rows: _Rows, same: np.ndarray) -> Lender[Body]:
        assert kind.binding is not None and kind.split is not None
        starts = (0, *itertools.accumulate([n or 1 for n in rows]))
        cls = Class(kind.binding, starts, same)
        program, blocks = cut_program(build([cls], self._workers, self._address), [kind.split])
        return Lender(partial(Body, program, blocks, kind, rows))

    def _of(self, choice: Choice) -> _Own:
        own = self._own.get(choice)
        if own is None:
            addresses = self._weights(choice)
            own = _Own(addresses, addresses.tobytes())
            for address in addresses.tolist():
                if self._owners.setdefault(address, own).key != own.key:
                    self._sharing.add(choice.template.key)
            self._own[choice] = own
        return own

    def _in_families(
        self, kind: Kind, items: Sequence[Item], own: Sequence["_Own"]
    ) -> tuple[list[int], object, np.ndarray]:
        """Arrange items whose weights are all the same or all different."""
        families: dict[bytes, list[int]] = {}
        for i, weights in enumerate(own):
            families.setdefault(weights.key, []).append(i)
        width = len(own[0].addresses)
        cut = list(families.values())
        if len(cut) < len(items):
            assert kind.binding is not None
            if kind.binding.weight_bytes < _HEAVY_WEIGHTS_BYTES and width:
                cut = [part for family in cut for part in _in_powers(family)]
            cut.sort(key=lambda family: (-len(family), [items[i].rows or 0 for i in family]))
        new = np.zeros(len(items), bool)
        new[[0, *itertools.accumulate(map(len, cut[:-1]))]] = True
        same = np.repeat(~new[1:, None], width, axis=1)
        return [i for family in cut for i in family], new.tobytes(), same


def _exactly(own: Sequence[_Own]) -> tuple[list[int], object, np.ndarray]:
    """Arrange items of which some share a part of their weights, say a backbone."""
    order = sorted(range(len(own)), key=lambda i: own[i].key)
    weights = np.stack([own[i].addresses for i in order])
    same = weights[1:] == weights[:-1]
    return order, same.tobytes(), same


def _in_powers(family: list[int]) -> list[list[int]]:
    """Cut a family into powers of two."""
    parts, at = [], 0
    while at < len(family):
        size = 1 << (len(family) - at).bit_length() - 1
        parts.append(family[at : at + size])
        at += size
    return parts


def _based(table: Table, base: int) -> Table:
    """Name address tables by their addresses: a job's tables then begin at zero."""
    tasks = table.tasks.copy()
    tasks["bufs"] += base
    return replace(table, tasks=tasks)
