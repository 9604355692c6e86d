"""Dataclasses that take a fourth of the time to make; all else is as in `dataclasses`.

    from fusec.ir.frozen import dataclass

A process that loads a plan makes some seventy of them before its first answer, and the standard
library compiles six methods for each: 34 ms of a start that takes 150. Here only `__init__` is
compiled; comparing, hashing and printing are closures over the names of the fields. `fields`,
`replace` and `is_dataclass` work.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_set = object.__setattr__


def _dataclass(
    cls: type | None = None,
    /,
    *,
    frozen: bool = False,
    eq: bool = True,
    kw_only: bool = False,
    slots: bool = False,
    weakref_slot: bool = False,
) -> Any:
    """Make a dataclass; arguments as those of `dataclasses.dataclass`.

    Cost: 0.1 ms. A class that has more to do in `__init__` than to take its fields is left to the
    standard library.
    """

    def make(plain: type) -> type:
        rest = {"kw_only": kw_only, "slots": slots, "weakref_slot": weakref_slot}
        if hasattr(plain, "__post_init__"):
            return dataclasses.dataclass(frozen=frozen, eq=eq, **rest)(plain)
        made: type = dataclasses.dataclass(init=False, repr=False, eq=False, **rest)(plain)
        given = dataclasses.fields(made)
        if not all(f.init for f in given):
            raise TypeError(f"{made.__name__} has a field that is not given; use dataclasses")
        methods: dict[str, Callable[..., object] | None] = {
            "__init__": _init(made, given),
            "__repr__": _repr([f.name for f in given if f.repr]),
        }
        if frozen:
            methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        if frozen and slots:
            names = [f.name for f in given]
            methods |= {"__getstate__": _getstate(names), "__setstate__": _setstate(names)}
        if eq:
            compared = [f for f in given if f.compare]
            methods["__eq__"] = _eq(_values([f.name for f in compared]))
            hashed = [f.name for f in given if (f.compare if f.hash is None else f.hash)]
            methods["__hash__"] = _hash(_values(hashed)) if frozen else None
        own = vars(plain)
        for name, method in methods.items():
            # A class that compares in its own way and does not hash has `__hash__ = None`.
            if own.get(name) is None:
                setattr(made, name, method)
        return made

    return make if cls is None else make(cls)


def _init(cls: type, given: Sequence[dataclasses.Field[Any]]) -> Callable[..., None]:
    """Compile `__init__` of a class."""
    space: dict[str, Any] = {"_set": _set}
    # Keyword-only ones may come first, in a class that adds to another.
    positional = [f for f in given if not f.kw_only]
    keywords = [f for f in given if f.kw_only]
    arguments = ["self", *(_argument(f, space) for f in positional)]
    if keywords:
        arguments += ["*", *(_argument(f, space) for f in keywords)]
    lines = [f"    _set(self, {f.name!r}, {_value(f, space)})" for f in given] or ["    pass"]
    exec("\n".join([f"def __init__({', '.join(arguments)}):", *lines]), space)
    init: Callable[..., None] = space["__init__"]
    init.__module__, init.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
    init.__annotations__ = {**{f.name: f.type for f in given}, "return": None}
    return init


def _argument(field: dataclasses.Field[Any], space: dict[str, Any]) -> str:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = dataclasses.MISSING  # stands for "make one"
    elif default is dataclasses.MISSING:
        return field.name
    space[f"_default_{field.name}"] = default
    return f"{field.name}=_default_{field.name}"


def _value(field: dataclasses.Field[Any], space: dict[str, Any]) -> str:
    if field.default_factory is dataclasses.MISSING:
        return field.name
    space[f"_make_{field.name}"] = field.default_factory
    return f"_make_{field.name}() if {field.name} is _default_{field.name} else {field.name}"


def _values(names: Sequence[str]) -> Callable[[object], tuple[object, ...]]:
    """Give what reads a tuple of attributes."""
    if not names:
        return lambda _: ()
    # Of one name attrgetter gives the bare value; in tuples a NaN equals itself, as it should.
    get: Callable[[object], tuple[object, ...]] = attrgetter(*names, *names[: len(names) == 1])
    return get


def _eq(values: Callable[[object], object]) -> Callable[[object, object], bool]:
    def __eq__(self: object, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    return __eq__


def _hash(values: Callable[[object], object]) -> Callable[[object], int]:
    return lambda self: hash(values(self))


def _repr(names: Sequence[str]) -> Callable[[object], str]:
    def __repr__(self: object) -> str:
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{type(self).__qualname__}({shown})"

    return recursive_repr()(__repr__)


def _refuse_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(names: Sequence[str]) -> Callable[[object], list[object]]:
    return lambda self: [getattr(self, name) for name in names]


def _setstate(names: Sequence[str]) -> Callable[[object, Sequence[object]], None]:
    def __setstate__(self: object, state: Sequence[object]) -> None:
        for name, value in zip(names, state, strict=True):
            _set(self, name, value)

    return __setstate__


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass
