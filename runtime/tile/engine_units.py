"""What a worker does with a job: take units, wait, call kernels, signal; stop and go on.

Memory layout: `fusec.runtime.tile.engine`. A waiting worker says that it sleeps, then looks again;
a signalling one adds to the counter, then looks for sleepers. Both are sequentially consistent, so
one of them sees the other. When a run stops, the workers that compute leave at their next task and
rouse those that wait, which leave too.
"""

from numba import njit

from fusec.kernels.codegen.atomics import atomic_add, atomic_load, atomic_store, call_kernel, pause
from fusec.kernels.codegen.memory import load_i64, prefetch, store_i64
from fusec.runtime.tile.engine import MAX_WORKERS, OPEN_WORDS, Word
from fusec.runtime.tile.engine_sleep import ANY, SPIN_NS, monotonic_ns, sleep, wake
from fusec.runtime.tile.table import SOON_BYTES, TASK

__all__ = ["begin", "run_units", "settle", "units_left"]

# Words of a job, in bytes.
_TASKS, _WAITS, _UNITS, _N_UNITS = 8 * Word.TASKS, 8 * Word.WAITS, 8 * Word.UNITS, 8 * Word.N_UNITS
_COUNTERS, _SIGNALS = 8 * Word.COUNTERS, 8 * Word.SIGNALS
_ITERATION = 8 * Word.ITERATION
_TABLES, _TABLES_STRIDE = 8 * Word.TABLES, 8 * Word.TABLES_STRIDE
_SCRATCH, _SCRATCH_STRIDE = 8 * Word.SCRATCH, 8 * Word.SCRATCH_STRIDE
_SERVICES, _RETREAT = 8 * Word.SERVICES, 8 * Word.RETREAT
_TRACE, _TRACE_STRIDE = 8 * Word.TRACE, 8 * Word.TRACE_STRIDE
_BASE, _N_OPEN, _TICKET = 8 * Word.BASE, 8 * Word.N_OPEN, 8 * Word.TICKET
_STOPPING, _SLEEPERS, _EPOCH = 8 * Word.STOPPING, 8 * Word.SLEEPERS, 8 * Word.EPOCH
_HELD = 8 * Word.HELD
_OPEN_BYTES = 8 * OPEN_WORDS
_TASK_BYTES, _SOON = TASK.itemsize, SOON_BYTES
_STOPPED = _HELD + 8 * MAX_WORKERS
_OPEN = _STOPPED + MAX_WORKERS * _OPEN_BYTES


@njit
def rouse(job: int) -> None:
    """Make workers that wait inside a job look again."""
    if atomic_load(job + _SLEEPERS) != 0:
        atomic_add(job + _EPOCH, 1)
        wake(job + _EPOCH, ANY)


@njit
def _await(job: int, word: int, least: int, most: int) -> bool:
    """Wait until a word is in least .. most; False if the job stops first."""
    end = monotonic_ns() + SPIN_NS
    while monotonic_ns() < end:
        if least <= atomic_load(word) <= most:
            return True
        if atomic_load(job + _STOPPING) != 0 or atomic_load(load_i64(job + _RETREAT)) != 0:
            return False
        pause()
    while True:
        epoch = atomic_load(job + _EPOCH)
        atomic_add(job + _SLEEPERS, 1)
        fulfilled = least <= atomic_load(word) <= most
        stop = atomic_load(job + _STOPPING) != 0 or atomic_load(load_i64(job + _RETREAT)) != 0
        if not fulfilled and not stop:
            sleep(job + _EPOCH, epoch, ANY)
        atomic_add(job + _SLEEPERS, -1)
        if fulfilled or stop:
            return bool(fulfilled)


@njit
def _await_all(job: int, task: int) -> bool:
    """Wait for what a task waits for; False if the job stops first."""
    first, n = load_i64(task + 56), load_i64(task + 64)
    wait = load_i64(job + _WAITS) + 16 * first
    for _ in range(n):
        counter = 8 * load_i64(wait)
        before = load_i64(job + _ITERATION) * load_i64(load_i64(job + _SIGNALS) + counter)
        word, least = load_i64(job + _COUNTERS) + counter, before + load_i64(wait + 8)
        if atomic_load(word) < least and not _await(job, word, least, 1 << 62):
            return False
        wait += 16
    return True


@njit
def _stop(job: int, worker: int, unit: int, task: int, tables: int) -> None:
    """Leave a unit before its task number `task`."""
    row = job + _STOPPED + worker * _OPEN_BYTES
    store_i64(row, unit)
    store_i64(row + 8, task)
    store_i64(row + 16, tables)
    atomic_store(job + _STOPPING, 1)


@njit
def _record(trace: int, task: int, start: int) -> None:
    """Write one event; an event that does not fit is only counted."""
    n = load_i64(trace)
    if n < load_i64(trace + 8):
        event = trace + 16 + 32 * n
        store_i64(event, load_i64(task + 80))
        store_i64(event + 8, load_i64(task + 88))
        store_i64(event + 16, start)
        store_i64(event + 24, monotonic_ns())
    store_i64(trace, n + 1)


@njit
def _fetch(bufs: int, pair: int, pairs: int) -> None:
    """Ask for the first lines of some buffers; see `fusec.runtime.tile.soon`."""
    for _ in range(pairs):
        address = load_i64(bufs + 8 * load_i64(pair))
        for line in range(load_i64(pair + 8)):
            prefetch(address + 64 * line)
        pair += 16


@njit
def _fetch_unit(job: int, tables: int) -> None:
    """Ask for what the unit starts with that is likely to be taken next."""
    unit = load_i64(job + _BASE) + load_i64(job + _TICKET) - load_i64(job + _N_OPEN)
    if unit < load_i64(job + _N_UNITS):
        task = load_i64(job + _TASKS) + _TASK_BYTES * load_i64(load_i64(job + _UNITS) + 16 * unit)
        soon = load_i64(task + _SOON)
        if soon != 0:
            _fetch(tables + load_i64(task + 16), soon + 16, load_i64(soon))


@njit
def _run_unit(job: int, worker: int, unit: int, first: int, tables: int) -> bool:
    """Run a unit's tasks from number `first` on; False if it stopped before the last."""
    row = load_i64(job + _UNITS) + 16 * unit
    n = load_i64(row + 8)
    task = load_i64(job + _TASKS) + _TASK_BYTES * (load_i64(row) + first)
    bufs = load_i64(job + _TABLES) + tables * load_i64(job + _TABLES_STRIDE)
    scratch = load_i64(job + _SCRATCH) + worker * load_i64(job + _SCRATCH_STRIDE)
    services, retreat = load_i64(job + _SERVICES), load_i64(job + _RETREAT)
    counters, trace = load_i64(job + _COUNTERS), load_i64(job + _TRACE)
    if trace != 0:
        trace += worker * load_i64(job + _TRACE_STRIDE)
    for i in range(first, n):
        stop = i > first and atomic_load(retreat) != 0
        if not stop and load_i64(task + 64) != 0:
            stop = not _await_all(job, task)
        if stop:
            _stop(job, worker, unit, i, tables)
            return False
        start = monotonic_ns() if trace != 0 else 0
        soon = load_i64(task + _SOON)
        if soon != 0:
            pair = soon + 16 + 16 * load_i64(soon)
            _fetch(bufs + load_i64(task + 16), pair, load_i64(soon + 8))
        if i + 1 == n:
            _fetch_unit(job, bufs)
        call_kernel(
            load_i64(task), load_i64(task + 8), bufs + load_i64(task + 16),
            load_i64(task + 24), load_i64(task + 32), load_i64(task + 40), load_i64(task + 48),
            scratch, services,
        )  # fmt: skip
        if trace != 0:
            _record(trace, task, start)
        signal = load_i64(task + 72)
        if signal >= 0:
            atomic_add(counters + 8 * signal, 1)
            rouse(job)
        task += _TASK_BYTES
    return True


