"""The profile of a plan: what each stage costs on one machine, as records, JSON and a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from fusec.ir.errors import ArtifactError
from fusec.ir.records import Json
from fusec.ir.stage import TileOp
from fusec.runtime.roofline import Machine
from fusec.schedule import Schedule, schedule_from_json

__all__ = ["Profile", "StageCost", "TemplateProfile", "operator_name"]

T = TypeVar("T")
_EXTERN = str(TileOp.EXTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage of one instance."""

    operation: str
    computes: tuple[str, ...]
    """Operators of the template that it does."""
    items: int
    items2: int
    flops: int
    moved_bytes: int
    """Read and written, weights included."""
    roofline_ns: float
    measured_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateProfile:
    """A template at one set of extents."""

    extents: Mapping[str, int]
    instances: int
    """How many ran together, each of another member where there are others."""
    stages: tuple[StageCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was measured of a plan."""

    machine: Machine
    templates: Mapping[str, TemplateProfile]
    """By template key."""
    schedules: tuple[Schedule, ...] = ()
    """One for each number of threads that was measured, ascending."""

    def schedule(self, threads: int | None = None) -> Schedule | None:
        """Give what schedulers need for so many threads, None if that was not measured.

        Args:
            threads: of a run; None: as many as were measured at most.
        """
        if threads is None:
            return self.schedules[-1] if self.schedules else None
        return next((s for s in self.schedules if s.threads == threads), None)

    def to_json(self) -> dict[str, Any]:
        """Give the profile as JSON data."""
        return {
            "machine": asdict(self.machine),
            "templates": {key: asdict(template) for key, template in self.templates.items()},
            "schedules": [schedule.to_json() for schedule in self.schedules],
        }

    @classmethod
    def from_json(cls, data: Json) -> "Profile":
        """Read what `to_json` gave.

        Raises:
            ArtifactError: it is something else.
        """
        try:
            assert isinstance(data, dict)
            templates = data["templates"]
            assert isinstance(templates, dict)
            return cls(
                machine=_record(Machine, data["machine"]),
                templates={str(k): _template(v) for k, v in templates.items()},
                # Profiles from before there were schedules have none.
                schedules=tuple(schedule_from_json(s) for s in _list(data.get("schedules", []))),
            )
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as e:
            raise ArtifactError(
                f"the plan's profile is not one of this fusec ({type(e).__name__}: {e}); "
                "measure it again with `fusec profile`"
            ) from e

    def __str__(self) -> str:
        m = self.machine
        lines = [
            f"machine: reads {m.read_bytes_per_ns:.1f} GB/s, computes {m.flops_per_ns:.0f} GFLOP/s "
            f"({m.threads} thread{'s' * (m.threads > 1)})"
        ]
        for key, template in self.templates.items():
            lines += ["", _head(key, template), *_table(template)]
        for schedule in self.schedules:
            lines += ["", str(schedule)]
        return "\n".join(lines)


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError("schedules are no list")
    return data


def _template(data: Any) -> TemplateProfile:
    extents = {str(k): int(v) for k, v in data["extents"].items()}
    stages = tuple(
        _record(StageCost, {**stage, "computes": tuple(map(str, stage["computes"]))})
        for stage in data["stages"]
    )
    return TemplateProfile(extents=extents, instances=int(data["instances"]), stages=stages)


_KINDS: Mapping[object, Any] = {int: int, float: (int, float), str: str}


def _record(kind: type[T], data: Any) -> T:
    """Build a flat record, its fields of the declared types."""
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value = data[field.name]
        if isinstance(value, bool) or not isinstance(value, _KINDS.get(field.type, tuple)):
            raise TypeError(f"{field.name} is {value!r}")
        values[field.name] = value
    if set(data) != set(values):
        raise TypeError(f"unknown fields {sorted(set(data) - set(values))}")
    return kind(**values)


def _head(key: str, template: TemplateProfile) -> str:
    extents = ", ".join(f"{k} = {v}" for k, v in template.extents.items())
    return (
        f"template {key[:12]}{' at ' if extents else ''}{extents}, per instance of "
        f"{template.instances} together (limit: of memory and arithmetic; caches may beat it)"
    )


def _table(template: TemplateProfile) -> list[str]:
    total = sum(s.measured_ns for s in template.stages) or 1.0
    lines = [
        f"  {'stage':<11}{'range':>14}{'kFLOP':>10}{'kB':>9}{'limit us':>10}{'us':>9}{'share':>7}"
        "  computes"
    ]
    for s in template.stages:
        names = [operator_name(op) for op in s.computes]
        limit_us = "-" if s.operation == _EXTERN else f"{s.roofline_ns / 1e3:.2f}"
        lines.append(
            f"  {s.operation:<11}{f'{s.items} x {s.items2}':>14}{s.flops / 1e3:>10.1f}"
            f"{s.moved_bytes / 1e3:>9.1f}{limit_us:>10}{s.measured_ns / 1e3:>9.2f}"
            f"{s.measured_ns / total:>7.1%}  {','.join(names)}"
        )
    extern = [s.measured_ns for s in template.stages if s.operation == _EXTERN]
    native = [s for s in template.stages if s.operation != _EXTERN]
    lines.append(f"  in all: {total / 1e3:.1f} us")
    if native:
        own, limit = sum(s.measured_ns for s in native), sum(s.roofline_ns for s in native)
        ratio = f" ({own / limit:.1f}x)" if limit else ""
        lines.append(f"  native: {own / 1e3:.1f} us, limit {limit / 1e3:.2f} us{ratio}")
    if extern:
        lines.append(
            f"  PyTorch: {sum(extern) / 1e3:.1f} us, {sum(extern) / total:.1%} of the time, in "
            f"{len(extern)} stage{'s' * (len(extern) > 1)} without native code"
        )
    return lines


def operator_name(op: str) -> str:
    """Give an operator's name without its namespace and overload."""
    parts = op.split(".")
    return parts[1] if len(parts) > 1 else op
