"""Predictions corrected by what launches really took.

    Ran -> Correction.after -> Correction.profile: the same interface, and the same ranks

A driver puts a `Ran` into the next `Change` for each stay on a lane that ended where a block ends;
the decider keeps the `Correction` and shows policies its profile. What was measured is in the log,
so a replay comes to the same corrections, and so to the same decisions.

    ratio    measured / stated, of a launch; stated is what the plan's profile says
    factor   median of a template's last 15 ratios and one of 1, between 1/8 and 8
    left_ns  stated left_ns x factor

One launch that somebody disturbed moves nothing once there are a few; a machine that is slower than
the one that was profiled is believed after two launches. Launches beside busy lanes share memory
and caches with them: they have a window of their own, and who has none there takes the other's.

Ranks and due times are by stated costs (`Profile.stated`): they must not move while a request
waits, or the order would have to be made anew with each launch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.ran import Ran

__all__ = ["Correction", "Errors"]

_WINDOW = 15
_ONE = 1024
"""A ratio of one: ratios are whole numbers, so that a replay is exact."""
_CLAMP = 8
_KEPT = 1024
"""Prediction errors that are remembered."""

Window = tuple[int, ...]


class _Cost(TemplateCost):
    """Costs times a factor. Shares its tables with the stated costs."""

    __slots__ = ("_factor",)
    _factor: int

    @classmethod
    def of(cls, stated: TemplateCost, factor: int) -> Self:
        """Scale costs; nothing is computed before it is asked for."""
        made = object.__new__(cls)
        for name in ("blocks_ns", "cut_ns", "max_batch", "bytes_per_instance", "_left"):
            object.__setattr__(made, name, getattr(stated, name))
        object.__setattr__(made, "_factor", factor)
        return made

    def left_ns(self, block: int, instances: int) -> int:
        """Give the time from the start of a block to the end of the run."""
        if instances < len(self._left):
            return self._left[instances][block] * self._factor // _ONE
        return TemplateCost.left_ns(self, block, instances) * self._factor // _ONE

    @property
    def solo_ns(self) -> int:
        """The time of one instance alone."""
        return max(1, self._left[1][0] * self._factor // _ONE)

    @property
    def share_ns(self) -> int:
        """The time of an instance in the fullest batch."""
        return self._left[self.max_batch][0] * self._factor // (_ONE * self.max_batch)


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are off: |predicted / measured - 1| of the last launches."""

    launches: int
    """That were measured in all."""
    p50: float
    p90: float
    stated_p50: float
    """Of the profile without corrections."""
    stated_p90: float

    def __str__(self) -> str:
        return (
            f"{self.launches} launches, predictions off by {self.p50:.1%} (p90 {self.p90:.1%}), "
            f"without corrections by {self.stated_p50:.1%} (p90 {self.stated_p90:.1%})"
        )


