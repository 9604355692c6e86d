"""The worker pool: one per process, threads that live in native code and sleep when idle.

    pool().run(job, workers=2)

The calling thread works too, so one worker needs no other thread. Callers from any number of
Python threads run one after another, first come, first served; they wait in native code, without
the interpreter's lock, so a process computes on `workers` cores at a time and no more.
"""

import atexit
import ctypes
import functools
import os
import platform
import sys
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import KernelError, UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.kernels.library import address
from fusec.runtime.tile.engine import (
    CLOSED,
    CPUS,
    MAX_WORKERS,
    POOL_WORDS,
    Job,
    PoolWord,
    Status,
    aligned_words,
)

__all__ = ["Pool", "check_platform", "pool", "raise_retreat"]

_MACHINES = ("x86_64", "aarch64")
_EXIT_SECONDS = 5.0
_STATUS = tuple(Status)


@dataclass(frozen=True, slots=True)
class _Native:
    """The engine's functions; calling one gives the interpreter's lock up."""

    run: Callable[[int, int, int], int]
    work: Callable[[int, int], None]
    shutdown: Callable[[int], None]
    raise_flag: Callable[[int], None]


@functools.cache
def _native() -> _Native:
    check_platform()
    word = ctypes.c_int64
    return _Native(
        run=ctypes.CFUNCTYPE(word, word, word, word)(address("engine_run")),
        work=ctypes.CFUNCTYPE(None, word, word)(address("engine_work")),
        shutdown=ctypes.CFUNCTYPE(None, word)(address("engine_shutdown")),
        raise_flag=ctypes.CFUNCTYPE(None, word)(address("engine_raise")),
    )


def check_platform() -> None:
    """Refuse machines that the native engine does not know.

    Raises:
        UnsupportedError: not Linux on x86-64 or 64-bit ARM.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise UnsupportedError(
            f"the native executor runs on Linux on {' or '.join(_MACHINES)}, this is "
            f"{sys.platform} on {platform.machine()}; use the PyTorch executor"
        )


class Pool:
    """Runs jobs, one at a time, on the calling thread and as many workers as asked for."""

    def __init__(self) -> None:
        """Make a pool without threads; they are started when first asked for."""
        self._native = _native()
        self._scratch = np.empty((0, 0), dtype=np.uint8)
        self._broken = False
        self._words = aligned_words(POOL_WORDS)
        self._begin()

    def _begin(self) -> None:
        self._words[:] = 0
        self._words[PoolWord.GATE] = CLOSED
        self._address: int = self._words.ctypes.data
        self._lock = threading.Lock()  # for growing only, never held during a run
        self._threads: list[threading.Thread] = []

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The workers that were started."""
        return tuple(self._threads)

    @property
    def busy(self) -> bool:
        """Tell whether a job runs now."""
        return bool(self._words[PoolWord.NEXT] != self._words[PoolWord.SERVING])

    def run(self, job: Job, workers: int) -> Status:
        """Run a job, or go on with one that retreated.

        Args:
            job: what to run; no other thread may run or change it meanwhile.
            workers: how many threads may work on it, the calling one included; 1 to 256, and no
                more than the job has address tables for are used.

        Returns:
            DONE, or RETREATED if the job's retreat flag was up. The flag stays up.

        Raises:
            KernelError: the process was forked while a job ran, or no thread can be started.
        """
        if self._broken:
            raise KernelError(
                "this process was forked while another thread ran a plan, so what that run had in "
                "memory is lost; fork while no plan runs, or load the plan anew in the child "
                "(multiprocessing's 'spawn' or 'forkserver')"
            )
        if workers > len(self._threads) + 1:
            self._grow(workers)
        return _STATUS[self._native.run(self._address, job.address, workers)]

    def scratch(self, workers: int, size: int) -> NDArray[np.uint8]:
        """Give scratch memory for jobs: what runs use one after another.

        Args:
            workers: rows at least.
            size: bytes in a row at least.

        Returns:
            [workers, bytes], every row at a multiple of 64. Jobs share it; earlier answers stay
            valid for those who hold them.
        """
        with self._lock:
            rows, row_bytes = self._scratch.shape
            if rows < workers or row_bytes < size:
                rows, row_bytes = max(rows, workers), max(row_bytes, -(-size // 64) * 64, 64)
                words = aligned_words(rows * row_bytes // 8)
                self._scratch = words.view(np.uint8).reshape(rows, row_bytes)
            return self._scratch

    def _grow(self, workers: int) -> None:
        if workers > MAX_WORKERS:
            raise KernelError(f"{workers} threads asked for; {MAX_WORKERS} are possible")
        with self._lock:
            for cpu in os.sched_getaffinity(0):
                if cpu < CPUS:
                    bits = self._words[PoolWord.CPUS + cpu // 64 : PoolWord.CPUS + cpu // 64 + 1]
                    bits.view(np.uint64)[0] |= np.uint64(1 << cpu % 64)
            while len(self._threads) < workers - 1:
                worker = len(self._threads) + 1
                thread = threading.Thread(
                    target=_work,
                    args=(self._native.work, self._words, worker),
                    name=f"fusec-worker-{worker}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError as e:
                    raise KernelError(
                        f"no thread for worker {worker} of {workers}: {e}; ask for fewer threads"
                    ) from e
                self._threads.append(thread)
                self._words[PoolWord.SIZE] = worker

    def shutdown(self) -> None:
        """Send the workers home; runs go on with the calling thread alone."""
        self._native.shutdown(self._address)
        for thread in self._threads:
            thread.join(_EXIT_SECONDS)

    def after_fork(self) -> None:
        """Start over in a child process, which has none of the threads.

        What a run of another thread had in memory is half-done for ever; nothing is, if none ran.
        """
        self._broken |= self.busy
        self._begin()


def _work(work: Callable[[int, int], None], words: NDArray[np.int64], worker: int) -> None:
    """Be a worker; the arguments keep the pool's memory alive as long as the thread."""
    work(words.ctypes.data, worker)


@functools.cache
def _pools() -> list[Pool]:
    return []


_first = threading.Lock()


def pool() -> Pool:
    """Give the process's pool, made at the first call.

    Raises:
        UnsupportedError: the machine is not one that the native engine knows.
    """
    found = _pools()
    if not found:
        with _first:
            if not found:
                made = Pool()
                atexit.register(made.shutdown)
                os.register_at_fork(after_in_child=made.after_fork)
                found.append(made)
    return found[0]


def raise_retreat(flag: int) -> None:
    """Raise the retreat flag at an address: the run that watches it stops at its next task.

    Costs about a microsecond; the run's caller takes the flag down again.
    """
    _native().raise_flag(flag)
