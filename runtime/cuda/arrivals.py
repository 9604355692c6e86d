"""Pages on their way to a card: who needs one waits for it, on the card."""

from collections import deque
from collections.abc import Iterable

from fusec.runtime.cuda.stream import Event, Stream, recorded

__all__ = ["Arrivals"]


class Arrivals:
    """What a copy stream brings, in order."""

    def __init__(self, copies: Stream) -> None:
        """Expect nothing yet."""
        self._copies = copies
        self._coming: deque[tuple[Event, frozenset[int]]] = deque()

    def note(self, pages: Iterable[int]) -> None:
        """Note pages whose copies have just been enqueued.

        Raises:
            KernelError: the driver refuses; nothing is noted.
        """
        event = recorded(self._copies)
        self._coming.append((event, frozenset(pages)))

    def any(self, pages: Iterable[int]) -> bool:
        """Tell whether one of these pages is on its way."""
        self.settle()
        wanted = set(pages) if self._coming else set()
        return any(wanted & own for _, own in self._coming)

    def wait(self, pages: Iterable[int], stream: Stream) -> bool:
        """Let a stream wait until these pages are there; tell whether it has to."""
        wanted = set(pages)
        # They come in order: the last one that is wanted is behind all others.
        for event, own in reversed(self._coming):
            if own & wanted:
                stream.wait(event)
                return True
        return False

    def settle(self) -> None:
        """Forget what has arrived."""
        while self._coming and self._coming[0][0].done():
            self._coming.popleft()[0].close()

    def close(self) -> None:
        """Forget all of it."""
        while self._coming:
            self._coming.popleft()[0].close()