@njit
def run_units(job: int, worker: int) -> None:
    """Take units until none is left or the retreat flag is up."""
    retreat, n_open = load_i64(job + _RETREAT), load_i64(job + _N_OPEN)
    n_units, base = load_i64(job + _N_UNITS), load_i64(job + _BASE)
    going = True  # no unit was stopped half-way
    while going and atomic_load(retreat) == 0:
        position = atomic_add(job + _TICKET, 1)
        unit = base + position - n_open
        if position < n_open:
            row = job + _OPEN + position * _OPEN_BYTES
            tables = load_i64(row + 16)
            going = _run_unit(job, worker, load_i64(row), load_i64(row + 8), tables)
            if going:
                atomic_add(job + _HELD + 8 * tables, -1)
                rouse(job)
        elif unit >= n_units:
            return
        elif atomic_load(job + _HELD + 8 * worker) != 0 and not _await(
            job, job + _HELD + 8 * worker, 0, 0
        ):
            _stop(job, worker, unit, 0, -1)  # not begun: any tables that are free will do
            going = False
        else:
            going = _run_unit(job, worker, unit, 0, worker)
    rouse(job)


@njit
def _keep(job: int, n: int, row: int) -> None:
    """Insert a row into the n rows of `open`, which are in unit order."""
    unit, task, tables = load_i64(row), load_i64(row + 8), load_i64(row + 16)
    at = job + _OPEN + n * _OPEN_BYTES
    while at > job + _OPEN and load_i64(at - _OPEN_BYTES) > unit:
        for word in range(0, _OPEN_BYTES, 8):
            store_i64(at + word, load_i64(at + word - _OPEN_BYTES))
        at -= _OPEN_BYTES
    store_i64(at, unit)
    store_i64(at + 8, task)
    store_i64(at + 16, tables)
    if tables >= 0:
        store_i64(job + _HELD + 8 * tables, 1)


@njit
def _give_tables(job: int, n_open: int) -> None:
    """Give open units that have not begun tables that no other holds.

    So the order in which open units are resumed is free of waits for tables. There are never more
    open units than workers were allowed, nor than there are tables.
    """
    free = job + _HELD
    for row in range(job + _OPEN, job + _OPEN + n_open * _OPEN_BYTES, _OPEN_BYTES):
        if load_i64(row + 16) < 0:
            while load_i64(free) != 0:
                free += 8
            store_i64(free, 1)
            store_i64(row + 16, (free - job - _HELD) >> 3)


@njit
def settle(job: int, workers: int) -> int:
    """Note where a run ended, all workers gone; 0 if it is done, 1 if it retreated."""
    n_open, base = load_i64(job + _N_OPEN), load_i64(job + _BASE)
    taken = load_i64(job + _TICKET)
    fresh = load_i64(job + _N_UNITS) - base
    base += min(max(taken - n_open, 0), fresh)
    left = 0
    for i in range(min(taken, n_open), n_open):  # in order, each to its place or before it
        _keep(job, left, job + _OPEN + i * _OPEN_BYTES)
        left += 1
    for worker in range(workers):
        row = job + _STOPPED + worker * _OPEN_BYTES
        if load_i64(row) >= 0:
            _keep(job, left, row)
            left += 1
    _give_tables(job, left)
    if left == 0 and base == load_i64(job + _N_UNITS):
        store_i64(job + _BASE, 0)
        store_i64(job + _N_OPEN, 0)
        store_i64(job + _ITERATION, load_i64(job + _ITERATION) + 1)
        return 0
    store_i64(job + _BASE, base)
    store_i64(job + _N_OPEN, left)
    return 1


@njit
def units_left(job: int) -> int:
    """Count the units that a run has to do."""
    return int(load_i64(job + _N_UNITS) - load_i64(job + _BASE) + load_i64(job + _N_OPEN))


@njit
def begin(job: int, workers: int) -> None:
    """Get a job ready for a run, or for going on."""
    for worker in range(workers):
        store_i64(job + _STOPPED + worker * _OPEN_BYTES, -1)
    store_i64(job + _TICKET, 0)
    store_i64(job + _STOPPING, 0)
