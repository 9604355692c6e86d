"""The native engine: how callers and workers meet; what they do with a job is in `engine_units`.

Memory layout of a job and of the pool: `fusec.runtime.tile.engine`. How they meet:

    caller            worker
    lock
    open gate
    call workers ->   gate + 1; open? run units
    run units         gate - 1
    close gate
    wait for 0  <-
    unlock

A worker that comes late finds the gate closed and goes back to sleep: nobody waits for it.
Sleeping and waking pair a sequentially consistent add with a load on both sides (a sleeper says
that it sleeps, then looks again; a waker changes the word, then looks for sleepers).
"""

from numba import njit

from fusec.kernels.codegen.atomics import atomic_add, atomic_load, atomic_store, pause, syscall
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.runtime.tile.engine import CLOSED, CPUS, PoolWord, Word
from fusec.runtime.tile.engine_sleep import ANY, SPIN_NS, X86, monotonic_ns, sleep, wake
from fusec.runtime.tile.engine_units import begin, run_units, settle, units_left

__all__ = ["KERNELS"]

_SETAFFINITY = 203 if X86 else 122
_GETTID = 186 if X86 else 178
_GETCPU = 309 if X86 else 168

_WORKERS = 8 * Word.WORKERS
# Words of a pool, in bytes.
_NEXT, _SERVING = 8 * PoolWord.NEXT, 8 * PoolWord.SERVING
_GATE, _RESTING = 8 * PoolWord.GATE, 8 * PoolWord.RESTING
_JOB, _ALLOWED = 8 * PoolWord.JOB, 8 * PoolWord.ALLOWED
_SIZE, _SHUTDOWN = 8 * PoolWord.SIZE, 8 * PoolWord.SHUTDOWN
_CALLED, _CPUS = 8 * PoolWord.CALLED, 8 * PoolWord.CPUS
_CALLS, _WORKER_BYTES = 8 * PoolWord.WORKERS, 256
# Words of a worker in a pool.
_SLEEPING, _THREAD, _AVOIDS, _MAY, _CPU = 8, 16, 24, 64, 192


@njit
def _lock(pool: int) -> None:
    """Wait for this caller's turn; of the sleepers only the next is woken."""
    mine = atomic_add(pool + _NEXT, 1)
    while True:
        serving = atomic_load(pool + _SERVING)
        if serving == mine:
            return
        sleep(pool + _SERVING, serving, 1 << (mine & 31))


@njit
def _unlock(pool: int) -> None:
    serving = atomic_add(pool + _SERVING, 1) + 1
    if atomic_load(pool + _NEXT) != serving:
        wake(pool + _SERVING, 1 << (serving & 31))


@njit
def _await_call(word: int, seen: int) -> int:
    """Wait until a worker is called again; where jobs follow each other it does not fall asleep."""
    end = monotonic_ns() + SPIN_NS
    calls = atomic_load(word)
    while calls == seen and monotonic_ns() < end:
        pause()
        calls = atomic_load(word)
    while calls == seen:
        atomic_add(word + _SLEEPING, 1)
        calls = atomic_load(word)
        if calls == seen:
            sleep(word, seen, ANY)
        atomic_add(word + _SLEEPING, -1)
        calls = atomic_load(word)
    return int(calls)


