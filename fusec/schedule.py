"""What a scheduler needs of a plan: blocks, and what they take, by instances, threads and extents.

A profile has one schedule for each number of threads that was measured. `costs` gives it as
`fusec.runtime.sched.profile.Profile`, under the names that runtimes call templates.

Extents change costs by one number: units(extents) = fixed + (1 - fixed) x work / work at the
extents that were measured, where the work of extents follows from the stages (arithmetic and
memory, so it knows what grows linearly and what with the square), and `fixed` is the share of the
time that does not grow, fitted to a few lengths. One number cannot follow noise, and a request
of other extents stays what a policy knows already: so many instances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusec.ir.errors import ConfigError, FusecError
from fusec.ir.plan import PlanData
from fusec.ir.split import Block, Split
from fusec.ir.template import Template
from fusec.runtime.sched.profile import Profile, TemplateCost

__all__ = [
    "LENGTHS",
    "LONGEST_WORK",
    "Schedule",
    "TemplateSchedule",
    "fit_fixed",
    "grain_of",
    "named",
    "schedule_from_json",
    "template_keys",
]

LENGTHS = (16, 32, 128, 256)
"""Extents that `fixed` is fitted to, beside the measured ones."""
LONGEST_WORK = 5.0
"""Lengths with more work than so many measured ones are not tried."""

_MOST = 1 << 53
_MOST_STAGES = 100_000
_GRAIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSchedule:
    """One template, on so many threads."""

    extents: Mapping[str, int]
    """That it was measured at."""
    split: Split
    cost: TemplateCost
    fixed_percent: int = 0
    """Share of the time that stays when extents shrink to nothing."""
    fit_percent: int = 0
    """How far the measured lengths are from that rule at most."""
    spread_percent: tuple[int, ...] = ()
    """Of runs: their medians, p80 and p95, above the times in `cost`."""

    def units(self, work: float) -> float:
        """Give how many instances at the measured extents an instance counts as.

        Args:
            work: of its extents, in that of the measured ones; see `Binding.instance_ns`.
        """
        fixed = self.fixed_percent / 100
        return fixed + (1 - fixed) * work


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All templates of a plan on so many threads."""

    threads: int
    templates: Mapping[str, TemplateSchedule]
    """By template key."""
    together_percent: int = 100
    """Of one block of several templates in one program, in percent of the blocks alone."""

    def costs(self, models: Mapping[str, str]) -> Profile:
        """Give the costs as schedulers read them.

        Args:
            models: name -> template key; those of templates that were not measured are left out.

        Raises:
            ConfigError: none was measured.
        """
        used = {name: named(key) for name, key in models.items() if key in self.templates}
        if not used:
            raise ConfigError(
                "the plan's profile has none of its models; run `fusec profile` again"
            )
        wanted = set(used.values())
        templates = {named(k): t.cost for k, t in self.templates.items() if named(k) in wanted}
        return Profile(templates=templates, models=used, together_percent=self.together_percent)

    def __str__(self) -> str:
        lines = [f"on {self.threads} thread{'s' * (self.threads > 1)}, ms by rows together:"]
        for key, template in self.templates.items():
            cost = template.cost
            times = [f"{n}: {sum(row) / 1e6:.3g}" for n, row in sorted(cost.blocks_ns.items())]
            blocks = f"{cost.n_blocks} block{'s' * (cost.n_blocks > 1)}"
            longest = max(cost.blocks_ns[1]) / 1e6
            lines.append(
                f"  template {key[:12]}, {blocks} of at most {longest:.3g} ms: {', '.join(times)}"
            )
        if len(self.templates) > 1:
            lines.append(f"  two templates together: {self.together_percent} % of both alone")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give the schedule as JSON data."""
        costs = Profile(
            templates={key: t.cost for key, t in self.templates.items()},
            models={key: key for key in self.templates},
            together_percent=self.together_percent,
        ).to_json()
        for key, template in self.templates.items():
            costs["templates"][key] |= {
                "extents": dict(template.extents),
                "blocks": [[b.stop_stage, b.stop_part, b.cost_ns] for b in template.split.blocks],
                "parts": list(template.split.parts),
                "fixed_percent": template.fixed_percent,
                "fit_percent": template.fit_percent,
                "spread_percent": list(template.spread_percent),
            }
        return {
            "threads": self.threads,
            "together_percent": self.together_percent,
            "templates": costs["templates"],
        }


def grain_of(template: Template) -> int:
    """Give how finely work is told: rows of an instance of the extents that were measured."""
    return _GRAIN if template.symbols else 1


def fit_fixed(points: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """Fit the share of a time that does not grow with the work; least squares of relative errors.

    Args:
        points: work and time at some extents, each in that at the measured ones.

    Returns:
        The share, and by how much the rule is off at most, both in percent.
    """
    above = sum((1 - w) * (t - w) / t**2 for w, t in points)
    below = sum(((1 - w) / t) ** 2 for w, t in points)
    fixed = max(0, min(95, round(100 * above / below))) if below > 1e-9 else 0
    off = [abs((fixed / 100 + (1 - fixed / 100) * w) / t - 1) for w, t in points]
    return fixed, round(100 * max(off, default=0.0))


def named(key: str) -> str:
    """Give the name of a template in schedules, by its key."""
    return key[:16]


def template_keys(data: PlanData) -> dict[str, str]:
    """Give the key of each model's template; of the first, if other extents have others."""
    return {
        name: data.forms[member.variants[0].form].template for name, member in data.members.items()
    }


