"""Templates with one number changed: what a file that was tampered with may say."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

__all__ = ["changed", "spots"]


def spots(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all integers of a record."""
    if type(value) is int:
        yield path
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from spots(item, (*path, i))
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from spots(getattr(value, name), (*path, name))


def changed(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """Give a record with another value at a path."""
    if not path:
        return new
    if isinstance(value, tuple):
        return (*value[: path[0]], changed(value[path[0]], path[1:], new), *value[path[0] + 1 :])
    return replace(value, **{path[0]: changed(getattr(value, path[0]), path[1:], new)})
