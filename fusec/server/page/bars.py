"""What lanes ran, as few enough bars to send and draw: launches too short to see are joined.

A bar lasts from the first of its launches to the last, and says how long each template ran.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.runtime.serving.recording import Stay

__all__ = ["Bar", "bars_of", "bars_to_json"]

_TEXT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One or more launches of one lane."""

    lane: int
    start_ns: int
    end_ns: int
    launches: int
    calls: int
    stopped: int
    """Launches that left before their last block."""
    busy_ns: dict[str, int]
    """Of each template."""
    model: str
    """Whose request was the first."""


def bars_of(stays: Iterable[Stay], grain_ns: int, most: int, now_ns: int) -> list[Bar]:
    """Join launches that follow each other on a lane.

    Args:
        stays: in order of their ends.
        grain_ns: launches are joined as long as the bar is no longer than that.
        most: bars, but at least one for each lane; the grain is made coarser until it is kept.
        now_ns: until then ran what still runs.
    """
    bars = [_bar(stay, now_ns) for stay in stays]
    lanes = len({bar.lane for bar in bars})
    bars = _joined(bars, grain_ns)
    while len(bars) > max(most, lanes):
        grain_ns *= 2
        bars = _joined(bars, grain_ns)
    return bars


def bars_to_json(bars: Sequence[Bar], origin_ns: int, models: Mapping[str, str]) -> dict[str, Any]:
    """Give bars as short rows of numbers.

    Args:
        bars: any.
        origin_ns: times are microseconds after this one.
        models: names that clients know, by those that the runtime does.
    """
    names = list(dict.fromkeys(name for bar in bars for name in bar.busy_ns))
    number = {name: i for i, name in enumerate(names)}
    rows = [
        [
            bar.lane,
            (bar.start_ns - origin_ns) // 1000,
            (bar.end_ns - origin_ns) // 1000,
            bar.launches,
            bar.calls,
            bar.stopped,
            [[number[name], ns // 1000] for name, ns in bar.busy_ns.items()],
            models.get(bar.model, bar.model)[:_TEXT],
        ]
        for bar in bars
    ]
    return {"templates": names, "rows": rows}


def _bar(stay: Stay, now_ns: int) -> Bar:
    end_ns = max(stay.start_ns, now_ns) if stay.end_ns is None else stay.end_ns
    took, rows = end_ns - stay.start_ns, sum(stay.rows.values())
    return Bar(
        lane=stay.lane,
        start_ns=stay.start_ns,
        end_ns=end_ns,
        launches=1,
        calls=stay.calls,
        stopped=int(stay.stopped),
        busy_ns={name: took * n // rows for name, n in stay.rows.items()},
        model=stay.model,
    )


def _joined(bars: Iterable[Bar], grain_ns: int) -> list[Bar]:
    done: list[Bar] = []
    last: dict[int, Bar] = {}
    for bar in bars:
        before = last.get(bar.lane)
        if before is not None and bar.end_ns - before.start_ns <= grain_ns:
            last[bar.lane] = _both(before, bar)
            continue
        if before is not None:
            done.append(before)
        last[bar.lane] = bar
    return sorted([*done, *last.values()], key=lambda bar: (bar.end_ns, bar.lane))


def _both(a: Bar, b: Bar) -> Bar:
    return Bar(
        lane=a.lane,
        start_ns=a.start_ns,
        end_ns=b.end_ns,
        launches=a.launches + b.launches,
        calls=a.calls + b.calls,
        stopped=a.stopped + b.stopped,
        busy_ns=dict(Counter(a.busy_ns) + Counter(b.busy_ns)),
        model=a.model,
    )
