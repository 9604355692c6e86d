"""Steps: one block of one or several segments as one job, a super-kernel across tenants.

    pieces    a: a0 a1 a2 (units)      b: b0 b1 b2 b3 b4
    job       tasks of a, then of b; units b0 b1 a0 b2 b3 a1 b4 a2: who has more left goes first

Equal stages of different members are one piece: they are in the same program. What differs is put
together here, without planning anything: tasks name their address tables by address.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fusec.ir.errors import KernelError
from fusec.runtime.cache import LockedCache, Uses
from fusec.runtime.pool import Pool
from fusec.runtime.serving.shapes import Piece
from fusec.runtime.tile.call import SERVICES, STATUS_TEXTS
from fusec.runtime.tile.engine import Job, Status, Word
from fusec.runtime.tile.externs import Externs
from fusec.runtime.tile.table import Table

__all__ = ["Step", "Steps", "joined"]

_MOST_STEPS = 64


class Step:
    """A job of some pieces. For one thread at a time."""

    def __init__(
        self, pieces: Sequence[Piece], workers: int, address: Callable[[str], int]
    ) -> None:
        """Join pieces.

        Args:
            pieces: at least one.
            workers: how many run it at most.
            address: kernel name -> address.
        """
        self.pieces = tuple(pieces)  # and so their tables stay where they are
        self._status = np.zeros(1, dtype=np.int64)
        services = [address(name) for name in SERVICES]
        self._services = np.array([*services, self._status.ctypes.data], dtype=np.int64)
        self._scratch_bytes = max(piece.scratch_bytes for piece in pieces)
        table = pieces[0].table if len(pieces) == 1 else joined(pieces)
        self._job = Job(table, tables=0, tables_stride=0, services=self.services, workers=workers)

    @property
    def services(self) -> int:
        """Address of the table of services: names this step to an extern stage."""
        return int(self._services.ctypes.data)

    @property
    def begun(self) -> bool:
        """Whether a retreat left it half-way."""
        return self._job.unfinished

    def run(self, pool: Pool, workers: int, flag: int, externs: Externs) -> Status:
        """Run it, or go on with it.

        Args:
            pool: of workers.
            workers: how many.
            flag: address of the flag that stops it.
            externs: raises what extern stages raised.

        Raises:
            KernelError: a kernel or an extern stage reports bad data; the step is over.
        """
        job = self._job
        job.words[Word.RETREAT] = flag
        scratch = pool.scratch(workers, self._scratch_bytes) if self._scratch_bytes else None
        if scratch is not None:
            job.words[Word.SCRATCH] = scratch.ctypes.data
            job.words[Word.SCRATCH_STRIDE] = scratch.strides[0]
        try:
            status = externs.guard(self, lambda: pool.run(job, workers))
        except BaseException:
            self.reset()  # else the next run would go on in the middle
            raise
        if self._status[0]:
            code = int(self._status[0])
            self.reset()
            raise KernelError(STATUS_TEXTS.get(code, f"a kernel reports {code}"))
        return status

    def reset(self) -> None:
        """Give up what a retreat left."""
        self._status[0] = 0
        self._job.reset()


class Steps:
    """Steps that ran lately. Those of the same pieces are the same."""

    def __init__(self, workers: int, address: Callable[[str], int]) -> None:
        """Make a store without steps."""
        self._workers, self._address = workers, address
        self._known: LockedCache[Step] = LockedCache(limit=_MOST_STEPS)

    @property
    def uses(self) -> Uses:
        """Count steps of several pieces that were there, and those that were put together."""
        return self._known.uses

    def of(self, pieces: Sequence[Piece]) -> Step:
        """Give the step of some pieces; a body is in one run at a time, so its steps are, too."""
        if len(pieces) > 1:
            return self._known.get(tuple(pieces), lambda: self._make(pieces))
        alone: list[Step] = pieces[0].alone
        if not alone:
            alone.append(self._make(pieces))
        return alone[0]

    def _make(self, pieces: Sequence[Piece]) -> Step:
        return Step(pieces, self._workers, self._address)


def joined(pieces: Sequence[Piece]) -> Table:
    """Put the tables of pieces together; the units take turns by the work that is left.

    Within a piece they keep their order, so that nobody waits for what is not taken yet.
    """
    tasks, waits, units, left = [], [], [], []
    n_tasks = n_waits = counters = 0
    for piece in pieces:
        table = piece.table
        own, its, rows = table.tasks.copy(), table.waits.copy(), table.units.copy()
        own["wait"] += n_waits
        own["signal"] += np.where(own["signal"] >= 0, counters, 0)
        its["counter"] += counters
        rows["task"] += n_tasks
        tasks.append(own)
        waits.append(its)
        units.append(rows)
        left.append(piece.cost_ns * (1.0 - np.arange(len(rows)) / max(1, len(rows))))
        n_tasks, n_waits = n_tasks + len(own), n_waits + len(its)
        counters += table.counters
    order = np.argsort(-np.concatenate(left), kind="stable")
    return Table(
        tasks=np.concatenate(tasks),
        waits=np.concatenate(waits),
        units=np.concatenate(units)[order],
        counters=counters,
    )
