"""Weights on a card: which lie together, in what order they come, who leaves when room is short.

    weights -> pages       weights that the same members use lie together, in the order of stages
    run -> moves           before each stage: pages to evict, then pages to upload
    Residency              what is on the card by then, when it was last used, by how many runs

All of it is data and arithmetic: uploads are the executor's, which may do them as early as it likes
if it keeps their order. A run whose weights do not fit goes through all the same, as long as those
of each single stage do: pages that it is done with make room for pages to come.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass

__all__ = [
    "PAGE_BYTES",
    "Moves",
    "Page",
    "PageTable",
    "Place",
    "Residency",
    "Run",
    "Short",
    "WeightUse",
    "drop",
    "extended",
    "finish",
    "lay_out",
    "pages_of",
    "plan_run",
]

PAGE_BYTES = 4 << 20
"""Weights up to this lie together: large enough for the bus, small enough to come in time."""

_ALIGN_BYTES = 256
"""Of a weight in its page: what the widest loads of a card want, and whole lines of its caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUse:
    """A weight, who uses it, and where first."""

    key: str
    """Content hash: equal weights are one."""
    n_bytes: int
    owners: frozenset[str]
    """Names of the members."""
    stage: int
    """First one that reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Weights that come and go together."""

    n_bytes: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight is."""

    page: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """All pages; those of early stages have low numbers."""

    pages: tuple[Page, ...]
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """What is on the card."""

    last_use: Mapping[int, int]
    """Page -> number of the last run that used it."""
    users: Mapping[int, int]
    """Page -> how many runs use it now; none of these leaves."""
    runs: int
    """How many there have been."""

    @classmethod
    def empty(cls) -> "Residency":
        """Give that of a card with nothing on it."""
        return cls(last_use={}, users={}, runs=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What happens before a stage: evictions first."""

    evict: tuple[int, ...]
    upload: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that can go ahead."""

    moves: tuple[Moves, ...]
    """One for each stage."""
    pages: tuple[int, ...]
    """Pages that it uses and that stay; give them to `finish`."""
    after: Residency
    """What is on the card when all moves are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A run that cannot go ahead."""

    needed_bytes: int
    """Of the stage that does not fit."""
    room_bytes: int
    """What runs that go on leave of the budget."""
    for_good: bool
    """It would not fit an empty card either."""


Planned: TypeAlias = "Run | Short"


def lay_out(weights: Iterable[WeightUse], page_bytes: int = PAGE_BYTES) -> PageTable:
    """Put weights on pages.

    Weights of different sets of members are never on one page, so that what many share does not go
    with one of them. A weight larger than a page has one of its own.

    Raises:
        ConfigError: a weight is there twice.
    """
    order = sorted(weights, key=lambda w: (w.stage, sorted(w.owners), w.key))
    pages: list[list[WeightUse]] = []
    ends: list[int] = []
    last: dict[frozenset[str], int] = {}
    places: dict[str, Place] = {}
    for weight in order:
        if weight.key in places:
            raise ConfigError(f"weight {weight.key} is given twice")
        at = last.get(weight.owners)
        if at is None or _up(ends[at]) + weight.n_bytes > page_bytes:
            at = last[weight.owners] = len(pages)
            pages.append([])
            ends.append(0)
        places[weight.key] = Place(at, _up(ends[at]))
        ends[at] = _up(ends[at]) + weight.n_bytes
        pages[at].append(weight)
    return PageTable(
        pages=tuple(
            Page(n_bytes=end, keys=tuple(w.key for w in page))
            for end, page in zip(ends, pages, strict=True)
        ),
        places=places,
    )


def extended(
    table: PageTable, weights: Iterable[WeightUse], page_bytes: int = PAGE_BYTES
) -> PageTable:
    """Give a table with pages for further weights behind its own, which stay as they are.

    Raises:
        ConfigError: a weight is there twice, or has a place already.
    """
    more = lay_out(weights, page_bytes)
    twice = more.places.keys() & table.places.keys()
    if twice:
        raise ConfigError(f"weight {min(twice)} has a place already")
    first = len(table.pages)
    moved = {key: Place(p.page + first, p.offset) for key, p in more.places.items()}
    return PageTable(pages=(*table.pages, *more.pages), places={**table.places, **moved})


def pages_of(table: PageTable, stages: Iterable[Iterable[str]]) -> tuple[frozenset[int], ...]:
    """Give the pages that each stage of a run needs.

    Args:
        table: of all weights.
        stages: keys of the weights that each reads, of all members that run together.
    """
    return tuple(frozenset(table.places[key].page for key in keys) for keys in stages)


def plan_run(
    table: PageTable,
    residency: Residency,
    needed: Sequence[Collection[int]],
    budget_bytes: int,
) -> Planned:
    """Plan what comes and goes for a run.

    Pages leave only for want of room: first those that this run does not use, the least recently
    used ahead; then those that it is done with; last those that it needs latest, which come back.

    Args:
        table: of all weights.
        residency: what is on the card.
        needed: pages of each stage, see `pages_of`.
        budget_bytes: for all pages.
    """
    size = [page.n_bytes for page in table.pages]
    next_use = _next_uses(needed)
    held = frozenset(page for page, users in residency.users.items() if users)
    resident = dict(residency.last_use)
    used = sum(size[page] for page in resident)
    now = residency.runs
    moves = []
    for stage, wanted in enumerate(needed):
        evict: list[int] = []
        upload = sorted(set(wanted) - resident.keys())
        short = used + sum(size[page] for page in upload) - budget_bytes
        if short > 0:
            leaving = sorted(
                (page for page in resident if page not in held and page not in wanted),
                key=lambda page: _rank(next_use.get(page, ()), stage, resident[page], page),
            )
            for page in leaving:
                if short <= 0:
                    break
                evict.append(page)
                short -= size[page]
                used -= size[page]
                del resident[page]
        if short > 0:
            needs = sum(size[page] for page in set(wanted))
            others = sum(size[page] for page in held - set(wanted))
            return Short(
                needed_bytes=needs,
                room_bytes=budget_bytes - others,
                for_good=needs > budget_bytes,
            )
        for page in (*upload, *wanted):
            resident[page] = now
        used += sum(size[page] for page in upload)
        moves.append(Moves(evict=tuple(evict), upload=tuple(upload)))
    mine = sorted({page for wanted in needed for page in wanted} & resident.keys())
    users = {**residency.users, **{page: residency.users.get(page, 0) + 1 for page in mine}}
    return Run(
        moves=tuple(moves),
        pages=tuple(mine),
        after=Residency(last_use=resident, users=users, runs=now + 1),
    )


def finish(residency: Residency, pages: Iterable[int]) -> Residency:
    """Note that a run is over: `Run.pages` may leave from here on."""
    users = dict(residency.users)
    for page in pages:
        users[page] -= 1
        if not users[page]:
            del users[page]
    return Residency(last_use=residency.last_use, users=users, runs=residency.runs)


def drop(residency: Residency, pages: Iterable[int]) -> Residency:
    """Take pages off the card whose members are gone; those in use stay."""
    gone = {page for page in pages if not residency.users.get(page)}
    kept = {page: at for page, at in residency.last_use.items() if page not in gone}
    return Residency(last_use=kept, users=residency.users, runs=residency.runs)


def _next_uses(needed: Sequence[Collection[int]]) -> dict[int, list[int]]:
    """Give the stages that need each page, in order."""
    uses: dict[int, list[int]] = {}
    for stage, pages in enumerate(needed):
        for page in pages:
            uses.setdefault(page, []).append(stage)
    return uses


def _rank(uses: Sequence[int], stage: int, last_use: int, page: int) -> tuple[int, int, int]:
    """Tell who leaves first: lower ranks."""
    later = [use for use in uses if use > stage]
    if later:
        return (2, -later[0], page)
    return (1, uses[-1], page) if uses else (0, last_use, page)


def _up(offset: int) -> int:
    return -(-offset // _ALIGN_BYTES) * _ALIGN_BYTES
