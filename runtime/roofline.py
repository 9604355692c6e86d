"""What this machine can do at most: measured, to say how far from its limits a stage is."""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusec.kernels.library import address

__all__ = ["Machine", "measure_machine"]

_READ_BYTES = 64 << 20
"""More than the caches of one core hold; large shared caches may hold it, as they hold weights."""

_ROUNDS = 400_000


@dataclass(frozen=True, slots=True)
class Machine:
    """Limits of so many cores together."""

    threads: int
    read_bytes_per_ns: float
    """Sustained reading of a large block: GB/s."""
    flops_per_ns: float
    """Float32 multiply-adds in registers, two operations each: GFLOP/s."""

    def roofline_ns(self, flops: float, moved_bytes: float) -> float:
        """Give the least time for so much arithmetic and so much memory traffic."""
        return max(flops / self.flops_per_ns, moved_bytes / self.read_bytes_per_ns)


def measure_machine(threads: int, *, repeats: int = 5) -> Machine:
    """Measure the limits of `threads` cores; the best of some repeats counts.

    Cost: about 0.1 s per repeat.
    """
    word = ctypes.c_int64
    read = ctypes.CFUNCTYPE(None, word, word, word)(address("machine_read"))
    fma = ctypes.CFUNCTYPE(None, word, word)(address("machine_fma"))
    blocks = [np.ones(_READ_BYTES // 4, dtype=np.float32) for _ in range(threads)]
    outs = [np.zeros(16, dtype=np.float32) for _ in range(threads)]

    def read_one(i: int) -> None:
        read(blocks[i].ctypes.data, _READ_BYTES, outs[i].ctypes.data)

    def fma_one(i: int) -> None:
        fma(_ROUNDS, outs[i].ctypes.data)

    read_ns = min(_together(read_one, threads) for _ in range(repeats))
    fma_ns = min(_together(fma_one, threads) for _ in range(repeats))
    return Machine(
        threads=threads,
        read_bytes_per_ns=threads * _READ_BYTES / read_ns,
        flops_per_ns=threads * _ROUNDS * 768 / fma_ns,
    )


def _together(run: Callable[[int], None], threads: int) -> int:
    """Time a function on so many threads at once, from a common start to the last end."""
    start = threading.Barrier(threads + 1)

    def body(i: int) -> None:
        start.wait()
        run(i)

    workers = [threading.Thread(target=body, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begin = time.perf_counter_ns()
    for worker in workers:
        worker.join()
    return time.perf_counter_ns() - begin
