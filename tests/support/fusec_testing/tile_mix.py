"""The kernel of `tile_native`, apart from it: making it takes numba, running it does not."""

from __future__ import annotations

from fusec.kernels.codegen.atomics import atomic_add, pause
from fusec.kernels.codegen.emit import KernelSource, emit
from fusec.kernels.codegen.memory import load_i64, store_i64


def _mix(
    desc: int,
    bufs: int,
    pauses: int,
    raises: int,
    count: int,
    hi2: int,
    scratch: int,
    services: int,
) -> None:
    """Do `Program.run_task`, slowly, and raise the flag that services names if asked to.

    `count` is 0, or the address of how many do so now and how many did at most.
    """
    if count != 0:
        now = atomic_add(count, 1) + 1
        if now > load_i64(count + 8):
            store_i64(count + 8, now)
    mixed, reads = load_i64(desc), load_i64(desc + 8)
    at = desc + 16
    for _ in range(reads):
        value = load_i64(load_i64(bufs + 8 * load_i64(at)) + load_i64(at + 8))
        mixed = mixed * 6364136223846793005 + value + 1
        at += 16
    for _ in range(pauses):
        pause()
    if raises != 0:
        store_i64(load_i64(services), 1)
    writes = load_i64(at)
    at += 8
    for _ in range(writes):
        mixed += 1
        store_i64(load_i64(bufs + 8 * load_i64(at)) + load_i64(at + 8), mixed)
        at += 16
    if count != 0:
        atomic_add(count, -1)


def mix_object() -> bytes:
    """Give the kernel's object code."""
    return emit([KernelSource("mix", _mix)])
