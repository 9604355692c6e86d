"""What a merge did, node by node: the rule used, over how many rows, and why a fallback was."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ALONE", "PER_MEMBER", "SHARED", "VMAP", "MergeReport", "MergeUse"]

SHARED = "shared"
"""Computed once, because nothing that it depends on differs between members."""

ALONE = "alone"
"""Only one member has this call, or something like it."""

VMAP = "vmap"
"""No rule: the operator's batching rule in torch, traced and inlined."""

PER_MEMBER = "per_member"
"""One call per member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeUse:
    """How one operator call of the members was merged."""

    node: str
    """Name of the call in the first member that has it."""
    op: str
    rule: str
    """Name of a merge rule, or `shared`, `vmap`, `per_member`."""
    rows: int
    """Distinct values computed; 1 for what all members share."""
    detail: str
    """Why a fallback was taken, or which form a rule chose; empty where there was no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """The record of one merge."""

    members: int
    uses: tuple[MergeUse, ...]
    apart: tuple[str, ...]
    """Where members part: first calls that only some of them have."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Calls per rule."""
        return dict(Counter(use.rule for use in self.uses))

    @property
    def fallbacks(self) -> tuple[MergeUse, ...]:
        """Calls that no rule merged."""
        return tuple(e for e in self.uses if e.rule in (VMAP, PER_MEMBER))

    @property
    def notes(self) -> tuple[str, ...]:
        """Calls with a reason or a choice, one line each."""
        return tuple(f"{e.node} ({e.op}): {e.rule}, {e.detail}" for e in self.uses if e.detail)

    def text(self) -> str:
        """Say in a few lines what was merged and what was not."""
        counts = ", ".join(f"{rule} {n}" for rule, n in sorted(self.counts.items()))
        lines = [f"merged {self.members} members: {len(self.uses)} calls ({counts or 'none'})"]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  {place}" for place in self.apart]
        return "\n".join(lines)