def schedule_from_json(data: Any) -> Schedule:
    """Read what `to_json` gave.

    Raises:
        TypeError, ValueError, KeyError: it is something else, or numbers that make no sense.
    """
    try:
        profile = Profile.from_json(
            {"templates": data["templates"], "together_percent": data["together_percent"]}
        )
        templates = {
            key: _template(data["templates"][key], cost) for key, cost in profile.templates.items()
        }
    except FusecError as e:
        raise ValueError(str(e)) from e
    if len({named(key) for key in templates}) != len(templates):
        raise ValueError("two templates have one name")
    return Schedule(
        threads=_whole(data["threads"], 1, 4096),
        templates=templates,
        together_percent=profile.together_percent,
    )


def _template(data: Any, cost: TemplateCost) -> TemplateSchedule:
    times = [ns for row in cost.blocks_ns.values() for ns in row]
    numbers = [*times, cost.cut_ns, cost.bytes_per_instance]
    if max(numbers) > _MOST or max(cost.blocks_ns) > 4096:
        raise ValueError("a time or a size is larger than any")
    split = _split(data["blocks"], data["parts"])
    if max(1, len(split.blocks)) != cost.n_blocks:
        raise ValueError(f"{len(split.blocks)} blocks with times of {cost.n_blocks}")
    return TemplateSchedule(
        extents={str(k): _whole(v, 0, _MOST) for k, v in data["extents"].items()},
        split=split,
        cost=cost,
        fixed_percent=_whole(data["fixed_percent"], 0, 100),
        fit_percent=_whole(data["fit_percent"], 0, _MOST),
        spread_percent=tuple(_whole(v, 0, 10_000) for v in data["spread_percent"]),
    )


def _split(blocks: Any, parts: Any) -> Split:
    if not isinstance(blocks, list) or not isinstance(parts, list):
        raise TypeError("blocks or parts are no lists")
    if len(blocks) > _MOST_STAGES or len(parts) > _MOST_STAGES:
        raise ValueError("more blocks or stages than any template has")
    made, place = [], (0, 0)
    for stage, part, cost in blocks:
        stop = (_whole(stage, 0, _MOST_STAGES), _whole(part, 0, _MOST))
        made.append(Block(place[0], stop[0], _whole(cost, 0, _MOST), place[1], stop[1]))
        place = stop
    return Split(blocks=tuple(made), parts=tuple(_whole(p, 1, _MOST) for p in parts))


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:50]!r} is no number from {least} to {most}")
    return value
