"""Programs of the super-kernel over memory of this process, in Triton's interpreter.

Import `fusec_testing.grouped` and call its `interpreter` before this.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from fusec_testing.fences import fenced
from fusec_testing.grouped import BLOCKS, patched_once_a_module
from fusec_testing.stages import run_reference

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.stage import BufferKind, Lowered
from fusec.kernels.configs import Config
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.persistent import Outcome
from fusec.kernels.persistent.branches import WARPS, Branches, branch_of
from fusec.kernels.triton_table import Special
from fusec.runtime.persistent.cost import RATES
from fusec.runtime.persistent.plan import Plan, Settings, plan
from fusec.runtime.persistent.policy import Policy
from fusec.runtime.persistent.program import Entry, PersistentProgram, addresses_of, assemble
from fusec.runtime.persistent.state import fresh_state

__all__ = ["Job", "Member", "every", "job_of", "pick_small", "planned", "reference", "run_serial"]

PROGRAMS = 4


def pick_small(spelled: Grouped) -> Special | None:
    """Choose small blocks, so that small stages have several tiles."""
    special = branch_of(spelled, 90, (("WIDEN", 1),))
    if special is None:
        return None
    blocks = tuple((name, BLOCKS.get(name, size)) for name, size in special.config.blocks)
    constants = dict(special.constants) | dict(blocks)
    return replace(
        special,
        config=Config(blocks=blocks, warps=WARPS),
        constants=tuple(constants.items()),
    )


def every(policy: Policy, programs: int = PROGRAMS) -> Settings:
    """Ask for one policy, whatever it costs."""
    return Settings(rates=RATES[90], programs=programs, policies=(policy,))


def planned(
    lowered: Lowered,
    symbols: Mapping[str, int] | None = None,
    count: int = 1,
    policy: Policy = Policy.NONE,
) -> Plan:
    """Plan instances with small blocks and one policy."""
    return plan(lowered, symbols or {}, count, pick_small, every(policy))


@dataclass
class Member:
    """Memory of one entry: all instances of a buffer one after another, the arena full of NaN."""

    plan: Plan
    flats: list[np.ndarray]
    """Of every buffer but those in the arena, by slot."""
    arena: np.ndarray

    @classmethod
    def of(
        cls,
        plan: Plan,
        weights: Sequence[np.ndarray],
        inputs: Sequence[np.ndarray],
    ) -> Member:
        """Lay out an entry.

        Args:
            plan: what runs.
            weights: packed, by number.
            inputs: by number, instances along the first axis.
        """
        flats = []
        for slot, buffer in enumerate(plan.lowered.buffers):
            match buffer.kind:
                case BufferKind.WEIGHT:
                    flat = weights[buffer.index].reshape(-1)
                case BufferKind.INPUT:
                    flat = inputs[buffer.index].reshape(-1)
                case BufferKind.OUTPUT:
                    flat = np.full(plan.sizes[slot], 0xFF, np.uint8)
                    flat = flat.view(numpy_dtype(buffer.dtype))
                case _:
                    flat = np.zeros(0, np.uint8)
            flats.append(fenced(flat))
        return cls(plan, flats, fenced(np.full(plan.arena_bytes, 0xFF, np.uint8)))

    def entry(self) -> Entry:
        """Give where all is."""
        given = {
            slot: flat.ctypes.data
            for slot, flat in enumerate(self.flats)
            if slot not in self.plan.arena
        }
        return Entry(
            plan=self.plan, addresses=addresses_of(self.plan, self.arena.ctypes.data, given)
        )

    def outputs(self) -> list[np.ndarray]:
        """Give the outputs, flat."""
        return [self.flats[slot] for slot in self.plan.lowered.outputs]

    def forget(self) -> None:
        """Fill what stages write with NaN again."""
        self.arena[:] = 0xFF
        for slot, buffer in enumerate(self.plan.lowered.buffers):
            if buffer.kind is BufferKind.OUTPUT:
                self.flats[slot].view(np.uint8)[:] = 0xFF


@dataclass
class Job:
    """A program in memory, with its state."""

    program: PersistentProgram
    branches: Branches
    members: Sequence[Member]
    patience: int = 1 << 20
    counters: np.ndarray = field(init=False)
    state: np.ndarray = field(init=False)
    status: np.ndarray = field(init=False)
    retreat: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counters = np.zeros(max(1, self.program.counters), np.int64)
        self.state = fresh_state(len(self.program.tasks), self.patience)
        self.status, self.retreat = np.zeros(1, np.int32), np.zeros(1, np.int32)
        program = self.program
        arrays = (program.table, program.tiles, program.tasks, program.waits)
        self._kept = [fenced(a.reshape(-1)) if a.size else np.zeros(1, a.dtype) for a in arrays]

    def arguments(self) -> list[torch.Tensor]:
        """Give what a launch passes."""
        arrays = [*self._kept, self.counters, self.state, self.status, self.retreat]
        return [torch.from_numpy(array) for array in arrays]

    def outcome(self) -> Outcome:
        """Tell how the last launch ended."""
        return Outcome(int(self.state[35]))


def job_of(members: Sequence[Member], patience: int = 1 << 20) -> Job:
    """Put members together."""
    branches = Branches.of(s for member in members for s in member.plan.specials)
    program = assemble([member.entry() for member in members], branches)
    return Job(program, branches, members, patience)


def run_serial(job: Job, programs: int = PROGRAMS) -> Outcome:
    """Run one program of the kernel after another."""
    from fusec.kernels.persistent.triton import persistent

    with np.errstate(all="ignore"), warnings.catch_warnings(), patched_once_a_module():
        warnings.simplefilter("ignore", RuntimeWarning)
        launch: Any = persistent[(programs,)]
        launch(*job.arguments(), BRANCHES=job.branches.text)
    return job.outcome()


def reference(
    lowered: Lowered,
    weights: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    symbols: Mapping[str, int] | None = None,
) -> list[np.ndarray]:
    """Run one instance through the references, stage by stage; outputs, flat."""
    flats = []
    for buffer in lowered.buffers:
        dtype = numpy_dtype(buffer.dtype)
        match buffer.kind:
            case BufferKind.WEIGHT:
                flats.append(weights[buffer.index].reshape(-1))
            case BufferKind.INPUT:
                flats.append(np.ascontiguousarray(inputs[buffer.index]).reshape(-1))
            case _:
                n = value(buffer.elements, symbols or {}) * dtype.itemsize
                flats.append(np.full(n, 0xFF, np.uint8).view(dtype))
    with np.errstate(all="ignore"):
        for stage in lowered.stages:
            run_reference(stage, flats, symbols or {})
    return [flats[slot] for slot in lowered.outputs]
