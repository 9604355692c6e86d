"""A job: one tile program in the memory layout that the native engine runs from.

A job is one int64 array, 64-byte aligned. Native code gets its address and nothing else:

    word   0  tasks   waits  units  n_units  counters  signals  iteration  workers
           8  tables  tables_stride  scratch  scratch_stride  services  retreat  trace  trace_stride
          16  base    n_open                 what a retreat left
          24  ticket                         shared by all workers: a cache line of its own
          32  stopping  sleepers  epoch      for waits
          40  flag                           the job's own retreat flag
          48  held[w]                        one word per worker
              stopped[w]                     unit, next task, tables; of a worker that stops
              open[i]                        the same, in unit order; resumed first

The ticket counts positions: the first `n_open` are units that a retreat stopped half-way, the
others are units `base`, `base + 1`, ... A unit that has begun goes on with the address tables of
the worker that began it (the column `tables`), since its buffers may lie in that worker's arena;
`held[w]` is 1 until it is done and keeps worker w from new units so long.

Counters are never reset: a wait for `threshold` signals is fulfilled when
`counter - iteration * signals[counter] >= threshold`.

The pool, where callers and workers meet, is one array too:

    word   0  next                  tickets of callers: one runs at a time, first come, first served
           8  serving
          16  gate                  workers inside the job, plus CLOSED while nobody may enter
          24  resting               1 while the caller sleeps until the last worker has left
          32  job  allowed  size  shutdown
          40  called                workers called to this job so far
          48  cpus                  1024 bits: where workers may run
          64 + 32 w                 of worker w:  calls so far, sleeping, thread, avoids
               + 8                                1024 bits: where it may run now
               + 24                               the caller's processor
"""

import ctypes
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table

__all__ = [
    "CLOSED",
    "CPUS",
    "EVENT",
    "MAX_WORKERS",
    "OPEN_WORDS",
    "POOL_WORDS",
    "Job",
    "PoolWord",
    "Status",
    "Word",
    "aligned_words",
]

MAX_WORKERS = 256


class Word(IntEnum):
    """Positions in a job."""

    TASKS = 0
    WAITS = 1
    UNITS = 2
    N_UNITS = 3
    COUNTERS = 4
    SIGNALS = 5
    ITERATION = 6
    WORKERS = 7
    TABLES = 8
    TABLES_STRIDE = 9
    SCRATCH = 10
    SCRATCH_STRIDE = 11
    SERVICES = 12
    RETREAT = 13
    TRACE = 14
    TRACE_STRIDE = 15
    BASE = 16
    N_OPEN = 17
    TICKET = 24
    STOPPING = 32
    SLEEPERS = 33
    EPOCH = 34
    FLAG = 40
    HELD = 48


class PoolWord(IntEnum):
    """Positions in a pool."""

    NEXT = 0
    SERVING = 8
    GATE = 16
    RESTING = 24
    JOB = 32
    ALLOWED = 33
    SIZE = 34
    SHUTDOWN = 35
    CALLED = 40
    CPUS = 48
    WORKERS = 64


POOL_WORDS = PoolWord.WORKERS + 32 * (MAX_WORKERS + 1)

CPUS = 1024
"""Processors that a set of processors has bits for."""

CLOSED = 1 << 20
"""Added to the gate while it is closed; more than there are workers."""

OPEN_WORDS = 3
"""Words of a row of `open` and `stopped`."""


class Status(IntEnum):
    """How a run ended."""

    DONE = 0
    RETREATED = 1
    """Stopped between tasks; the next run goes on from there."""


EVENT = np.dtype(
    [(name, np.int64) for name in ("worker", "stage", "instance", "start_ns", "end_ns")]
)
"""One task in a trace; times of CLOCK_MONOTONIC, as `time.monotonic_ns` gives them."""

_EVENT_WORDS = 4
_TRACE_HEAD = 2  # events seen, events that fit


def aligned_words(words: int) -> NDArray[np.int64]:
    """Allocate zeros at an address that is a multiple of 64."""
    memory = np.zeros(words + 8, dtype=np.int64)
    skip = -memory.ctypes.data // 8 % 8
    return memory[skip : skip + words]


