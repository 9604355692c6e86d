"""Measure the stages of a plan on this machine: what each costs, and how far from the limit.

    plan -> one traced run after another -> median per stage -> profile (JSON in the plan file)

All members of a template run together on one worker, one instance each, as they do when served:
weights come from wherever so many of them fit. Times are per instance, so that they add up and
compare with a roofline of the same machine.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.plan import PlanData
from fusec.ir.stage import Lowered
from fusec.ir.symbols import evaluate, holds
from fusec.ir.template import Template, TensorSpec
from fusec.lowering import Stages
from fusec.profile import Profile, StageCost, TemplateProfile
from fusec.runtime.extern import run_extern
from fusec.runtime.request import Choice
from fusec.runtime.roofline import Machine, measure_machine
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.executor import NativeExecutor, Wanted

__all__ = ["extents_of", "inputs_of_ones", "profile_plan"]

_LEAST_RUNS = 5
_MOST_MEMBERS = 256


def profile_plan(data: PlanData, stages: Stages, *, seconds: float = 0.5) -> Profile:
    """Time every stage of every template of a plan.

    Args:
        data: the plan, weights in the layouts of its stages.
        stages: what the templates are lowered to.
        seconds: for each template.

    Raises:
        KernelError: a stage fails on made-up inputs.
    """
    machine = measure_machine(1)
    executor = NativeExecutor(stages.of, 1, run_extern)
    templates = {
        key: _profile(choices, executor, machine, seconds)
        for key, choices in _choices(data).items()
        if stages.has(choices[0].template)
    }
    return Profile(machine=machine, templates=templates)


def extents_of(template: Template) -> dict[str, int]:
    """Choose extents that a template takes, each symbol towards 64."""
    extents = {s.name: max(s.min, min(64, s.max or 64)) for s in template.symbols}
    if all(holds(c, extents) for c in template.constraints):
        return extents
    for size in range(1, 512):
        extents = {s.name: min(max(s.min, size), s.max or size) for s in template.symbols}
        if all(holds(c, extents) for c in template.constraints):
            return extents
    return {s.name: s.min for s in template.symbols}


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
    costs = [
        _cost(binding, i, machine, statistics.median(own), template) for i, own in enumerate(times)
    ]
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


def inputs_of_ones(template: Template, extents: Mapping[str, int]) -> tuple[np.ndarray, ...]:
    """Make up inputs of one row: ones, which are an index, a mask and a number."""
    arrays = []
    for spec in template.inputs:
        assert isinstance(spec, TensorSpec)
        shape = [evaluate(d, extents) for d in spec.shape]
        arrays.append(np.ones(shape, dtype=numpy_dtype(spec.dtype)))
    return tuple(arrays)