@njit
def _call(pool: int, word: int) -> None:
    """Call a worker; only one that sleeps costs system calls.

    A kernel that packs its processors wakes a thread on the waker's own one, where it stays for
    longer than a job takes. So a worker is kept off the processor that it is called from.
    """
    atomic_add(word, 1)
    if atomic_load(word + _SLEEPING) == 0:
        return
    store_i64(word + _CPU, 0)
    syscall(_GETCPU, word + _CPU, 0, 0, 0, 0, 0)
    cpu = load_i64(word + _CPU)
    if cpu + 1 != load_i64(word + _AVOIDS) and cpu < CPUS:
        for i in range(0, CPUS // 8, 8):
            store_i64(word + _MAY + i, load_i64(pool + _CPUS + i))
        bits = word + _MAY + (cpu >> 6) * 8
        store_i64(bits, load_i64(bits) & ~(1 << (cpu & 63)))
        # Refused, and nothing changed, where no other processor is left.
        syscall(_SETAFFINITY, load_i64(word + _THREAD), CPUS // 8, word + _MAY, 0, 0, 0)
        store_i64(word + _AVOIDS, cpu + 1)
    wake(word, ANY)


@njit
def _call_workers(pool: int, allowed: int) -> None:
    """Call the next two workers; each of them calls two more: all in logarithmic time."""
    for _ in range(2):
        worker = atomic_add(pool + _CALLED, 1)
        if worker < allowed:
            _call(pool, pool + _CALLS + _WORKER_BYTES * worker)


@njit
def _close(pool: int) -> None:
    """Let nobody in any more and wait until all have left."""
    if atomic_add(pool + _GATE, CLOSED) == 0:
        return
    end = monotonic_ns() + SPIN_NS
    while monotonic_ns() < end:
        if atomic_load(pool + _GATE) == CLOSED:
            return
        pause()
    atomic_add(pool + _RESTING, 1)
    inside = atomic_load(pool + _GATE)
    while inside != CLOSED:
        sleep(pool + _GATE, inside, ANY)
        inside = atomic_load(pool + _GATE)
    atomic_add(pool + _RESTING, -1)


@njit
def engine_run(pool: int, job: int, workers: int) -> int:
    """Run a job on this thread and on up to `workers` - 1 others; 0 done, 1 retreated."""
    _lock(pool)
    there = min(load_i64(job + _WORKERS), load_i64(pool + _SIZE) + 1)
    allowed = max(min(min(workers, units_left(job)), there), 1)
    begin(job, allowed)
    if allowed > 1:
        store_i64(pool + _JOB, job)
        store_i64(pool + _ALLOWED, allowed)
        store_i64(pool + _CALLED, 1)
        atomic_add(pool + _GATE, -CLOSED)
        _call_workers(pool, allowed)
        run_units(job, 0)
        _close(pool)
    else:
        run_units(job, 0)
    status = settle(job, allowed)
    _unlock(pool)
    return int(status)


@njit
def engine_work(pool: int, worker: int) -> None:
    """Serve a pool as its worker number `worker` until the pool is shut down."""
    word = pool + _CALLS + _WORKER_BYTES * worker
    store_i64(word + _THREAD, syscall(_GETTID, 0, 0, 0, 0, 0, 0))
    seen = 0
    while True:
        seen = _await_call(word, seen)
        if atomic_load(pool + _SHUTDOWN) != 0:
            return
        if atomic_add(pool + _GATE, 1) < CLOSED:
            allowed = load_i64(pool + _ALLOWED)
            if worker < allowed:
                _call_workers(pool, allowed)
                run_units(load_i64(pool + _JOB), worker)
        if atomic_add(pool + _GATE, -1) - 1 == CLOSED and atomic_load(pool + _RESTING) != 0:
            wake(pool + _GATE, ANY)


@njit
def engine_shutdown(pool: int) -> None:
    """Make all workers return."""
    atomic_add(pool + _SHUTDOWN, 1)
    for worker in range(1, load_i64(pool + _SIZE) + 1):
        word = pool + _CALLS + _WORKER_BYTES * worker
        atomic_add(word, 1)
        wake(word, ANY)


@njit
def engine_raise(address: int) -> None:
    """Set a retreat flag."""
    atomic_store(address, 1)


KERNELS = (
    KernelSource("engine_run", engine_run, arguments=3, gives=True),
    KernelSource("engine_work", engine_work, arguments=2),
    KernelSource("engine_shutdown", engine_shutdown, arguments=1),
    KernelSource("engine_raise", engine_raise, arguments=1),
)
