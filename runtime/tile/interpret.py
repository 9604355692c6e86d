"""The reference machine for tile programs: one thread, any order that workers could produce."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.table import Table

__all__ = ["interpret"]


@dataclass(slots=True)
class _Worker:
    task: int = 0
    end: int = 0


def interpret(
    table: Table,
    call: Callable[[int, int], None],
    *,
    workers: int = 1,
    choose: random.Random | None = None,
) -> None:
    """Run a program as native workers would, one task at a time.

    Args:
        table: the program.
        call: runs a task, given its number and that of the worker whose tables it uses.
        workers: how many there are; as many as units gives every legal order a chance.
        choose: whose turn it is; the first worker that can go on, by default.

    Raises:
        VerifyError: all workers wait.
    """
    counters = np.zeros(table.counters, dtype=np.int64)
    crew = [_Worker() for _ in range(workers)]
    next_unit = 0

    def ready(worker: _Worker) -> bool:
        if worker.task == worker.end:
            return next_unit < len(table.units)
        record = table.tasks[worker.task]
        first, n = record["wait"], record["waits"]
        return all(counters[w["counter"]] >= w["threshold"] for w in table.waits[first : first + n])

    while True:
        able = [i for i, worker in enumerate(crew) if ready(worker)]
        if not able:
            break
        number = choose.choice(able) if choose else able[0]
        worker = crew[number]
        if worker.task == worker.end:
            unit = table.units[next_unit]
            worker.task, worker.end = int(unit["task"]), int(unit["task"] + unit["tasks"])
            next_unit += 1
            continue
        call(worker.task, number)
        signal = int(table.tasks[worker.task]["signal"])
        if signal >= 0:
            counters[signal] += 1
        worker.task += 1
    stuck = [worker.task for worker in crew if worker.task != worker.end]
    if stuck:
        raise VerifyError(f"tile program: all workers wait, before tasks {stuck}")
