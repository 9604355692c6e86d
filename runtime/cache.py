"""A small thread-safe cache with a size limit, the least recently used entry leaving first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["LockedCache", "Uses"]

T = TypeVar("T")


class Uses(NamedTuple):
    """How often what was asked for was there, and how often it had to be made."""

    hits: int
    misses: int


class LockedCache(Generic[T]):
    """Values by key; a missing one is made once, outside the lock."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    @property
    def uses(self) -> Uses:
        """Count what `get` was asked for so far."""
        with self._lock:
            return Uses(self._hits, self._misses)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Give the value of a key, made by `make` if it is not there.

        Two threads may make the same value at the same time; the first one stored is kept.
        """
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self._hits += 1
                return self._entries[key]
            self._misses += 1
        value = make()
        with self._lock:
            kept = self._entries.setdefault(key, value)
            self._entries.move_to_end(key)
            if self._limit is not None and len(self._entries) > self._limit:
                self._entries.popitem(last=False)
            return kept

    def drop(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Remove the entries whose keys are unwanted."""
        with self._lock:
            for key in [k for k in self._entries if unwanted(k)]:
                del self._entries[key]
