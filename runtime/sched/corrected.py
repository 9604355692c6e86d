"""Predictions corrected by what launches really took.

    Ran -> Correction.after -> Correction.profile: the same interface, and the same ranks

A driver puts a `Ran` into the next `Change` for each stay on a lane that ended where a block ends;
the decider keeps the `Correction` and shows policies its profile. What was measured is in the log,
so a replay comes to the same corrections, and so to the same decisions.

    ratio    measured / stated, of a launch; stated is what the plan's profile says
    window   the last 15 ratios of a template with 1, 2 to 3, 4 to 7, ... rows
    factor   median of a window and of what was believed before it began, between 1/8 and 8
    left_ns  stated left_ns x factor

One launch that somebody disturbed moves nothing once there are a few; a machine that is slower than
the one that was profiled is believed after two launches. What every launch costs, however few run,
is much for one and little for many: so batches of other sizes have windows of their own; who has
none takes that of the size nearest to it. Launches beside busy lanes share memory and caches with
them: they have windows of their own, too.

Ranks and due times are by stated costs (`Profile.stated`): they must not move while a request
waits, or the order would have to be made anew with each launch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.ran import Ran
from fusec.runtime.sched.view import NewCost

__all__ = ["Correction", "Errors"]

_WINDOW = 15
_ONE = 1024
"""A ratio of one: ratios are whole numbers, so that a replay is exact."""
_CLAMP = 8
_KEPT = 256
"""Prediction errors that are remembered."""

Place = tuple[bool, int]
"""Company, and bits of the number of rows."""


class _Window(NamedTuple):
    """The last ratios, oldest first."""

    prior: int
    """What was believed before the first of them."""
    ratios: tuple[int, ...] = ()
    median: int = 0

    def pushed(self, ratio: int) -> "_Window":
        """Give the window with one ratio more."""
        ratios = (*self.ratios[-_WINDOW + 1 :], ratio)
        values = sorted((*ratios, self.prior))
        n = len(values)  # of two in the middle, their mean
        return _Window(self.prior, ratios, (values[(n - 1) // 2] + values[n // 2]) // 2)


class _Cost(TemplateCost):
    """Costs times factors. Shares its tables with the stated costs."""

    __slots__ = ("_factors",)
    _factors: tuple[int, ...]
    """By bits of the number of rows."""

    @classmethod
    def of(cls, stated: TemplateCost, factors: tuple[int, ...]) -> Self:
        """Scale costs; nothing is computed before it is asked for."""
        made = object.__new__(cls)
        for name in ("blocks_ns", "cut_ns", "max_batch", "bytes_per_instance", "grain", "_left"):
            object.__setattr__(made, name, getattr(stated, name))
        object.__setattr__(made, "_factors", factors)
        return made

    def left_ns(self, block: int, rows: int) -> int:
        """Give the time from the start of a block to the end of the run."""
        if rows < len(self._left):
            return self._left[rows][block] * self._factors[rows.bit_length()] // _ONE
        return TemplateCost.left_ns(self, block, rows) * self._factors[-1] // _ONE

    @property
    def solo_ns(self) -> int:
        """The time of one instance alone."""
        return max(1, self.left_ns(0, self.grain))

    @property
    def share_ns(self) -> int:
        """The time of an instance in the fullest batch."""
        return self.left_ns(0, self.max_rows) // self.max_batch


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

    Cost: `after` some 40 us; `left_ns` of the profiles a multiplication more than a plain one's.
    """

    stated: Profile
    profiles: tuple[Profile, Profile]
    """Corrected: for launches on an otherwise idle device, and beside busy lanes."""
    windows: Mapping[str, Mapping[Place, _Window]] = field(default_factory=dict)
    """Of each template."""
    together: _Window | None = None
    """Ratios of launches of several templates to the sum of their predictions."""
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
        seen = (self.launches + 1, (*self.errors_1024[-_KEPT + 1 :], errors))
        if len(ran.parts) > 1:
            window, profiles = self._together(ran)
            return Correction(self.stated, profiles, self.windows, window, *seen)
        (part,) = ran.parts
        own = self.windows.get(part.template, {})
        bits = min(part.rows, self.stated[part.template].max_rows).bit_length()
        place = (ran.company, bits)
        window = own.get(place) or _Window(_factors(own, ran.company, bits)[bits])
        own = {**own, place: window.pushed(_ratio(ran.took_ns, stated))}
        profiles = self._corrected({part.template: own})
        windows = {**self.windows, part.template: own}
        return Correction(self.stated, profiles, windows, self.together, *seen)

    def learned(self, costs: Sequence[NewCost], ran: Sequence[Ran]) -> "Correction":
        """Learn what a change says: new costs, then launches.

        Raises:
            VerifyError: a launch's blocks are not its template's.
        """
        made = self
        if costs:
            new = {c.template: c.cost for c in costs}
            stated = self.stated.having(new, {c.model: c.template for c in costs})
            made = self.having(stated, new)
        for launch in ran:
            made = made.after(launch)
        return made

    def having(self, stated: Profile, templates: Mapping[str, object]) -> "Correction":
        """Give what is known under a new profile.

        Args:
            stated: the profile.
            templates: those whose costs are new: what was measured of them counts no more.
        """
        windows = {name: own for name, own in self.windows.items() if name not in templates}
        made = replace(self, stated=stated, profiles=(stated, stated), windows=windows)
        return replace(made, profiles=made._corrected(windows))

    def factor(self, template: str, rows: int = 1, *, company: bool) -> float:
        """Give what a template's stated times are multiplied by."""
        bits = min(rows, self.stated[template].max_rows).bit_length()
        return _factors(self.windows.get(template, {}), company, bits)[bits] / _ONE

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

    def _together(self, ran: Ran) -> tuple[_Window, tuple[Profile, Profile]]:
        parts = _sum(ran, self.profiles[ran.company])
        window = self.together or _Window(self.stated.together_percent * _ONE // 100)
        window = window.pushed(_ratio(ran.took_ns, parts))
        percent = max(1, min(1000, window.median * 100 // _ONE))
        alone, beside = (_with(p, p.templates, percent) for p in self.profiles)
        return window, (alone, beside)

    def _corrected(self, windows: Mapping[str, Mapping[Place, _Window]]) -> tuple[Profile, Profile]:
        """Give the profiles with new windows of some templates."""
        costs = [dict(profile.templates) for profile in self.profiles]
        for name, own in windows.items():
            stated = self.stated[name]
            bits = stated.max_rows.bit_length()
            for company in (False, True):
                costs[company][name] = _Cost.of(stated, _factors(own, company, bits))
        percent = self.profiles[0].together_percent
        return _with(self.stated, costs[0], percent), _with(self.stated, costs[1], percent)


def _factors(own: Mapping[Place, _Window], company: bool, most: int) -> tuple[int, ...]:
    """Give the factor of each number of bits up to one: the nearest median, the smaller of two.

    Args:
        own: windows of a template; those of the other company count if this one has none.
        company: other lanes are busy.
        most: bits.
    """
    known = sorted([(bits, w.median) for (beside, bits), w in own.items() if beside is company])
    known = known or sorted([(bits, w.median) for (_, bits), w in own.items()])
    if not known:
        return (_ONE,) * (most + 1)
    factors, at = [], 0
    for bits in range(most + 1):
        while at + 1 < len(known) and known[at + 1][0] - bits < bits - known[at][0]:
            at += 1
        factors.append(known[at][1])
    return tuple(factors)


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
        total += cost.span_ns(part.block, part.until, part.rows)
    return total + (max(profile[p.template].cut_ns for p in ran.parts) if ran.resumed else 0)


def _with(stated: Profile, templates: Mapping[str, TemplateCost], percent: int) -> Profile:
    """Give a profile of other costs; skips the checks, which the stated one passed."""
    made, put = object.__new__(Profile), object.__setattr__
    put(made, "templates", templates)
    put(made, "models", stated.models)
    put(made, "together_percent", percent)
    put(made, "longest_ns", stated.longest_ns)
    put(made, "_stated", stated.stated)
    return made


def _ratio(took_ns: int, stated_ns: int) -> int:
    return max(_ONE // _CLAMP, min(_ONE * _CLAMP, took_ns * _ONE // max(1, stated_ns)))


def _error(predicted_ns: int, took_ns: int) -> int:
    return min(1 << 40, abs(predicted_ns - took_ns) * _ONE // took_ns)
