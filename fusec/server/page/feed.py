"""What the page shows, told to all who watch a few times a second, and to nobody at no cost.

first viewer -> ticker starts, lanes are recorded -> last viewer leaves or server ends -> both stop
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusec.server.frontdoor import FrontDoor
from fusec.server.page.bars import bars_of, bars_to_json
from fusec.server.page.events import Viewer, event
from fusec.server.page.roster import Roster, roster_of
from fusec.server.store import Recorded

__all__ = ["Feed", "figures_of"]

EVERY_S = 0.25
_ROWS_EACH = 4
"""Every so many events, rows of models are looked through."""
_GRAIN_NS = 4_000_000
_MOST_BARS = 400
_MOST_ROWS = 500
"""Of models, in one event; the others come with the next."""
_MOST_REASONS = 6
_TEXT = 200
_UNSHOWN = ("tenant_ns", "reasons", "slack", "caches")

Counts = tuple[int, ...]


def figures_of(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the runtime's figures that the page shows, within bounds."""
    reasons = sorted((stats.get("reasons") or {}).items(), key=lambda item: -item[1])
    figures = {k: v for k, v in stats.items() if k not in _UNSHOWN}
    return {**figures, "reasons": [[why[:_TEXT], n] for why, n in reasons[:_MOST_REASONS]]}


class Feed:
    """Tells viewers what happens. All of it runs on the server's event loop."""

    def __init__(
        self,
        door: FrontDoor,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take what to tell of.

        Args:
            door: of the server.
            every_s: between events.
            clock: gives nanoseconds, as lanes take them.
        """
        self._door, self._every_s, self._clock = door, every_s, clock
        self._origin_ns = clock()
        self._viewers: set[Viewer] = set()
        self._ticker: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    def whole(self) -> dict[str, Any]:
        """Give all there is to know, for whoever knows nothing yet."""
        roster = self._roster()
        now = self._tick(None, roster)
        return {**now, "roster": roster.to_json(), "counts": roster.counts()}

    def join(self, viewer: Viewer) -> None:
        """Tell a viewer everything, and what changes from now on."""
        viewer.offer(self._whole_event(), bytes)
        self._viewers.add(viewer)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.ensure_future(self._main())

    def leave(self, viewer: Viewer) -> None:
        """Tell it nothing any more."""
        self._viewers.discard(viewer)
        if not self._viewers and self._ticker is not None:
            self._ticker.cancel()

    async def _main(self) -> None:
        recording: Recorded | None = None
        store = self._door.service.store
        try:
            roster, sent, turn = self._roster(), list[Counts](), 0
            while not self._door.draining:
                recording = recording or store.record()
                await asyncio.sleep(self._every_s)
                now, turn = self._tick(recording, roster), turn + 1
                name = "tick"
                if turn % _ROWS_EACH == 0:
                    fresh = self._roster()
                    if fresh.to_json() == roster.to_json():
                        now["rows"], sent = _changed(sent, fresh.counts())
                    else:
                        name, sent = "whole", fresh.counts()
                        now["roster"], now["counts"] = fresh.to_json(), sent
                    roster = fresh
                text = event(name, now)
                for viewer in self._viewers:
                    viewer.offer(text, self._whole_event)
        except Exception as e:  # noqa: BLE001  (people are told)
            self._door.say(f"the page's events ended: {type(e).__name__}: {e}")
        finally:
            if recording is not None:
                recording.close()
        for viewer in self._viewers:
            viewer.end(event("end", {"state": self._state()}))

    def _whole_event(self) -> bytes:
        return event("whole", self.whole())

    def _tick(self, recording: Recorded | None, roster: Roster) -> dict[str, Any]:
        now = self._clock()
        figures = figures_of(self._door.service.store.stats())
        data = {"t": (now - self._origin_ns) // 1000, "state": self._state(), "stats": figures}
        if recording is not None:
            # In this order, what ends meanwhile is told of with the next event, and not twice.
            ended = bars_of(recording.take(), _GRAIN_NS, _MOST_BARS, now)
            running = bars_of(recording.running(), 1, _MOST_BARS, now)
            data["running"] = bars_to_json(running, self._origin_ns, roster.names)
            data["bars"] = bars_to_json(ended, self._origin_ns, roster.names)
        return data

    def _roster(self) -> Roster:
        return roster_of(self._door.table, self._door.service.store.templates)

    def _state(self) -> str:
        door = self._door
        return "ending" if door.draining else "ready" if door.ready else "starting"


def _changed(
    sent: Sequence[Counts], counts: Sequence[Counts]
) -> tuple[list[list[int]], list[Counts]]:
    """Give rows of models that are not as they were sent, and what is sent by then."""
    known: list[Counts] = [*sent, *[()] * (len(counts) - len(sent))]
    rows = [[i, *row] for i, row in enumerate(counts) if row != known[i]][:_MOST_ROWS]
    for i, *row in rows:
        known[i] = tuple(row)
    return rows, known
