"""Measure the stages of a plan on this machine: what each costs, and how far from the limit.

    plan -> one traced run after another -> p20 per stage -> profile (JSON in the plan file)
                                                             -> schedule per number of threads

All members of a template run together on one worker, one instance each, as they do when served:
weights come from wherever so many of them fit. Times are per instance, so that they add up and
compare with a roofline of the same machine. What schedulers need is measured after that, see
`fusec.schedule_measure`.
"""

import os
import time
from collections.abc import Sequence

import numpy as np

from fusec.ir.plan import PlanData
from fusec.ir.stage import Lowered
from fusec.ir.template import Template
from fusec.lowering import Stages
from fusec.probe import extents_near, inputs_of_ones
from fusec.profile import Profile, StageCost, TemplateProfile
from fusec.runtime.extern import run_extern
from fusec.runtime.request import Choice
from fusec.runtime.roofline import Machine, measure_machine
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.executor import NativeExecutor, Wanted
from fusec.schedule_measure import low, measure_schedule

__all__ = ["extents_of", "inputs_of_ones", "profile_plan"]

_LEAST_RUNS = 5
_MOST_MEMBERS = 256


def profile_plan(
    data: PlanData, stages: Stages, *, seconds: float = 0.5, preempt_ms: float | None = 10.0
) -> Profile:
    """Time every stage of every template of a plan, and blocks of batches for schedulers.

    Args:
        data: the plan, weights in the layouts of its stages.
        stages: what the templates are lowered to.
        seconds: for each template, and again on each number of threads: one, and the plan's.
        preempt_ms: what a block of one instance should take at most; None: stages only.

    Raises:
        KernelError: a stage fails on made-up inputs.
    """
    machine = measure_machine(1)
    executor = NativeExecutor(stages.of, 1, run_extern)
    choices = {k: own for k, own in _choices(data).items() if stages.has(own[0].template)}
    templates = {k: _profile(own, executor, machine, seconds) for k, own in choices.items()}
    stage_ns = {k: [s.measured_ns for s in own.stages] for k, own in templates.items()}
    if preempt_ms is None:
        return Profile(machine=machine, templates=templates)
    counts = sorted({1, data.threads or len(os.sched_getaffinity(0))})
    schedules = [
        measure_schedule(
            choices,
            stage_ns,
            stages,
            machine,
            threads=threads,
            preempt_ns=round(preempt_ms * 1e6),
            seconds=seconds,
        )
        for threads in counts
    ]
    return Profile(machine=machine, templates=templates, schedules=tuple(schedules))


def extents_of(template: Template) -> dict[str, int]:
    """Choose extents that a template takes, each symbol towards 64."""
    return extents_near(template, 64)


def _choices(data: PlanData) -> dict[str, list[Choice]]:
    """Give the weights of the members of every template, up to a number of them."""
    found: dict[str, list[Choice]] = {}
    for member in data.members.values():
        for variant in member.variants:
            template = data.templates[data.forms[variant.form].template]
            own = found.setdefault(template.key, [])
            if len(own) < _MOST_MEMBERS:
                blobs = tuple(data.weights[h] for h in variant.weights)
                own.append(Choice(template=template, hashes=variant.weights, weights=blobs))
    return found


def _profile(
    choices: Sequence[Choice], executor: NativeExecutor, machine: Machine, seconds: float
) -> TemplateProfile:
    template = choices[0].template
    extents = extents_of(template)
    prepared = executor.prepare([Wanted(choice, 1, extents) for choice in choices])
    inputs = [inputs_of_ones(template, extents)] * len(choices)
    binding = executor.binding(template, extents)
    times: list[list[float]] = [[] for _ in binding.code.stages]
    end = time.monotonic() + seconds
    runs = 0
    while runs < _LEAST_RUNS or time.monotonic() < end:
        events = prepared.trace(inputs).events
        spent = np.zeros(len(times), dtype=np.int64)
        np.add.at(spent, events["stage"], events["end_ns"] - events["start_ns"])
        if runs:  # the first run meets cold memory
            for own, ns in zip(times, spent.tolist(), strict=True):
                own.append(ns / len(choices))
        runs += 1
    costs = [_cost(binding, i, machine, low(own), template) for i, own in enumerate(times)]
    return TemplateProfile(extents=extents, instances=len(choices), stages=tuple(costs))


def _cost(
    binding: Binding, stage: int, machine: Machine, measured_ns: float, template: Template
) -> StageCost:
    lowered: Lowered = binding.code.lowered
    made = lowered.stages[stage]
    flops, moved = binding.flops[stage], binding.moved_bytes[stage]
    return StageCost(
        operation=str(made.op),
        computes=tuple(template.body.rows[r].op for r in made.rows if r >= 0),
        items=binding.items[stage],
        items2=binding.items2[stage],
        flops=flops,
        moved_bytes=moved,
        roofline_ns=machine.roofline_ns(flops, moved),
        measured_ns=float(measured_ns),
    )
