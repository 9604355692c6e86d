"""Where merged values live, and what a merge rule sees of them.

Slot     one value of the merged graph: `rows` values stacked on a leading axis g, or one value
Place    one row of a slot
Bundle   one place per row of the call that reads it; a single place is shared by all rows
Operand  a bundle made into one node: with a leading axis g, or shared and without it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import fx

from fusec.ir.errors import VerifyError

__all__ = [
    "Bundle",
    "Call",
    "Declined",
    "Operand",
    "PerMember",
    "Place",
    "Result",
    "Shared",
    "Slot",
    "Value",
]

Value: TypeAlias = "fx.Node | tuple[fx.Node, ...]"
"""A node, or one node per result of an operator with several results."""


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One value of the merged graph.

    Attributes:
        value: node or nodes.
        rows: how many members' values are stacked on the leading axis.
        grouped: whether there is a leading axis; without it `rows` is 1.
    """

    value: Value
    rows: int
    grouped: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One row of a slot (row 0 of a slot without leading axis)."""

    slot: Slot
    row: int


Bundle: TypeAlias = tuple[Place, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """A tensor operand of a merged call.

    Attributes:
        node: [g, *shape] where grouped, else [*shape].
        grouped: whether the leading axis is there.
        value: fake value of one member's tensor, [*shape].
    """

    node: fx.Node
    grouped: bool
    value: torch.Tensor

    @property
    def rank(self) -> int:
        """Number of axes of one member's tensor."""
        return self.value.dim()

    @property
    def shape(self) -> tuple[int | torch.SymInt, ...]:
        """Shape of one member's tensor."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the tensor."""
        return self.value.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An operator call to merge, its arguments by the names of the operator's schema.

    Attributes:
        target: the operator.
        arguments: operands, lists of operands, host numbers (literals or nodes) and attributes;
            what the call left out is not there.
        out: fake value of one member's result.
    """

    target: torch._ops.OpOverload
    arguments: Mapping[str, object]
    out: object

    def operand(self, name: str) -> Operand:
        """Give a tensor operand that must be there."""
        found = self.arguments.get(name)
        if not isinstance(found, Operand):
            raise VerifyError(f"{self.target}: operand {name!r} is not a tensor (a bug in fusec)")
        return found

    def optional(self, name: str) -> Operand | None:
        """Give a tensor operand, or None where there is none."""
        return None if self.arguments.get(name) is None else self.operand(name)

    def operands(self, name: str) -> list[Operand]:
        """Give a list of tensor operands."""
        found = self.arguments[name]
        assert isinstance(found, list | tuple)
        return [item for item in found if isinstance(item, Operand)]

    def get(self, name: str) -> object:
        """Give an attribute, the schema's default where the call left it out."""
        if name in self.arguments:
            return self.arguments[name]
        return next(a.default_value for a in self.target._schema.arguments if a.name == name)

    def integer(self, name: str) -> int:
        """Give an integer attribute."""
        found = self.get(name)
        assert isinstance(found, int)
        return found

    def integers(self, name: str) -> list[int]:
        """Give an attribute that is one integer or a list of them, as a list; None as empty."""
        found = self.get(name)
        if found is None:
            return []
        return [found] if isinstance(found, int) else list(found)  # type: ignore[call-overload]

    def sizes(self, name: str) -> Sequence[int | fx.Node]:
        """Give an attribute that lists extents, literal or symbolic."""
        found = self.get(name)
        assert isinstance(found, list | tuple)
        return found

    @property
    def tensor(self) -> torch.Tensor:
        """Fake value of one member's result, where it is one tensor."""
        assert isinstance(self.out, torch.Tensor)
        return self.out


@dataclass(frozen=True, slots=True)
class Declined:
    """A rule that does not cover a call; the fallback through vmap is tried next."""

    reason: str


@dataclass(frozen=True, slots=True)
class PerMember:
    """A rule that wants one call per member, because that is faster or the only way."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A result that is the same for all members, without leading axis."""

    node: fx.Node


Result: TypeAlias = "Value | Shared | Declined | PerMember"
"""What a rule gives: grouped node or nodes, or one of the other answers."""
