"""Recorded runs as Chrome traces, for https://ui.perfetto.dev: one track per worker.

job.start_trace(events=10_000)
pool().run(job, workers)
write_trace("run.json", job.stop_trace(), stage_names)
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["chrome_trace", "write_trace"]

_PROCESS = 1


def chrome_trace(events: NDArray[np.void], stages: Sequence[str]) -> dict[str, Any]:
    """Give a trace as data for JSON.

    Args:
        events: dtype `fusec.runtime.tile.engine.EVENT`.
        stages: name of each stage by its number in the table.

    Returns:
        Times are microseconds since the first event, to the nanosecond.
    """
    start = int(events["start_ns"].min()) if len(events) else 0
    rows: list[dict[str, Any]] = [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": _PROCESS,
            "tid": worker,
            "args": {"name": f"worker {worker}"},
        }
        for worker in np.unique(events["worker"]).tolist()
    ]
    rows += [
        {
            "ph": "X",
            "name": stages[stage],
            "pid": _PROCESS,
            "tid": worker,
            "ts": (begin - start) / 1000,
            "dur": (end - begin) / 1000,
            "args": {"stage": stage, "instance": instance},
        }
        for worker, stage, instance, begin, end in events.tolist()
    ]
    return {"displayTimeUnit": "ns", "traceEvents": rows}


def write_trace(
    path: str | os.PathLike[str], events: NDArray[np.void], stages: Sequence[str]
) -> None:
    """Write a trace to a JSON file; see `chrome_trace`."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(chrome_trace(events, stages), file)
