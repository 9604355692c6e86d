"""What waits and runs: items (one model's call) in tickets (what the policy schedules as one).

submit       one item  -> one ticket
submit_many  its items -> a ticket for each template: 122 calls cost the policy as much as one
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.ir.split import Split
from fusec.ir.template import Template
from fusec.runtime.native import given_back, no_rows
from fusec.runtime.request import Request
from fusec.runtime.sched.profile import TemplateCost
from fusec.runtime.sched.records import Result
from fusec.runtime.serving.answer import Answer, Start
from fusec.runtime.tile.bind import Binding

if TYPE_CHECKING:
    from fusec.runtime.serving.segment import Segment

__all__ = ["Item", "Kind", "Ticket"]

Results = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kind:
    """What requests of one template at one set of extents have in common."""

    name: str
    """Of the template, as schedules and profiles call it."""
    template: Template
    binding: Binding | None
    """None: PyTorch runs it whole."""
    split: Split | None
    units: float
    """Work of an instance, in instances at the extents that the profile was measured at."""
    plain: bool
    """Answers are given as they come out."""

    @property
    def blocks(self) -> int:
        """How many there are."""
        return 1 if self.split is None else max(1, len(self.split.blocks))


class Item:
    """One call of one model, with inputs of its own memory."""

    __slots__ = (
        "addresses", "ended", "error", "future", "inputs", "kind", "request", "rows", "ticket",
        "value",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        kind: Kind,
        inputs: Sequence[np.ndarray],
        addresses: Sequence[int],
        future: Answer,
    ) -> None:
        """Take what was checked.

        Args:
            request: as read.
            kind: of it.
            inputs: as native code takes them; nobody else writes to them.
            addresses: of each input.
            future: that is to have the answer.
        """
        self.request, self.kind = request, kind
        self.inputs, self.addresses = inputs, addresses
        self.rows = 1 if request.rows == 0 else request.rows
        self.future = future
        self.ended: Result | None = None
        """How it ended, once its future knows."""
        self.ticket = -1
        """Number of the ticket that it is in."""
        self.value: Results | None = None
        self.error: BaseException | None = None

    @property
    def instances(self) -> int:
        """How many rows run."""
        return self.rows or 1

    def take(self, outputs: Sequence[np.ndarray]) -> None:
        """Take the answer of native code."""
        request = self.request
        if request.rows == 0:
            outputs = no_rows(request, outputs)
        if not (self.kind.plain and request.wants_numpy):
            outputs = given_back(request, outputs)
        self.value = dict(zip(request.target.member.output_names, outputs, strict=True))

    def settle(self) -> Result:
        """Give the future what there is for it, once; not if nobody wants it any more.

        Returns:
            DONE, FAILED or CANCELLED.
        """
        if self.ended is None:
            self.ended = self._settled()
        return self.ended

    def _settled(self) -> Result:
        future = self.future
        if not future.set_running_or_notify_cancel():
            return Result.CANCELLED
        if self.error is not None:
            future.set_exception(self.error)
            return Result.FAILED
        future.set_result(self.value)
        return Result.DONE


class Ticket:
    """What the policy sees as one request."""

    __slots__ = ("counted", "items", "number", "segments")

    def __init__(self, number: int, items: Sequence[Item]) -> None:
        """Take the items of one template."""
        self.number = number
        self.items = items
        for item in items:
            item.ticket = number
        self.counted = False
        """Whether it is among what a runtime says has ended."""
        self.segments: list[Segment] = []
        """Where it runs, from its first launch on."""

    @property
    def size(self) -> int:
        """How many calls it counts as where the queue is limited."""
        return len(self.items)

    def rows(self, cost: TemplateCost) -> int:
        """Give how many rows it counts as, by costs of its template."""
        each = {units: cost.rows_of(units) for units in {item.kind.units for item in self.items}}
        return max(1, sum([item.instances * each[item.kind.units] for item in self.items]))

    @property
    def wanted(self) -> list[Item]:
        """The items that somebody still waits for."""
        return [item for item in self.items if not item.future.gone]

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants any of its answers."""
        return all(item.future.gone for item in self.items)

    @property
    def failed(self) -> bool:
        """Whether it ran, and all that came out is errors."""
        return all(item.error is not None for item in self.items)

    def began(self, start: Start) -> None:
        """Tell all who wait that it runs; only the first launch counts."""
        if self.items[0].future.start is None:
            for item in self.items:
                item.future.start = start

    def fail(self, error: BaseException) -> None:
        """End all items in the same way."""
        for item in self.items:
            item.error = error

    def settle(self) -> Counter[Result]:
        """Resolve all futures that are open, and count how all of them ended."""
        return Counter([item.settle() for item in self.items])

    def leave(self) -> None:
        """Let go of the memory of the runs that it was in."""
        segments, self.segments = self.segments, []
        for segment in segments:
            segment.leave(self.number)