class Job:
    """A tile program bound to memory, with the state of its runs.

    One run at a time: whoever shares a job between threads sees to that.
    """

    def __init__(
        self,
        table: Table,
        *,
        tables: int,
        tables_stride: int,
        services: int,
        workers: int,
        scratch: NDArray[np.uint8] | None = None,
        retreat: int = 0,
    ) -> None:
        """Lay out a job.

        Args:
            table: the program; its arrays must not move or change while the job lives.
            tables: address of worker 0's address tables.
            tables_stride: bytes from one worker's address tables to the next worker's.
            services: address of the table of services.
            workers: how many sets of address tables there are; no run uses more workers.
            scratch: [workers, bytes], rows 64-byte aligned; None if no kernel needs any.
            retreat: address of an int64 flag that stops a run; the job's own by default.

        Raises:
            VerifyError: the records are not as native code reads them.
        """
        _check(table, workers)
        self.table = table
        self.workers = workers
        self._scratch = scratch
        self._counters = aligned_words(table.counters)
        self._signals = table.signals()
        stopped = Word.HELD + MAX_WORKERS
        self.words = aligned_words(stopped + 2 * OPEN_WORDS * MAX_WORKERS)
        """The array that native code reads; see the module."""
        self._trace: NDArray[np.int64] | None = None
        self._set(Word.TASKS, table.tasks.ctypes.data)
        self._set(Word.WAITS, table.waits.ctypes.data)
        self._set(Word.UNITS, table.units.ctypes.data)
        self._set(Word.N_UNITS, len(table.units))
        self._set(Word.COUNTERS, self._counters.ctypes.data)
        self._set(Word.SIGNALS, self._signals.ctypes.data)
        self._set(Word.WORKERS, workers)
        self._set(Word.TABLES, tables)
        self._set(Word.TABLES_STRIDE, tables_stride)
        if scratch is not None:
            self._set(Word.SCRATCH, scratch.ctypes.data)
            self._set(Word.SCRATCH_STRIDE, scratch.strides[0])
        self._set(Word.SERVICES, services)
        self.address: int = self.words.ctypes.data
        self._set(Word.RETREAT, retreat or self.address + 8 * Word.FLAG)

    def _set(self, word: Word, value: int) -> None:
        self.words[word] = value

    @property
    def retreat_address(self) -> int:
        """Where the flag is that stops a run; see `fusec.runtime.pool.raise_retreat`."""
        return int(self.words[Word.RETREAT])

    def lower_retreat(self) -> None:
        """Take the retreat flag down, so that the next run makes progress."""
        ctypes.c_int64.from_address(self.retreat_address).value = 0

    @property
    def iteration(self) -> int:
        """How many runs are done."""
        return int(self.words[Word.ITERATION])

    @property
    def unfinished(self) -> bool:
        """Tell whether a retreat stopped the last run."""
        return bool(self.words[Word.BASE] or self.words[Word.N_OPEN])

    def reset(self) -> None:
        """Give up what a retreat left: the next run starts from the first unit."""
        self._counters[:] = 0
        self.words[Word.ITERATION] = 0
        self.words[Word.BASE] = self.words[Word.N_OPEN] = 0
        self.words[Word.HELD : Word.HELD + MAX_WORKERS] = 0

    def start_trace(self, events: int) -> None:
        """Record the tasks of the runs from now on, up to `events` for each worker."""
        stride = _TRACE_HEAD + events * _EVENT_WORDS
        trace = np.zeros((self.workers, stride), dtype=np.int64)
        trace[:, 1] = events
        self._trace = trace
        self.words[Word.TRACE_STRIDE] = 8 * stride
        self.words[Word.TRACE] = trace.ctypes.data

    def stop_trace(self) -> NDArray[np.void]:
        """Stop recording and give what was recorded, worker by worker.

        Returns:
            Records of dtype EVENT; empty if nothing was recorded.
        """
        self.words[Word.TRACE] = 0
        trace, self._trace = self._trace, None
        if trace is None:
            return np.empty(0, dtype=EVENT)
        parts = []
        for worker, row in enumerate(trace):
            n = min(int(row[0]), int(row[1]))
            events = np.empty((n, _EVENT_WORDS + 1), dtype=np.int64)
            events[:, 0] = worker
            events[:, 1:] = row[_TRACE_HEAD:].reshape(-1, _EVENT_WORDS)[:n]
            parts.append(events)
        return np.concatenate(parts).view(EVENT).reshape(-1)


def _check(table: Table, workers: int) -> None:
    if not 1 <= workers <= MAX_WORKERS:
        raise VerifyError(f"a job for {workers} workers; 1 to {MAX_WORKERS} are possible")
    for records, dtype, name in (
        (table.tasks, TASK, "tasks"),
        (table.waits, WAIT, "waits"),
        (table.units, UNIT, "units"),
    ):
        if records.dtype != dtype or not records.flags.c_contiguous or records.ndim != 1:
            raise VerifyError(f"{name} of a tile table are not contiguous records of its dtype")
