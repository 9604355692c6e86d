"""A policy: (View, State) -> (actions, State), without a clock, memory or chance of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fusec.runtime.sched.records import Action
from fusec.runtime.sched.view import View

__all__ = ["Policy"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Policy(Generic[S]):
    """A rule and the state it starts from. States are values: none is ever changed in place."""

    name: str
    start: S
    decide: Callable[[View, S], tuple[tuple[Action, ...], S]]
    preempts: bool = False
    """It may stop what runs in the middle of a block, so whoever asks may do so beforehand."""
