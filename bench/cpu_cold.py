"""From nothing to the first answer: a new process, or what compiling a fleet takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import children
import cpu_wakewords
import harness
import models
import numpy as np
import peers
import sessions
import torch
from given import Inputs, Models
from harness import Impl

BENCH = "cold"
PROCESS = f"{cpu_wakewords.HEADS} wake words, new process"
SMOKE = "2 wake words, new process"


def cases(smoke: bool) -> Iterable[str]:
    """Name the cold start and the compilation of each fleet."""
    return (SMOKE,) if smoke else (PROCESS, *(f"{name}, compiling" for name in models.FLEETS))


def setup(case: str, threads: int) -> harness.Setup:
    """Write files for new processes, or make a fleet to compile."""
    if "process" in case:
        return _process(int(case.split()[0]), threads)
    return _compiling(case.partition(",")[0], threads)


def _process(count: int, threads: int) -> harness.Setup:
    members, _, contents = cpu_wakewords.heads(count)
    frames = torch.randn(1, 16, 96)
    folder = children.scratch(f"cold{count}-{threads}")
    data = folder / "frames.npy"
    np.save(data, frames.numpy())

    def plan() -> Path:
        cpu_wakewords.plans(count, threads).of("cpu").save(folder / "plan.fusec")
        return folder / "plan.fusec"

    def files() -> Path:
        return children.files(children.scratch(f"files{count}-{threads}"), contents)

    names = list(members)
    impls = {"fusec cpu": children.child("fusec", plan, data, threads, names)}
    for way in ("onnxruntime", "openvino"):
        impls[way] = children.child(way, files, data, threads, names)
    truth = peers.truth_of(members, dict.fromkeys(names, frames))
    return harness.Setup(impls=impls, truth=truth, burst=1, warmup=1)


def _compiling(name: str, threads: int) -> harness.Setup:
    fleet = models.FLEETS[name]
    members: Models = {f"member{n}": fleet.model().eval() for n in range(fleet.members)}
    inputs: Inputs = {member: fleet.example() for member in members}
    contents = sessions.exported(members, inputs)

    def fresh(executor: str) -> Impl:
        def run() -> object:
            plans = peers.Plans(members, inputs["member0"], threads)
            return plans.asked(executor, inputs).build()()

        return Impl(lambda: run, peers.of_plan)

    path = children.scratch(f"{name}-{threads}") / "plan.fusec"

    def loads() -> Callable[[], object]:
        import fusec

        peers.Plans(members, inputs["member0"], threads).of("cpu").save(path)
        return lambda: peers.asking(fusec.load(path, executor="cpu", threads=threads), inputs)()

    impls = {
        "fusec cpu": fresh("cpu"),
        "fusec cpu, from a plan file": Impl(loads, peers.of_plan),
        "onnxruntime": _first(sessions.onnxruntime_sessions(contents, inputs, threads)),
        "openvino": _first(sessions.openvino_models(contents, inputs, threads)),
        "torch.compile": _first(_uncached(peers.compiled(members, inputs))),
        "torch.func compiled": _first(_uncached(peers.stacked(members, inputs, compile=True))),
    }
    truth = peers.truth_of(members, inputs)
    return harness.Setup(impls=impls, truth=truth, burst=1, warmup=0, least=1)


def _first(impl: Impl) -> Impl:
    """Time building an implementation and its first answer, each time anew."""
    return replace(impl, build=lambda: lambda: impl.build()())


def _uncached(impl: Impl) -> Impl:
    def build() -> Callable[[], object]:
        from torch._inductor import config

        run = impl.build()

        def first() -> object:
            with config.patch(force_disable_caches=True):
                return run()

        return first

    return replace(impl, build=build)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