@dataclass(frozen=True, slots=True)
class Correction:
    """A profile, and what was measured since. A value: `after` gives a new one.

    Cost: `after` some 10 us; `left_ns` of the profiles a multiplication more than a plain one's.
    """

    stated: Profile
    profiles: tuple[Profile, Profile]
    """Corrected: for launches on an otherwise idle device, and beside busy lanes."""
    windows: Mapping[tuple[str, bool], Window] = field(default_factory=dict)
    """Last ratios by template and company, oldest first."""
    together: Window = ()
    """Last ratios of launches of several templates to the sum of their predictions."""
    launches: int = 0
    errors_1024: tuple[tuple[int, int], ...] = ()
    """Of the last launches: of corrected and of stated predictions, in 1/1024."""

    @classmethod
    def of(cls, profile: Profile) -> "Correction":
        """Begin without measurements."""
        return cls(profile, (profile, profile))

    def profile(self, *, company: bool) -> Profile:
        """Give the corrected profile.

        Args:
            company: other lanes are busy.
        """
        return self.profiles[company]

    def after(self, ran: Ran) -> "Correction":
        """Learn from a launch.

        Raises:
            VerifyError: its blocks are not the template's.
        """
        predicted = _predicted(ran, self.profiles[ran.company])
        stated = _predicted(ran, self.stated)
        errors = (_error(predicted, ran.took_ns), _error(stated, ran.took_ns))
        seen = replace(
            self,
            launches=self.launches + 1,
            errors_1024=(*self.errors_1024[-_KEPT + 1 :], errors),
        )
        if len(ran.parts) > 1:
            return seen._together(ran)
        template = ran.parts[0].template
        key = (template, ran.company)
        window = _pushed(self.windows.get(key, ()), _ratio(ran.took_ns, stated))
        return seen._corrected({**self.windows, key: window}, template)

    def having(self, stated: Profile, templates: Mapping[str, object]) -> "Correction":
        """Give what is known under a new profile.

        Args:
            stated: the profile.
            templates: those whose costs are new: what was measured of them counts no more.
        """
        windows = {key: w for key, w in self.windows.items() if key[0] not in templates}
        made = replace(self, stated=stated, profiles=(stated, stated), windows=windows)
        return made._corrected(windows, *{template for template, _ in windows})

    def factor(self, template: str, *, company: bool) -> float:
        """Give what a template's stated times are multiplied by."""
        return self._factor(self.windows, template, company) / _ONE

    @property
    def errors(self) -> Errors | None:
        """How far predictions were off; None before the first launch."""
        if not self.errors_1024:
            return None
        n = len(self.errors_1024)
        figures = [
            sorted(e[which] for e in self.errors_1024)[n * percent // 100] / _ONE
            for which in (0, 1)
            for percent in (50, 90)
        ]
        return Errors(self.launches, *figures)

    def _together(self, ran: Ran) -> "Correction":
        parts = _sum(ran, self.profiles[ran.company])
        window = _pushed(self.together, _ratio(ran.took_ns, parts))
        prior = self.stated.together_percent * _ONE // 100
        percent = max(1, min(1000, _median(window, prior) * 100 // _ONE))
        profiles = tuple(_with(p, p.templates, percent) for p in self.profiles)
        return replace(self, together=window, profiles=(profiles[0], profiles[1]))

    def _corrected(
        self, windows: Mapping[tuple[str, bool], Window], *templates: str
    ) -> "Correction":
        made = []
        for company, profile in enumerate(self.profiles):
            costs = dict(profile.templates)
            for name in templates:
                factor = self._factor(windows, name, bool(company))
                costs[name] = _Cost.of(self.stated[name], factor)
            made.append(_with(self.stated, costs, profile.together_percent))
        return replace(self, windows=windows, profiles=(made[0], made[1]))

    @staticmethod
    def _factor(windows: Mapping[tuple[str, bool], Window], template: str, company: bool) -> int:
        own = windows.get((template, company)) or windows.get((template, not company), ())
        return _median(own, _ONE)


def _predicted(ran: Ran, profile: Profile) -> int:
    total = _sum(ran, profile)
    if len(ran.parts) > 1:
        total = total * profile.together_percent // 100
    return max(1, total)


def _sum(ran: Ran, profile: Profile) -> int:
    """Add up what the parts of a launch take one after another."""
    total = 0
    for part in ran.parts:
        cost = profile.templates.get(part.template)
        if cost is None or part.until > cost.n_blocks:
            raise VerifyError(f"{ran}: {part} is no part of the profile")
        total += cost.span_ns(part.block, part.until, part.instances)
    return total + (max(profile[p.template].cut_ns for p in ran.parts) if ran.resumed else 0)


def _with(stated: Profile, templates: Mapping[str, TemplateCost], percent: int) -> Profile:
    """Give a profile of other costs; skips the checks, which the stated one passed."""
    made = object.__new__(Profile)
    for name, value in (
        ("templates", templates),
        ("models", stated.models),
        ("together_percent", percent),
        ("longest_ns", stated.longest_ns),
        ("_stated", stated.stated),
    ):
        object.__setattr__(made, name, value)
    return made


def _ratio(took_ns: int, stated_ns: int) -> int:
    return max(_ONE // _CLAMP, min(_ONE * _CLAMP, took_ns * _ONE // max(1, stated_ns)))


def _error(predicted_ns: int, took_ns: int) -> int:
    return min(1 << 40, abs(predicted_ns - took_ns) * _ONE // took_ns)


def _pushed(window: Window, ratio: int) -> Window:
    return (*window[-_WINDOW + 1 :], ratio)


def _median(window: Window, prior: int) -> int:
    """Give the median of a window and of a prior; of two in the middle, their mean."""
    values = sorted((*window, prior))
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) // 2
