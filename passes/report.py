"""What a pass did, what it left alone, and why: plain data beside the program it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from fusec.passes.program import Program

__all__ = ["Pass", "PassReport", "Reason", "Refusal", "Rewrite"]


class Reason(StrEnum):
    """Why a rule that nearly matched left the graph alone."""

    USED_ELSEWHERE = "used_elsewhere"
    """An intermediate result is needed by others, so the work would be done twice."""

    VALUE = "value"
    """A number or a weight's value is not the one that the rule needs."""

    SHAPE = "shape"
    """Extents do not fit, or are not known to fit."""

    DTYPE = "dtype"
    """The rule would be less accurate, or is undefined, in this dtype."""

    MISFIT = "misfit"
    """The result would have another dtype or shape: a bug in fusec, stopped before it did harm."""

    NOT_A_WEIGHT = "not_a_weight"
    """An operand depends on the inputs where the rule needs a weight."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One edit: nodes that went, nodes that came, by name."""

    rule: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One edit not made, with the values that speak against it."""

    rule: str
    node: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did to one program."""

    name: str
    rewrites: tuple[Rewrite, ...]
    refusals: tuple[Refusal, ...]

    @property
    def changed(self) -> bool:
        """Tell whether the pass edited the graph; derived, so it cannot lie."""
        return bool(self.rewrites)


Pass: TypeAlias = Callable[[Program], tuple[Program, PassReport]]
"""A pure function: the program given is left as it was."""
