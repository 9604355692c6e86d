"""The form of a merge rule."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fusec.ir.errors import VerifyError
from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Result

__all__ = ["Build", "MergeRule", "defaults", "table"]

Build = Callable[[Builder, Call], Result]
"""Adds the nodes of one merged call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRule:
    """How one family of operators is merged.

    Attributes:
        name: what the report calls it.
        targets: names of the operators, without the `aten.` in front.
        build: adds nodes that compute all members' results, [g, *shape] each. At least one operand
            is grouped. It declines before it adds the first node, or not at all.
    """

    name: str
    targets: tuple[str, ...]
    build: Build


def defaults(names: Iterable[str]) -> tuple[str, ...]:
    """Complete operator names without an overload by `.default`."""
    return tuple(name if "." in name else f"{name}.default" for name in names)


def table(rules: Iterable[MergeRule]) -> Mapping[str, MergeRule]:
    """Index rules by full operator name.

    Raises:
        VerifyError: two rules name one operator.
    """
    found: dict[str, MergeRule] = {}
    for rule in rules:
        for target in rule.targets:
            name = target if target.startswith("fusec.") else f"aten.{target}"
            if name in found:
                raise VerifyError(f"{name}: merge rules {found[name].name} and {rule.name} both")
            found[name] = rule
    return found
