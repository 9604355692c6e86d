"""The worker pool: many callers, growing, forking, leaving."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fusec_testing.tile_native import OBJECT_FILE, NativeProgram, object_code
from fusec_testing.tile_programs import Program, Work

import fusec
from fusec.ir.errors import KernelError, UnsupportedError
from fusec.runtime.pool import Pool, check_platform, pool
from fusec.runtime.tile.engine import Status

SUPPORT = Path(__file__).resolve().parents[1] / "support"
_SCRIPT = """
import os, sys, threading, time
from fusec_testing.tile_native import NativeProgram
from fusec_testing.tile_programs import Program, Work
from fusec.ir.errors import KernelError
from fusec.runtime.pool import pool
from fusec.runtime.tile.engine import Status

def native(pauses, raising=()):
    program = Program(spaces=[-1] * 9, words=12)
    for i in range(8):
        program.add(Work([(0, 0)], [(0, 4 + i)], [0, 1 + i]), [], -1)
    program.units = [1] * 8
    return NativeProgram(program, 3, [pauses], raising)
"""


RunScript = Callable[[str], str]


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Run a script in a process of its own and give what it prints."""
    mix = tmp_path / "mix.o"
    mix.write_bytes(object_code())
    return lambda body: _run_script(body, mix)


def _run_script(body: str, mix: Path) -> str:
    path = os.pathsep.join([str(SUPPORT), str(Path(fusec.__file__).parents[1])])
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _SCRIPT + body],
        env={**os.environ, "PYTHONPATH": path, OBJECT_FILE: str(mix)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def _many(units: int) -> Program:
    program = Program(spaces=[-1] * (units + 1), words=4 + units)
    for i in range(units):
        program.add(Work([(0, i % 4)], [(0, 4 + i)], [0, 1 + i]), [], -1)
    program.units = [1] * units
    return program


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_callers_from_many_threads_use_no_more_cores_than_allowed(workers: int) -> None:
    jobs = [NativeProgram(_many(n + 1), 3, [2000]) for n in range(6)]
    rounds, count = [0] * len(jobs), np.zeros(2, dtype=np.int64)
    for native in jobs:
        native.job.table.tasks["lo2"] = count.ctypes.data

    def call(n: int) -> None:
        for _ in range(20):
            jobs[n].memory[4:] = 0
            assert pool().run(jobs[n].job, workers) is Status.DONE
            assert (jobs[n].memory[4:] != 0).all()
            rounds[n] += 1

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rounds == [20] * len(jobs)
    assert count[0] == 0
    assert 1 <= count[1] <= workers


def _asleep(own: Pool) -> bool:
    """Wait until all workers sleep."""
    for _ in range(1000):
        if all(_state(t.native_id) == "S" for t in own.threads):
            return True
        time.sleep(0.01)
    return False


def test_workers_sleep_when_idle() -> None:
    own, native = Pool(), NativeProgram(_many(8), 3)
    own.run(native.job, 3)
    assert _asleep(own)
    own.shutdown()


def test_a_sleeping_worker_is_called_away_from_its_callers_processor() -> None:
    own, native = Pool(), NativeProgram(_many(8), 2)
    own.run(native.job, 2)
    assert _asleep(own)
    here = os.sched_getaffinity(0)
    own.run(native.job, 2)
    worker = own.threads[0].native_id
    assert worker is not None
    there = os.sched_getaffinity(worker)
    assert (there < here and len(there) == len(here) - 1) or (there == here and len(here) == 1)
    assert os.sched_getaffinity(0) == here
    own.shutdown()


def _state(thread: int | None) -> str:
    stat = Path(f"/proc/self/task/{thread}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_one_worker_needs_no_thread_and_more_are_started_once() -> None:
    own, native = Pool(), NativeProgram(_many(8), 4)
    own.run(native.job, 1)
    assert list(own.threads) == []
    for workers in (3, 2, 4, 1):
        assert own.run(native.job, workers) is Status.DONE
    assert len(own.threads) == 3
    own.shutdown()
    assert not any(t.is_alive() for t in own.threads)
    assert own.run(native.job, 4) is Status.DONE


def test_too_many_workers() -> None:
    with pytest.raises(KernelError, match="300 threads asked for; 256 are possible"):
        Pool().run(NativeProgram(_many(1), 1).job, 300)


def test_threads_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(KernelError, match=r"no thread for worker 1 of 2: can't .*; ask for fewer"):
        Pool().run(NativeProgram(_many(1), 1).job, 2)


def test_scratch_is_aligned_shared_and_grows() -> None:
    own = Pool()
    first = own.scratch(2, 100)
    assert first.shape == (2, 128)
    assert own.scratch(1, 10) is first
    second = own.scratch(3, 1000)
    assert second.shape == (3, 1024)
    assert [row.ctypes.data % 64 for row in (*first, *second)] == [0] * 5


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "ppc64le")])
def test_other_machines_are_refused(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_platform()
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(UnsupportedError, match=f"this is {system} on {machine}; use the PyTorch"):
        check_platform()


def test_a_child_of_an_idle_process_has_a_pool_of_its_own(run_script: RunScript) -> None:
    out = run_script("""
one = native(100)
pool().run(one.job, 3)
child = os.fork()
if child == 0:
    one.memory[4:] = 0
    done = pool().run(one.job, 3) is Status.DONE and (one.memory[4:] != 0).all()
    os._exit(0 if done and one.job.iteration == 2 else 1)
print(os.waitpid(child, 0)[1], pool().run(one.job, 3).name)
""")
    assert out == "0 DONE\n"


def test_a_child_forked_during_a_run_says_what_to_do(run_script: RunScript) -> None:
    out = run_script("""
one, busy = native(100), native(1_500_000)
pool().run(one.job, 3)
thread = threading.Thread(target=pool().run, args=(busy.job, 3))
thread.start()
while not pool().busy:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    try:
        pool().run(one.job, 3)
    except KernelError as e:
        os.write(1, f"{e}\\n".encode())
        os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
thread.join()
assert pool().run(one.job, 3) is Status.DONE
""")
    assert "forked while another thread ran a plan" in out
    assert "'spawn' or 'forkserver'" in out


@pytest.mark.parametrize("daemon", [True, False])
def test_a_process_leaves_while_others_run(daemon: bool, run_script: RunScript) -> None:
    out = run_script(f"""
jobs = [native(1000) for _ in range(3)]
def forever(job):
    while {daemon} or time.monotonic() < end:
        pool().run(job, 3)
end = time.monotonic() + 0.1
for one in jobs:
    threading.Thread(target=forever, args=(one.job,), daemon={daemon}).start()
time.sleep(0.05)
print("leaving")
""")
    assert out == "leaving\n"
