"""The super-kernel on a card that a test has made up: uploads, runs, stops, reports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fusec_testing.grouped import interpreter
from fusec_testing.persistent_models import ENCODER, HEAD, Model

from fusec.ir.errors import KernelError, VerifyError
from fusec.kernels.persistent import Outcome
from fusec.kernels.persistent.branches import NAME, Branches
from fusec.runtime.cuda.context import open_context
from fusec.runtime.cuda.library import Driver
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, download, upload
from fusec.runtime.cuda.module import Module
from fusec.runtime.cuda.persistent import Resident
from fusec.runtime.cuda.stream import Stream
from fusec.runtime.persistent.plan import Plan
from fusec.runtime.persistent.policy import Policy
from fusec.runtime.persistent.program import Entry, PersistentProgram, addresses_of, assemble

interpreter()

from fusec_testing.persistent import planned, reference  # noqa: E402
from fusec_testing.persistent_card import PersistentCard, persistent_kernel  # noqa: E402


class World:
    """A card with one model's weights, inputs and outputs on it."""

    def __init__(self, fake: PersistentCard, model: Model, plan: Plan, inputs: np.ndarray) -> None:
        self.fake, self.plan = fake, plan
        self.context = open_context(Driver(fake))
        self.stream = Stream(self.context)
        self.branches = Branches.of(plan.specials)
        self.arena = DeviceMemory(self.stream, max(256, plan.arena_bytes))
        self.buffers: dict[int, DeviceMemory] = {}
        arrays = dict(zip(plan.lowered.weights, model.weights, strict=True))
        arrays[plan.lowered.inputs[0]] = inputs
        for slot in (*arrays, *plan.lowered.outputs):
            n_bytes = arrays[slot].nbytes if slot in arrays else plan.sizes[slot]
            self.buffers[slot] = DeviceMemory(self.stream, max(16, n_bytes))
            if slot in arrays and n_bytes:
                flat = np.ascontiguousarray(arrays[slot]).reshape(-1)
                upload(self.stream, self.buffers[slot], flat.view(np.uint8).data)
        given = {slot: memory.address for slot, memory in self.buffers.items()}
        entry = Entry(plan=plan, addresses=addresses_of(plan, self.arena.address, given))
        self.program = assemble([entry], self.branches)
        code, kernel = persistent_kernel(self.branches)
        self.module = Module(self.context, code)
        self.function = self.module.function(kernel)

    def resident(self, program: PersistentProgram | None = None, **more: int) -> Resident:
        return Resident(self.stream, self.function, program or self.program, 3, **more)

    def uses(self) -> list[DeviceMemory]:
        return [self.arena, *self.buffers.values()]

    def output(self) -> np.ndarray:
        slot = self.plan.lowered.outputs[0]
        host = HostMemory(self.context, self.buffers[slot].n_bytes)
        download(self.stream, host, self.buffers[slot])
        self.stream.synchronize()
        found = host.window().copy().view(np.float32)
        host.free()
        return found

    def close(self) -> None:
        for memory in self.uses():
            memory.free()
        self.module.close()
        self.stream.close()
        self.context.close()
        assert self.fake.faults == []
        assert self.fake.kinds() == []


@pytest.fixture
def world() -> Iterator[World]:
    model = HEAD.build()
    plan = planned(model.lowered, model.symbols(19), policy=Policy.ROW)
    made = World(PersistentCard(seed=1), model, plan, model.inputs(1, length=19))
    yield made
    made.close()


def wanted() -> np.ndarray:
    model = HEAD.build()
    inputs = [model.inputs(1, length=19)]
    return reference(model.lowered, model.weights, inputs, model.symbols(19))[0]


def test_one_launch_runs_the_program_again_and_again(world: World) -> None:
    resident = world.resident()
    for _ in range(3):
        resident.start(world.uses())
        with pytest.raises(VerifyError, match="nobody waited for"):
            resident.start(world.uses())
        assert resident.outcome() is Outcome.DONE
        assert resident.done()
        np.testing.assert_allclose(world.output(), wanted(), rtol=1e-4, atol=1e-6)
    resident.close()
    assert world.fake.launched == [NAME] * 3
    assert world.fake.launches[0]["shape"][:4] == [3, 1, 1, 128]


def test_a_raised_flag_stops_it_and_the_rest_runs_later(world: World) -> None:
    resident = world.resident()
    resident.retreat()
    resident.start(world.uses())
    assert resident.outcome() is Outcome.RETREATED
    resident.retreat(False)
    resident.start(world.uses())
    assert resident.outcome() is Outcome.DONE
    np.testing.assert_allclose(world.output(), wanted(), rtol=1e-4, atol=1e-6)
    resident.close()


def test_who_waits_for_ever_is_told_and_nothing_runs_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalling = np.flatnonzero(world.program.tasks[:, 4] >= 0)
    world.program.tasks[signalling[0], 4] = -1
    with pytest.raises(VerifyError, match="wait for all"):
        world.resident()
    monkeypatch.setattr("fusec.runtime.cuda.persistent.check_order", lambda *program: None)
    resident = world.resident(patience_polls=40)
    resident.start(world.uses())
    with pytest.raises(KernelError, match=r"waits of the super-kernel gave up:\n  program \d"):
        resident.outcome()
    with pytest.raises(VerifyError, match="got stuck"):
        resident.start(world.uses())
    resident.close()


def test_bad_data_is_an_error() -> None:
    model = ENCODER.build()
    ids = model.inputs(1)
    ids[0, 0] = 77
    world = World(PersistentCard(), model, planned(model.lowered), ids)
    resident = world.resident()
    resident.start(world.uses())
    with pytest.raises(KernelError, match="an index is out of range"):
        resident.outcome()
    host = np.zeros_like(ids)
    upload(world.stream, world.buffers[world.plan.lowered.inputs[0]], host.view(np.uint8).data)
    resident.start(world.uses())
    assert resident.outcome() is Outcome.DONE
    resident.close()
    world.close()
