"""Things that one caller uses at a time, lent one by one."""

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Lender"]

T = TypeVar("T")


class Lender(Generic[T]):
    """What is not lent just now, the last one returned first. Safe from many threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Make the first; others are made when several are lent at once."""
        self._make = make
        self._free = [make()]

    def take(self) -> T:
        """Lend one, made now if none is free."""
        try:
            return self._free.pop()
        except IndexError:
            return self._make()

    def give(self, lent: T) -> None:
        """Take one back."""
        self._free.append(lent)
