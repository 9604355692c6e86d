"""The super-kernel in the interpreter: models against their references, in any company."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import Instance, interpreter, run_grouped
from fusec_testing.persistent_models import ENCODER, HEAD, PIXELS, RECURRENT, Model, Recipe

from fusec.ir.errors import VerifyError
from fusec.kernels.persistent import Outcome, State
from fusec.kernels.persistent.branches import Branches
from fusec.runtime.persistent.check import prove
from fusec.runtime.persistent.policy import Policy
from fusec.runtime.persistent.program import assemble
from fusec.runtime.persistent.state import tasks_done

interpreter()

from fusec_testing.persistent import (  # noqa: E402
    Job,
    Member,
    job_of,
    planned,
    reference,
    run_serial,
)

POLICIES = (Policy.NONE, Policy.ROW, Policy.TILE)


def member(
    model: Model, policy: Policy, seed: int, count: int = 1, length: int | None = None
) -> Member:
    plan = planned(model.lowered, model.symbols(length), count, policy)
    made = Member.of(plan, model.weights, [model.inputs(seed, count, length)])
    made.wanted = [  # type: ignore[attr-defined]
        reference(model.lowered, model.weights, [x], model.symbols(length))
        for x in model.inputs(seed, count, length)
    ]
    return made


def check(job: Job) -> None:
    """Prove a job's program, run it, and compare."""
    prove([m.entry() for m in job.members], job.program, len(job.branches.keys))
    assert run_serial(job) is Outcome.DONE
    for one in job.members:
        for number, got in enumerate(one.outputs()):
            parts = got.reshape(one.plan.count, -1)
            for part, wanted in zip(parts, one.wanted, strict=True):  # type: ignore[attr-defined]
                np.testing.assert_allclose(part, wanted[number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "policy"),
    [(ENCODER, Policy.TILE), (PIXELS, Policy.ROW), (RECURRENT, Policy.ROW)],
)
def test_models_of_every_kind(recipe: Recipe, policy: Policy) -> None:
    check(job_of([member(recipe.build(), policy, seed=1)]))


@pytest.mark.parametrize("policy", POLICIES)
def test_ragged_members_with_none_and_one_and_odd_rows(policy: Policy) -> None:
    model = HEAD.build()
    check(job_of([member(model, policy, seed, length=n) for seed, n in enumerate([17, 0, 1, 7])]))


def test_members_of_different_templates_and_policies_share_a_launch() -> None:
    members = [
        member(HEAD.build(), Policy.TILE, 1, length=19),
        member(RECURRENT.build(), Policy.NONE, 2),
        member(HEAD.build(seed=9), Policy.NONE, 3, count=3, length=5),
    ]
    check(job_of(members))


def test_an_empty_program_is_done_at_once() -> None:
    check(job_of([]))


def test_a_program_runs_again_with_counters_that_count_on() -> None:
    one = member(HEAD.build(), Policy.ROW, 1, length=19)
    job = job_of([one])
    for iteration in range(3):
        one.forget()
        check(job)
        assert job.state[State.ITERATION] == iteration + 1
    assert (job.counters == 3 * job.program.signals()).all()


def test_company_of_numbers_that_are_none_changes_no_bit() -> None:
    model = HEAD.build()
    alone = member(model, Policy.TILE, 1, count=2, length=9)
    assert run_serial(job_of([alone])) is Outcome.DONE
    again = member(model, Policy.NONE, 1, count=2, length=9)
    company = [member(model, Policy.ROW, seed, length=seed) for seed in (8, 3)]
    for neighbour in company:
        for slot in (*neighbour.plan.lowered.inputs, *neighbour.plan.lowered.weights):
            neighbour.flats[slot].view(np.uint8)[:] = 0xFF
    assert run_serial(job_of([company[0], again, company[1]]), programs=7) is Outcome.DONE
    for one, other in zip(alone.outputs(), again.outputs(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_bytes_are_those_of_a_launch_for_each_stage() -> None:
    model = HEAD.build()
    one = member(model, Policy.TILE, 1, length=21)
    assert run_serial(job_of([one])) is Outcome.DONE
    other = member(model, Policy.NONE, 1, length=21)
    lowered, symbols = model.lowered, model.symbols(21)
    flats = [
        other.arena[other.plan.arena[slot] :][: other.plan.sizes[slot]].view(flat.dtype)
        if slot in other.plan.arena
        else flat
        for slot, flat in enumerate(other.flats)
    ]
    for stage in lowered.stages:
        run_grouped(stage, lowered.buffers, [Instance(flats, symbols)])
    assert one.outputs()[0].tobytes() == other.outputs()[0].tobytes()


def test_a_retreat_stops_between_tasks_and_the_rest_runs_later() -> None:
    one = member(HEAD.build(), Policy.ROW, 1, length=19)
    job = job_of([one])
    job.retreat[0] = 1
    assert run_serial(job) is Outcome.RETREATED
    assert tasks_done(job.state) == 0
    assert not job.counters.any()
    # In the interpreter nobody can raise the flag in the middle, so a ticket stands for it.
    whole = job.state[State.TASKS]
    job.retreat[0], job.state[State.TASKS] = 0, whole // 2
    assert run_serial(job) is Outcome.DONE
    job.state[State.ITERATION], job.state[State.TICKET] = 0, whole // 2
    job.state[State.TASKS] = whole
    check(job)


def test_bad_data_is_reported() -> None:
    model = ENCODER.build()
    ids = model.inputs(1)
    ids[0, 3] = 50
    one = Member.of(planned(model.lowered), model.weights, [ids])
    job = job_of([one])
    assert run_serial(job) is Outcome.DONE
    assert job.status[0] == 1


def test_a_kernel_without_the_branches_is_refused() -> None:
    one = member(HEAD.build(), Policy.NONE, 1, length=3)
    with pytest.raises(VerifyError, match="no branches for gemm"):
        assemble([one.entry()], Branches.of([]))
