"""Timed runs of templates, block by block, on made-up inputs."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fusec.ir.template import RowsKind
from fusec.profiling import inputs_of_ones
from fusec.runtime.request import Choice, Request, Target
from fusec.runtime.serving.answer import Answer, Courier
from fusec.runtime.serving.engine import Engine, Team
from fusec.runtime.serving.items import Item, Kind
from fusec.runtime.tile.engine import Status
from fusec.runtime.tile.executor import Wanted

__all__ = ["LAUNCH_NS", "Runs"]

LAUNCH_NS = 100_000
"""What it takes to decide, and to tell a lane and hear from it: part of each block's time."""
_LEAST_RUNS, _MOST_RUNS = 3, 20


class Runs:
    """Timed runs of one template, its members taking turns."""

    def __init__(
        self,
        engine: Engine,
        team: Team,
        owners: Sequence[tuple[Target, Choice]],
        extents: Mapping[str, int],
        *,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Make up inputs.

        Args:
            engine: runs blocks.
            team: on which.
            owners: members and their choices of this template; they take turns.
            extents: that it takes.
            before: is called, untimed, before each run.
        """
        self._before = before
        self._engine, self._team, self._owners = engine, team, owners
        self.extents = self._extents = extents
        self.template = template = owners[0][1].template
        self._inputs = inputs_of_ones(template, extents)
        self._addresses = [array.ctypes.data for array in self._inputs]
        self._answer = Answer(Courier())
        batched = any(axis is not None for axis in template.input_axes)
        self._rows = 1 if batched and template.rows is not RowsKind.WHOLE_REQUEST else None

    def times(self, kind: Kind, rows: int, seconds: float) -> tuple[int, ...]:
        """Give the time of each block of a batch: four of five runs take at least that."""
        runs: list[list[int]] = []
        end = time.monotonic() + seconds
        while len(runs) < _LEAST_RUNS or (time.monotonic() < end and len(runs) < _MOST_RUNS):
            runs.append(self._once(kind, rows))
        measured = zip(*runs[1:], strict=True)  # the first run meets cold memory
        return tuple(LAUNCH_NS + sorted(block)[len(block) // 5] for block in measured)

    def with_other(self, other: "Runs", kinds: Sequence[Kind]) -> int:
        """Give the time of one block of one instance of two templates, run as one."""
        took = []
        for _ in range(_MOST_RUNS):
            begin = time.perf_counter_ns()
            segments = [
                segment
                for run, kind in zip((self, other), kinds, strict=True)
                for segment in self._engine.begin_alone([run.item(kind, 0)])
            ]
            try:
                while self._engine.step(segments, self._team)[0] is Status.RETREATED:
                    self._team.lower()
            finally:
                for segment in segments:
                    segment.close()
            took.append(time.perf_counter_ns() - begin)
        return LAUNCH_NS + sorted(took)[len(took) // 5]

    def stages(self, guessed: Sequence[int], solo_ns: int) -> list[int]:
        """Give the time of each stage of one instance, adding up to what it takes alone."""
        prepared = self._engine.prepare([Wanted(self._owners[0][1], self._rows, self._extents)])
        spent = np.zeros(len(guessed))
        for run in range(3):
            events = prepared.trace([self._inputs]).events
            if run:
                np.add.at(spent, events["stage"], events["end_ns"] - events["start_ns"])
        scale = solo_ns / max(1.0, float(spent.sum()))
        return [round(ns * scale) for ns in spent.tolist()]

    def _once(self, kind: Kind, rows: int) -> list[int]:
        items = [self.item(kind, i) for i in range(rows)]
        self._before()
        begin = time.perf_counter_ns()
        segments = self._engine.begin_alone(items)
        took = []
        try:
            for _ in range(kind.blocks):
                while self._engine.step(segments, self._team)[0] is Status.RETREATED:
                    self._team.lower()
                now = time.perf_counter_ns()
                took.append(now - begin)
                begin = now
        finally:
            for segment in segments:
                segment.close()
        return took

    def item(self, kind: Kind, number: int) -> Item:
        """Make an item of the member whose turn it is."""
        target, choice = self._owners[number % len(self._owners)]
        request = Request(
            target=target,
            choice=choice,
            inputs=self._inputs,
            rows=self._rows,
            wants_numpy=True,
            extents=self._extents,
        )
        return Item(request, kind, self._inputs, self._addresses, self._answer)
