"""What this machine can do at most: measured, to say how far from its limits a stage is."""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusec.kernels.library import address

__all__ = ["Machine", "Reader", "measure_machine", "measure_read"]

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


class Reader:
    """Reads the same memory again and again, each thread its share, and tells how long it took."""

    def __init__(self, threads: int, n_bytes: int) -> None:
        """Take memory.

        Args:
            threads: who read at once.
            n_bytes: of all of them together; as many as a plan has weights, say.
        """
        word = ctypes.c_int64
        self._read = ctypes.CFUNCTYPE(None, word, word, word)(address("machine_read"))
        # The kernel reads 512 bytes a step.
        share = max(512, -(-n_bytes // threads) // 512 * 512)
        self._blocks = [np.ones(share // 4, dtype=np.float32) for _ in range(threads)]
        self._outs = [np.zeros(16, dtype=np.float32) for _ in range(threads)]
        self.n_bytes = threads * share

    def read_ns(self, passes: int) -> float:
        """Read all of it so many times; give the time of one."""

        def run(i: int) -> None:
            block, out = self._blocks[i], self._outs[i].ctypes.data
            for _ in range(passes):
                self._read(block.ctypes.data, block.nbytes, out)

        return _together(run, len(self._blocks)) / passes


def measure_read(threads: int, n_bytes: int, *, passes: int = 4, repeats: int = 5) -> float:
    """Give how many bytes per ns so many threads read of a block of this size, warm; the best.

    Cost: the block's time, `passes` times for each repeat.
    """
    reader = Reader(threads, n_bytes)
    return reader.n_bytes / min(reader.read_ns(passes) for _ in range(repeats))


def measure_machine(threads: int, *, repeats: int = 5) -> Machine:
    """Measure the limits of `threads` cores; the best of some repeats counts.

    Cost: about 0.1 s per repeat.
    """
    word = ctypes.c_int64
    fma = ctypes.CFUNCTYPE(None, word, word)(address("machine_fma"))
    outs = [np.zeros(16, dtype=np.float32) for _ in range(threads)]

    def fma_one(i: int) -> None:
        fma(_ROUNDS, outs[i].ctypes.data)

    fma_ns = min(_together(fma_one, threads) for _ in range(repeats))
    return Machine(
        threads=threads,
        read_bytes_per_ns=measure_read(threads, threads * _READ_BYTES, passes=1, repeats=repeats),
        flops_per_ns=threads * _ROUNDS * 768 / fma_ns,
    )


def _together(run: Callable[[int], None], threads: int) -> int:
    """Time a function on so many threads at once, from the first start to the last end."""
    start = threading.Barrier(threads)
    times = [(0, 0)] * threads

    def body(i: int) -> None:
        start.wait()
        begin = time.perf_counter_ns()
        run(i)
        times[i] = begin, time.perf_counter_ns()

    workers = [threading.Thread(target=body, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in times) - min(begin for begin, _ in times)
