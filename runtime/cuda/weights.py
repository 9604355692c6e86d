"""Weights on a card: which are there, when they come, when they may leave.

    numbers     a member's weights by number: equal weights have equal numbers
    needed      the pages of each step of a run
    using       has them come in a copy stream, in the order of steps, and stay meanwhile
    wait        behind those of a step that are still on their way

Pages, and who leaves for whom, are worked out in `pages`. A page that leaves is freed behind the
work of all streams that read it, so it has to stay only until that work is enqueued. Its bytes stay
in pinned memory of the host. A run that does not fit as a whole makes room behind itself while it
goes on; others begin when it has been enqueued.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from fusec.ir.plan import Blob
from fusec.runtime.cuda.arrivals import Arrivals
from fusec.runtime.cuda.frames import Frames, PagedOut
from fusec.runtime.cuda.library import OutOfDeviceMemory
from fusec.runtime.cuda.pages import (
    Moves,
    PageTable,
    Residency,
    Run,
    WeightUse,
    extended,
    plan_run,
)
from fusec.runtime.cuda.settings import Counters
from fusec.runtime.cuda.stream import Stream
from fusec.runtime.request import Choice

__all__ = ["Needed", "Rolling", "WeightStore"]

_MOST_RECENT = 256


class Needed:
    """The pages of each step of a run; weights stay on the card while any run uses them."""

    def __init__(self, steps: Sequence[frozenset[int]]) -> None:
        """Take pages by step."""
        self.steps = tuple(steps)
        self.pages = np.array(sorted(frozenset().union(*steps)), dtype=np.int64)
        self.seen: dict[Stream, int] = {}
        """Stream -> the store's epoch when all of them were there and known to be used by it."""


class Rolling:
    """A run that evicts its own pages: told step by step, it makes the moves in time."""

    def __init__(
        self, needed: Needed, moves: Sequence[Moves], make: Callable[[int, Moves], None]
    ) -> None:
        self._needed, self._moves, self._make = needed, moves, make
        self._ahead = 0

    def advance(self, step: int) -> None:
        """Make the moves up to a step, and those of later ones that need nothing of this one's.

        Called before the step is enqueued; steps come in order, and may be left out.
        """
        for at in range(self._ahead, len(self._moves)):
            waiting = frozenset().union(*self._needed.steps[step:at])
            if waiting & set(self._moves[at].evict):
                return
            self._make(at, self._moves[at])
            self._ahead = at + 1


