"""An instance list for a card, all that is the same whenever it runs."""

from collections.abc import Sequence

import numpy as np

from fusec.runtime.cache import LockedCache
from fusec.runtime.cuda.places import place
from fusec.runtime.cuda.program import Addresses, Program
from fusec.runtime.cuda.weights import Needed, WeightStore
from fusec.runtime.request import Choice
from fusec.runtime.tile.answers import Ports
from fusec.runtime.tile.executor import Wanted
from fusec.runtime.tile.layout import Arranged

__all__ = ["Listed"]

_MOST_SHEETS = 4
"""Tables that are kept: of a few lanes, or of memory that moved."""


class Listed:
    """A list, arranged and laid out. Its members' weights live as long as this does."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        arranged: Arranged,
        program: Program,
        numbers: Sequence[np.ndarray],
        store: WeightStore,
    ) -> None:
        """Lay out.

        Args:
            wanted: the list.
            arranged: the same, by class.
            program: of it.
            numbers: of the weights of each request, as the store has them.
            store: of weights.
        """
        self.arranged, self.program = arranged, program
        self._choices = tuple(w.choice for w in wanted)
        self.places = place(arranged.classes)
        self.ports = [
            Ports(cls, wanted[own[0]].choice.template, [wanted[p].rows for p in own], ())
            for cls, own in zip(arranged.classes, arranged.parts, strict=True)
        ]
        self._numbers = [
            np.array([numbers[p] for p in own], dtype=np.int64).reshape(len(own), -1)
            for own in arranged.parts
        ]
        self.needed: Needed = store.needed([self._reads(read) for read in program.weights])
        self.sheets: LockedCache[np.ndarray] = LockedCache(limit=_MOST_SHEETS)

    def choices_of(self, cls: int) -> list[Choice]:
        """Give the choices of the requests of a class."""
        return [self._choices[p] for p in self.arranged.parts[cls]]

    def addresses(self, store: WeightStore, base: int) -> Addresses:
        """Give where buffers are: class -> [instances, slots].

        Args:
            store: of weights.
            base: of the lane's memory.
        """
        made: dict[int, np.ndarray] = {}

        def of(number: int) -> np.ndarray:
            if number not in made:
                cls = self.arranged.classes[number]
                table = self.places.offsets[number] + self.places.moving[number] * base
                slots = list(cls.binding.code.lowered.weights)
                if slots:
                    own = store.addresses(self._numbers[number])
                    table[:, slots] = np.repeat(own, np.diff(cls.starts), axis=0)
                made[number] = table
            return made[number]

        return of

    def _reads(self, read: Sequence[tuple[int, tuple[int, ...]]]) -> np.ndarray:
        """Give the numbers of the weights that a step reads."""
        own = [self._numbers[cls][:, list(weights)].reshape(-1) for cls, weights in read if weights]
        return np.concatenate(own) if own else np.empty(0, dtype=np.int64)
