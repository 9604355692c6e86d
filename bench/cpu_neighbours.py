"""The same work alone and beside a busy process on every core."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

import children
import cpu_wakewords
import harness
import models
import peers
import sessions
import torch

BENCH = "neighbours"
WORK = ("122 wake words", "encoder-mini")
BUSY = "busy cores"


def cases(smoke: bool) -> Iterable[str]:
    """Name the work, alone and in company."""
    if smoke:
        return (f"3 wake words, {BUSY}",)
    return tuple(f"{work}, {company}" for work in WORK for company in ("alone", BUSY))


def setup(case: str, threads: int) -> harness.Setup:
    """Make the members, and start the neighbours when the runs are timed."""
    work, _, company = case.partition(", ")
    if "wake words" in work:
        count = int(work.split()[0])
        members, _, contents = cpu_wakewords.heads(count)
        inputs: dict[str, torch.Tensor] = dict.fromkeys(members, torch.randn(1, 16, 96))
        plans = cpu_wakewords.plans(count, threads)
    else:
        fleet = models.FLEETS[work]
        members = {f"member{n}": fleet.model().eval() for n in range(fleet.members)}
        inputs = {name: fleet.example() for name in members}
        contents = sessions.exported(members, inputs)
        plans = peers.Plans(members, inputs["member0"], threads)
    impls = {
        "fusec cpu": plans.asked("cpu", inputs),
        "onnxruntime": sessions.onnxruntime_sessions(contents, inputs, threads, pool="own"),
        "onnxruntime defaults": sessions.onnxruntime_sessions(
            contents, inputs, threads, pool="defaults"
        ),
        "torch.func": peers.stacked(members, inputs),
    }
    made = harness.Setup(impls=impls, truth=peers.truth_of(members, inputs))
    return replace(made, around=children.busy_cores) if company == BUSY else made


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
