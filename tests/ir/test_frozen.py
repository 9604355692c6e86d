"""Frozen dataclasses made the short way behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir import frozen

OPTIONS = [
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "eq": False},
    {"frozen": True, "slots": True, "weakref_slot": True},
    {"slots": True},
]


class Plain:
    """Two fields, one with a default."""

    a: object
    b: object = 7


class Quiet:
    """Fields that do not all count."""

    a: object
    b: object = dataclasses.field(default=7, compare=False)
    c: object = dataclasses.field(default=8, repr=False, hash=False)


class Own:
    """Methods of its own."""

    a: object
    b: object = 7

    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "mine"


class One:
    """A single field."""

    a: object


class Empty:
    """No field."""


def made(plain: type, by: Callable[..., Any], options: dict[str, bool]) -> Any:
    """Make a dataclass of a copy of a class."""
    return by(**options)(type(plain.__name__, (), dict(vars(plain))))


@dataclasses.dataclass(frozen=True)
class Pair:
    """The same class made both ways."""

    ours: Any
    theirs: Any


@pytest.fixture(params=OPTIONS, ids=str)
def options(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Give what is said to the decorator."""
    return dict(request.param)


@pytest.fixture(params=[Plain, Quiet, Own, One])
def pair(request: pytest.FixtureRequest, options: dict[str, bool]) -> Pair:
    """Make a class both ways."""
    ways = (frozen._dataclass, dataclasses.dataclass)
    return Pair(*(made(request.param, by, options) for by in ways))


def test_values_print_and_compare_alike(pair: Pair) -> None:
    nan = float("nan")
    values = [{"a": 1}, {"a": 2}, {"a": nan}, {"a": (nan,)}, {"a": None}]
    ours = [pair.ours(**v) for v in values for _ in range(2)]
    theirs = [pair.theirs(**v) for v in values for _ in range(2)]
    assert list(map(repr, ours)) == [repr(t) for t in theirs] or "0x" in repr(theirs[0])
    assert [x == y for x in ours for y in ours] == [x == y for x in theirs for y in theirs]
    assert ours[0] != theirs[0] or repr(ours[0]) == "mine"
    hashes = type(theirs[0]).__hash__ is not None
    assert (type(ours[0]).__hash__ is not None) == hashes
    if hashes:
        assert (hash(ours[0]) == hash(ours[1])) == (hash(theirs[0]) == hash(theirs[1]))


def test_what_counts_in_hashes_is_the_same() -> None:
    ours, theirs = (
        made(Quiet, by, {"frozen": True}) for by in (frozen._dataclass, dataclasses.dataclass)
    )
    for b, c in ((7, 8), (9, 8), (7, 9)):
        assert hash(ours(a=1)) == hash(ours(a=1, b=b, c=c))
        assert (ours(a=1) == ours(a=1, b=b, c=c)) == (theirs(a=1) == theirs(a=1, b=b, c=c))


def test_frozen_ones_refuse_to_change(pair: Pair) -> None:
    for cls in (pair.ours, pair.theirs):
        value = cls(a=1)
        if not cls.__dataclass_params__.frozen and cls is pair.theirs:
            continue
        if cls is pair.ours and not pair.theirs.__dataclass_params__.frozen:
            continue
        with pytest.raises(dataclasses.FrozenInstanceError, match="'a'"):
            value.a = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="'a'"):
            del value.a
        assert value.a == 1


def test_signature_fields_and_replace(pair: Pair) -> None:
    def shape(cls: Any) -> list[object]:
        parameters = inspect.signature(cls).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert shape(pair.ours) == shape(pair.theirs)
    assert pair.ours.__match_args__ == pair.theirs.__match_args__
    names = [[f.name for f in dataclasses.fields(cls)] for cls in (pair.ours, pair.theirs)]
    assert names[0] == names[1]
    assert dataclasses.replace(pair.ours(a=1), a=2).a == 2
    for wrong in ({}, {"a": 1, "x": 2}):
        with pytest.raises(TypeError):
            pair.ours(**wrong)
    with pytest.raises((AttributeError, TypeError)):
        pair.ours(a=1).other = 3


@frozen.dataclass(frozen=True, slots=True)
class Kept:
    """One that can be found by name."""

    a: object
    b: object = None


@given(st.recursive(st.integers() | st.floats() | st.text(), st.tuples))
def test_copies_are_equal(value: object) -> None:
    kept = Kept(value, Kept(1))
    assert copy.copy(kept) == kept
    assert copy.deepcopy(kept) == kept
    assert pickle.loads(pickle.dumps(kept)).b == Kept(1)


def test_a_value_that_holds_itself_prints() -> None:
    inner: list[object] = []
    kept = Kept(inner)
    inner.append(kept)
    assert repr(kept) == "Kept(a=[...], b=None)"


def test_no_fields(options: dict[str, bool]) -> None:
    cls = made(Empty, frozen._dataclass, options)
    assert (cls() == cls()) == options.get("eq", True)
    assert repr(cls()).endswith("Empty()") or not options.get("frozen")


def test_factories_make_one_for_each() -> None:
    class Made:
        a: list[int] = dataclasses.field(default_factory=list)
        b: int = 1

    cls = made(Made, frozen._dataclass, {"frozen": True, "slots": True})
    assert cls().a == [] and cls().a is not cls().a
    assert cls([1], b=2) == cls(a=[1], b=2)


def test_a_post_init_runs() -> None:
    ran = []

    class After:
        a: int

        def __post_init__(self) -> None:
            ran.append(self.a)

    made(After, frozen._dataclass, {"frozen": True})(3)
    assert ran == [3]
