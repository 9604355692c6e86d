"""Programs of the super-kernel that really run at the same time: faults have to show."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.grouped import interpreter
from fusec_testing.persistent_models import HEAD, PIXELS

from fusec.ir.errors import VerifyError
from fusec.kernels.persistent import Outcome, State
from fusec.runtime.persistent.check import check_order, prove
from fusec.runtime.persistent.policy import Policy
from fusec.runtime.persistent.state import explain, tasks_done

interpreter()

from fusec_testing.concurrent import launch  # noqa: E402
from fusec_testing.persistent import Job, Member, job_of, planned, run_serial  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction  # noqa: E402

import fusec.kernels.persistent.triton as home  # noqa: E402

PROGRAMS = 8


def run(job: Job, seed: int, kernel: object = None, raised_at: int = -1) -> Outcome:
    constants = {"BRANCHES": job.branches.text}
    launch(
        kernel or home.persistent,
        PROGRAMS,
        job.arguments(),
        constants,
        seed,
        raised=(job.retreat, raised_at),
    )
    return job.outcome()


def head(policy: Policy, members: int = 1, length: int = 19) -> list[Member]:
    model = HEAD.build()
    plan = planned(model.lowered, model.symbols(length), policy=policy)
    inputs = [model.inputs(n, length=length) for n in range(members)]
    return [Member.of(plan, model.weights, [given]) for given in inputs]


def wanted(members: list[Member]) -> list[bytes]:
    assert run_serial(job_of(members)) is Outcome.DONE
    found = [one.outputs()[0].tobytes() for one in members]
    for one in members:
        one.forget()
    return found


def wrong(job: Job, right: list[bytes], seeds: range, kernel: object = None) -> int:
    """Count the seeds that show wrong answers."""
    count = 0
    for seed in seeds:
        for one in job.members:
            one.forget()
        assert run(job, seed, kernel) is Outcome.DONE
        found = [one.outputs()[0].tobytes() for one in job.members]
        count += found != right
    return count


@pytest.mark.parametrize("policy", [Policy.NONE, Policy.ROW, Policy.TILE])
def test_any_order_gives_the_same_bytes(policy: Policy) -> None:
    members = head(policy, 2)
    right = wanted(members)
    assert wrong(job_of(members), right, range(2)) == 0


def test_windows_give_the_same_bytes() -> None:
    model = PIXELS.build()
    plan = planned(model.lowered, policy=Policy.ROW)
    assert any(pair.policy is Policy.WINDOW for pair in plan.pairs)
    one = Member.of(plan, model.weights, [model.inputs(1)])
    right = wanted([one])
    assert wrong(job_of([one]), right, range(1)) == 0


def test_a_retreat_in_the_middle_leaves_a_prefix_and_goes_on() -> None:
    members = head(Policy.TILE, length=61)
    right = wanted(members)
    stopped = set()
    for seed in range(3):
        for one in members:
            one.forget()
        job = job_of(members)
        assert run(job, seed, raised_at=250 * seed + 20) is Outcome.RETREATED
        done = tasks_done(job.state)
        signals = job.program.tasks[:done, 4]
        counts = np.bincount(signals[signals >= 0], minlength=job.program.counters)
        np.testing.assert_array_equal(job.counters, counts)
        stopped.add(done)
        job.retreat[0] = 0
        assert run(job, seed) is Outcome.DONE
        assert [one.outputs()[0].tobytes() for one in members] == right
    assert len(stopped) > 1


def test_a_cycle_is_reported_with_who_waits_for_whom() -> None:
    job = job_of(head(Policy.ROW), patience=60)
    program = job.program = replace(job.program, counters=job.program.counters + 1)
    # A task of the first stage waits for one of the last, which waits for it.
    first = int(np.flatnonzero(program.tasks[:, 5] == 0)[0])
    last = int(np.flatnonzero(program.tasks[:, 5] == program.tasks[:, 5].max())[0])
    wait = int(program.tasks[last, 2])
    program.tasks[last, 4] = program.counters - 1
    program.tasks[first, 2:4] = wait, 1
    program.waits[wait] = (program.counters - 1, 1, 1, 0)
    with pytest.raises(VerifyError, match="signals later: a cycle"):
        check_order(program, len(job.branches.keys))
    job.__post_init__()
    assert run(job, seed=0) is Outcome.STUCK
    stuck = explain(job.state, program)
    assert stuck is not None
    assert {w.task for w in stuck.waits} >= {first}
    (shown,) = [w for w in stuck.waits if w.task == first]
    assert (shown.counter, shown.value, shown.wanted) == (program.counters - 1, 0, 1)
    assert last in shown.signalled_by
    assert f"task {first} (stage 0, entry 0) waits for counter" in str(stuck)
    assert job.state[State.LEFT] == 0, "all programs left"


def test_a_missing_wait_shows() -> None:
    members = head(Policy.ROW)
    right = wanted(members)
    job = job_of(members)
    waiting = job.program.tasks[:, 3] > 0
    job.program.tasks[waiting & (job.program.tasks[:, 5] == 1), 3] = 0
    with pytest.raises(VerifyError, match="nothing makes it wait"):
        prove([m.entry() for m in members], job.program, len(job.branches.keys))
    job.__post_init__()
    assert wrong(job, right, range(4)) > 0


def test_a_wait_for_some_of_several_signals_shows() -> None:
    members = head(Policy.NONE)
    right = wanted(members)
    job = job_of(members)
    assert (job.program.waits[:, 1] > 1).any()
    job.program.waits[:, 1] = 1
    with pytest.raises(VerifyError, match="wait for all"):
        check_order(job.program, len(job.branches.keys))
    job.__post_init__()
    assert wrong(job, right, range(4)) > 0


def mutant(change: Callable[[str], str]) -> InterpretedFunction:
    """Give the kernel with another text."""
    text = inspect.getsource(home.persistent.fn)
    changed = change(text)
    assert changed != text
    names = dict(vars(home))
    path = f"<mutant {hash(changed)}>"
    linecache.cache[path] = (len(changed), None, changed.splitlines(keepends=True), path)
    exec(compile(changed, path, "exec"), names)  # our own text
    made = names["persistent"]
    assert isinstance(made, InterpretedFunction)
    return made


def early(text: str) -> str:
    """Move the signal before the work."""
    lines = text.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if "signal = tl.load" in line)
    signal = lines[at : at + 3]
    work = next(i for i, line in enumerate(lines) if "branch = tl.load" in line)
    return "".join([*lines[:work], *signal, *lines[work:at], *lines[at + 3 :]])


@pytest.mark.parametrize(
    "change",
    [early, lambda text: text.replace('signal, 1, sem="release"', 'signal, 1, sem="relaxed"')],
)
def test_a_signal_that_comes_too_early_or_releases_nothing_shows(
    change: Callable[[str], str],
) -> None:
    members = head(Policy.TILE)
    right = wanted(members)
    assert wrong(job_of(members), right, range(4), mutant(change)) > 0
