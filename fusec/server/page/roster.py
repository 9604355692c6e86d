"""Who is served, in groups of one architecture, and what was counted of each, as JSON data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.models import Table, Version
from fusec.server.signature import Port, Signature
from fusec.server.statistics import Phase

__all__ = ["MOST_MODELS", "Roster", "roster_of"]

MOST_MODELS = 2000
"""Shown one by one."""
_TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The rows of the page's table."""

    groups: Sequence[Mapping[str, Any]]
    models: Sequence[Sequence[Any]]
    """Name, version, index of its group, state, why it is in it."""
    more: int
    """Models that are not shown."""
    versions: Sequence[Version | None]
    """Of each row, whose counters it shows; None where nothing answers."""
    names: Mapping[str, str]
    """Key in the store -> name."""

    def to_json(self) -> dict[str, Any]:
        """Give groups and models."""
        return {"groups": self.groups, "models": self.models, "more": self.more}

    def counts(self) -> list[tuple[int, ...]]:
        """Give of each row: answered, failed, pending, and microseconds of all answers."""
        return [(0, 0, 0, 0) if v is None else _counts(v) for v in self.versions]


def roster_of(table: Table, templates: Callable[[str], Sequence[str]]) -> Roster:
    """Look at who is there.

    Args:
        table: of models.
        templates: key -> names of the templates of a model, that of its group first.
    """
    names = sorted({*table.models, *table.states})
    groups: dict[str, dict[str, Any]] = {}
    rows: list[tuple[Sequence[Any], Version | None]] = []
    for name in names[:MOST_MODELS]:
        model = table.models.get(name)
        if model is None:
            state, why = table.states[name]
            rows.append(((name[:_TEXT], "", -1, str(state), why[:_TEXT]), None))
            continue
        for number, version in sorted(model.versions.items()):
            found = tuple(templates(version.key))
            group = found[0] if found else ""
            if group not in groups:
                told = _told(version.signature)
                groups[group] = {"number": len(groups), "templates": [], "ports": told}
            known = groups[group]["templates"]
            known += [t for t in found if t not in known]
            place = groups[group]["number"]
            rows.append(((name[:_TEXT], str(number), place, "READY", ""), version))
    return Roster(
        groups=[{k: v for k, v in group.items() if k != "number"} for group in groups.values()],
        models=[row for row, _ in rows],
        more=max(0, len(names) - MOST_MODELS),
        versions=[version for _, version in rows],
        names={version.key: row[0] for row, version in rows if version is not None},
    )


def _counts(version: Version) -> tuple[int, ...]:
    counted = version.statistics
    return (
        counted.counts[Phase.SUCCESS],
        counted.counts[Phase.FAIL],
        counted.pending,
        counted.ns[Phase.SUCCESS] // 1000,
    )


def _told(signature: Signature) -> str:
    """Describe what a group takes and gives."""
    given, out = (", ".join(map(_port, ports)) for ports in (signature.inputs, signature.outputs))
    return f"{given} \u2192 {out}"[:_TEXT]


def _port(port: Port) -> str:
    shape = ", ".join("?" if n < 0 else str(n) for n in port.shape)
    return f"{port.name} {port.datatype.name}[{shape}]"
