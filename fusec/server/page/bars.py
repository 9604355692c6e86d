"""What lanes ran, as few enough bars to send and draw: launches too short to see are joined.

A bar lasts from the first of its launches to the last, and says how long each template ran.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusec.runtime.serving.recording import Stay

__all__ = ["Bar", "bars_of", "bars_to_json"]

_TEXT = 80


class Bar:
    """One or more launches of one lane, one after the other."""

    __slots__ = (
        "busy_ns", "calls", "end_ns", "lane", "launches", "model", "start_ns", "stopped",
    )  # fmt: skip

    def __init__(self, stay: Stay, now_ns: int) -> None:
        """Take one; what still runs ran until now."""
        end_ns = max(stay.start_ns, now_ns) if stay.end_ns is None else stay.end_ns
        took, rows = end_ns - stay.start_ns, sum(stay.rows.values())
        self.lane, self.start_ns, self.end_ns = stay.lane, stay.start_ns, end_ns
        self.launches, self.calls = 1, stay.calls
        self.stopped = int(stay.stopped)
        """Launches that left before their last block."""
        self.busy_ns = {name: took * n // rows for name, n in stay.rows.items()}
        """Of each template."""
        self.model = stay.model
        """Whose request was the first."""

    def join(self, bar: "Bar") -> None:
        """Take what came after."""
        self.end_ns = bar.end_ns
        self.launches += bar.launches
        self.calls += bar.calls
        self.stopped += bar.stopped
        for name, ns in bar.busy_ns.items():
            self.busy_ns[name] = self.busy_ns.get(name, 0) + ns


def bars_of(stays: Iterable[Stay], grain_ns: int, most: int, now_ns: int) -> list[Bar]:
    """Join launches that follow each other on a lane.

    Args:
        stays: in order of their ends.
        grain_ns: launches are joined as long as the bar is no longer than that.
        most: bars, but at least one for each lane; the grain is made coarser until it is kept.
        now_ns: until then ran what still runs.
    """
    bars = [Bar(stay, now_ns) for stay in stays]
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


def _joined(bars: Iterable[Bar], grain_ns: int) -> list[Bar]:
    done: list[Bar] = []
    last: dict[int, Bar] = {}
    for bar in bars:
        before = last.get(bar.lane)
        if before is not None and bar.end_ns - before.start_ns <= grain_ns:
            before.join(bar)
            continue
        if before is not None:
            done.append(before)
        last[bar.lane] = bar
    return sorted([*done, *last.values()], key=lambda bar: (bar.end_ns, bar.lane))