class WeightStore:
    """Weights of members on one card. Safe from many threads."""

    def __init__(self, copies: Stream, budget_bytes: int, counters: Counters) -> None:
        """Put nothing there yet.

        Args:
            copies: stream that weights come in.
            budget_bytes: for all of them.
            counters: of uploads and evictions.
        """
        self._copies, self._budget, self._counters = copies, budget_bytes, counters
        self._table = PageTable(pages=(), places={})
        self._numbers: dict[str, int] = {}
        self._page_of = np.empty(0, dtype=np.int64)
        self._offset_of = np.empty(0, dtype=np.int64)
        self._members: weakref.WeakKeyDictionary[Choice, np.ndarray] = weakref.WeakKeyDictionary()
        self._frames = Frames(copies)
        self._arrivals = Arrivals(copies)
        self._owners: dict[int, int] = {}
        """Page -> how many members, as runs know them, have weights there."""
        self._keys: dict[int, tuple[str, ...]] = {}
        self._gone: deque[tuple[int, ...]] = deque()
        """Pages of members that are no more; a finaliser may not take the lock."""
        self._flying: dict[Needed, int] = {}
        self._recent: dict[Needed, int] = {}
        self._last_use: dict[int, int] = {}
        self._runs = self._epoch = 0
        self._changed = threading.Condition()

    @property
    def resident_bytes(self) -> int:
        """Bytes that are on the card."""
        return self._frames.n_bytes

    def numbers(self, members: Sequence[tuple[Choice, Sequence[int]]]) -> list[np.ndarray]:
        """Give the numbers of members' weights; new ones get pages, nothing is copied yet.

        Args:
            members: each with the first stage that reads each of its weights.
        """
        with self._changed:
            self._sweep()
            new = [(c, firsts) for c, firsts in dict(members).items() if c not in self._members]
            if new:
                self._enter(new)
            return [self._members[choice] for choice, _ in members]

    def needed(self, steps: Sequence[np.ndarray]) -> Needed:
        """Give what a run needs.

        Args:
            steps: numbers of the weights that each reads.
        """
        pages = self._page_of
        return Needed([frozenset(np.unique(pages[numbers]).tolist()) for numbers in steps])

    def addresses(self, numbers: np.ndarray) -> np.ndarray:
        """Give where weights are on the card; to be asked inside `using`."""
        found: np.ndarray = self._frames.addresses[self._page_of[numbers]]
        found += self._offset_of[numbers]
        return found

    def frames(self, needed: Needed) -> bytes:
        """Give where a run's pages are, to compare."""
        return self._frames.addresses[needed.pages].tobytes()

    @contextmanager
    def using(self, needed: Needed, stream: Stream) -> Iterator[Rolling | None]:
        """Have all weights there for what is enqueued inside.

        Afterwards they may leave at any time: the card frees them behind what was enqueued.

        Args:
            needed: by the run.
            stream: that it runs in.

        Yields:
            None, or what has to be told of each step before it is enqueued, its addresses asked
            after that.

        Raises:
            OutOfDeviceMemory: a single step does not fit, or the card has less than it should.
            KernelError: the driver refuses.
        """
        with ExitStack() as locked:
            locked.enter_context(self._changed)
            rolling = self._begin(needed, stream)
            locked.callback(self._end, needed)
            if rolling is not None:
                yield rolling
                return
            ended = locked.pop_all()
        # The lock is given up while it goes on, and taken once more for its end.
        self._changed.release()
        try:
            yield None
        finally:
            self._changed.acquire()
            ended.close()

    def wait(self, needed: Needed, step: int, stream: Stream) -> bool:
        """Let a stream wait for the pages of a step that are still on their way, if any are."""
        with self._changed:
            return self._arrivals.wait(needed.steps[step], stream)

    def arriving(self, needed: Needed) -> bool:
        """Tell whether any page of a run is still on its way."""
        with self._changed:
            return self._arrivals.any(needed.pages.tolist())

    def _end(self, needed: Needed) -> None:
        self._flying[needed] -= 1
        if not self._flying[needed]:
            del self._flying[needed]
        self._changed.notify_all()

    def close(self) -> None:
        """Free everything, when it is done."""
        with self._changed:
            self._arrivals.close()
            self._frames.close()
            self._epoch += 1

    def make_room(self) -> int:
        """Evict what no run uses, wait until it has left; give how many bytes that was."""
        with self._changed:
            n_bytes = self._shrink(())
            if n_bytes:
                self._copies.synchronize()
            return n_bytes

    def _enter(self, members: Sequence[tuple[Choice, Sequence[int]]]) -> None:
        """Number weights, and lay those out that nobody had."""
        owners: dict[str, set[str]] = {}
        first: dict[str, int] = {}
        blobs: dict[str, Blob] = {}
        for choice, firsts in members:
            name = f"{id(choice):x}"
            for key, blob, stage in zip(choice.hashes, choice.weights, firsts, strict=True):
                if key not in self._numbers:
                    owners.setdefault(key, set()).add(name)
                    first[key] = min(stage, first.get(key, stage))
                    blobs[key] = blob
        old = len(self._table.pages)
        self._table = extended(
            self._table,
            [
                WeightUse(
                    key=key,
                    n_bytes=blob.data.nbytes,
                    owners=frozenset(owners[key]),
                    stage=first[key],
                )
                for key, blob in blobs.items()
            ],
        )
        places = [self._table.places[key] for key in blobs]
        self._numbers.update({key: len(self._page_of) + i for i, key in enumerate(blobs)})
        self._page_of = np.append(self._page_of, [p.page for p in places]).astype(np.int64)
        self._offset_of = np.append(self._offset_of, [p.offset for p in places]).astype(np.int64)
        for number, page in enumerate(self._table.pages[old:], start=old):
            self._keys[number] = page.keys
            parts = [(self._table.places[key].offset, blobs[key].data) for key in page.keys]
            self._frames.add(PagedOut(page.n_bytes, parts))
        for choice, _ in members:
            numbers = np.array([self._numbers[key] for key in choice.hashes], dtype=np.int64)
            self._members[choice] = numbers
            pages = tuple(np.unique(self._page_of[numbers]).tolist())
            for page in pages:
                self._owners[page] = self._owners.get(page, 0) + 1
            weakref.finalize(choice, self._gone.append, pages)

    def _sweep(self) -> None:
        """Drop the pages whose last member is gone."""
        if not self._gone:
            return
        places = dict(self._table.places)
        while self._gone:
            for page in self._gone.popleft():
                self._owners[page] -= 1
                if self._owners[page]:
                    continue
                del self._owners[page]
                self._last_use.pop(page, None)
                self._epoch += 1
                for key in self._keys.pop(page):
                    del self._numbers[key]
                    del places[key]
                self._frames.forget(page)
        self._table = PageTable(pages=self._table.pages, places=places)

    def _begin(self, needed: Needed, stream: Stream) -> Rolling | None:
        self._sweep()
        rolling = None
        if needed.seen.get(stream) != self._epoch:
            planned = self._plan(needed)
            own = set(needed.pages.tolist())
            evicts_own = any(own & set(moves.evict) for moves in planned.moves)
            # A page of its own that leaves before it is first needed came from an earlier run.
            if evicts_own:
                rolling = Rolling(needed, planned.moves, self._rolled(needed, stream))
            else:
                for moves in planned.moves:
                    self._move(moves, own)
                stream.touch(self._frames.memory(needed.pages.tolist()))
                needed.seen[stream] = self._epoch
        self._runs += 1
        self._recent[needed] = self._runs
        if len(self._recent) > _MOST_RECENT:
            self._note_uses()
        self._flying[needed] = self._flying.get(needed, 0) + 1
        return rolling

    def _rolled(self, needed: Needed, stream: Stream) -> Callable[[int, Moves], None]:
        own = set(needed.pages.tolist())

        def make(step: int, moves: Moves) -> None:
            self._move(moves, own)
            stream.touch(self._frames.memory(sorted(needed.steps[step])))

        return make

    def _plan(self, needed: Needed) -> Run:
        """Plan a run; wait for others that leave too little room."""
        while True:
            planned = plan_run(self._table, self._residency(), needed.steps, self._budget)
            if isinstance(planned, Run):
                return planned
            if planned.for_good or not self._flying:
                raise OutOfDeviceMemory(
                    f"the weights of one stage take {planned.needed_bytes:,} bytes on the card, "
                    f"{planned.room_bytes:,} are there for them; give a larger memory_budget, or "
                    "run fewer models at once"
                )
            self._changed.wait()

    def _note_uses(self) -> None:
        for needed, run in self._recent.items():
            for page in needed.pages.tolist():
                if self._frames.addresses[page]:
                    self._last_use[page] = run
        self._recent.clear()

    def _residency(self) -> Residency:
        self._note_uses()
        users: dict[int, int] = {}
        for needed, count in self._flying.items():
            for page in needed.pages.tolist():
                users[page] = users.get(page, 0) + count
        here = {page: self._last_use.get(page, 0) for page in self._frames.resident()}
        return Residency(last_use=here, users=users, runs=self._runs)

    def _move(self, moves: Moves, keep: Collection[int]) -> None:
        for page in moves.evict:
            if self._frames.addresses[page]:  # else it left already, for want of room
                self._evict(page)
        came = []
        try:
            for page in moves.upload:
                try:
                    self._upload(page)
                except OutOfDeviceMemory:
                    if not self._shrink(keep):
                        raise
                    self._upload(page)
                came.append(page)
        finally:
            if came:
                self._note(came)

    def _note(self, pages: Sequence[int]) -> None:
        try:
            self._arrivals.note(pages)
        except BaseException:
            for page in pages:  # else runs would take them for arrived
                self._evict(page)
            raise

    def _upload(self, page: int) -> None:
        self._counters.add("uploaded_bytes", self._frames.upload(page))
        self._counters.add("uploads")

    def _evict(self, page: int) -> None:
        self._frames.evict(page)
        self._counters.add("evictions")
        self._epoch += 1

    def _shrink(self, keep: Collection[int]) -> int:
        """Evict all that no run uses, nor is to be kept."""
        used = {page for needed in self._flying for page in needed.pages.tolist()} | set(keep)
        before = self._frames.n_bytes
        for page in self._frames.resident():
            if page not in used:
                self._evict(page)
        return before - self._frames.n_bytes
