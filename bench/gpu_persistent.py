"""The persistent super-kernel on a card: dependency policies, and how soon it makes way.

pairs   two products one after the other, at 64 to 3,072 rows: each policy, beside launches
urgent  a full card is asked to stop at random moments: how long until the kernel has ended
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from gpu_card import Card, Fusec, Inputs
from gpu_models import pair
from harness import Impl, Row, Setup, Took, run_case
from torch import nn

import fusec
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.persistent import Outcome
from fusec.kernels.persistent.branches import Branches, branch_of
from fusec.runtime.cuda.context import Context, open_context
from fusec.runtime.cuda.library import Driver, load_driver
from fusec.runtime.cuda.memory import DeviceMemory, upload
from fusec.runtime.cuda.module import Module
from fusec.runtime.cuda.persistent import Resident
from fusec.runtime.cuda.stream import Event, Stream
from fusec.runtime.persistent.cost import RATES
from fusec.runtime.persistent.plan import Plan, Settings, plan
from fusec.runtime.persistent.policy import Policy
from fusec.runtime.persistent.program import Entry, addresses_of, assemble

__all__ = ["pair_rows", "urgent_rows"]

POLICIES = (Policy.NONE, Policy.ROW, Policy.TILE)
ROWS = (64, 128, 256, 512, 768, 1024, 2048, 3072)
_ROUNDS = 30


def pair_rows(card: Card, seconds: float) -> list[Row]:
    """Time a pair of products under each policy, and as two launches."""
    made: list[Row] = []
    for rows in ROWS[:1] if card.dry else ROWS:
        model, inputs = pair(5 if card.dry else rows, card.dry)
        with _opened(card) as context:
            allowed = {**{p.value: (p,) for p in POLICIES}, "chosen": POLICIES}
            impls = {
                f"super-kernel, {name}": Impl(_timed(card, context, model, inputs, policies), None)
                for name, policies in allowed.items()
            }
            ours = Fusec(card, {"pair": model}, {"pair": inputs})
            launches = partial(ours.prepare, {"pair": inputs})
            impls["a launch each"] = Impl(launches, None, note=lambda: "with copies, by the clock")
            setup = Setup(impls=impls, truth={}, burst=1, least=1 if card.dry else 5)
            case = f"two products, {len(inputs[0])} rows"
            made += run_case("gpu", case, setup, seconds=seconds / len(ROWS), threads=1)
            ours.close()
    return made


def urgent_rows(card: Card) -> list[Row]:
    """Ask a program that fills the card to stop, at random moments."""
    model, inputs = pair(5 if card.dry else 3072, card.dry)
    draw, took = random.Random(3), []
    with _opened(card) as context:
        running = _Running(card, context, model, inputs, (Policy.ROW,))
        whole_ns = running.run()
        for _ in range(2 if card.dry else _ROUNDS):
            running.resident.start(running.uses)
            time.sleep(draw.random() * whole_ns / 1e9)
            begin = time.perf_counter_ns()
            running.resident.retreat()
            while not running.resident.done() and not card.dry:
                pass
            took.append(time.perf_counter_ns() - begin)
            stopped = running.resident.outcome() is Outcome.RETREATED
            running.resident.retreat(False)
            if stopped:
                running.run()
        running.close()
    low, middle, high = (sorted(took)[len(took) * p // 100] / 1e3 for p in (20, 50, 99))
    return [
        Row(
            bench="gpu", case="urgent behind a full card", impl="fusec", metric="flag up to ended",
            unit="us", p20=low, p50=middle, p80=high, n=len(took), threads=1,
            note=f"the last column is p99; a whole run takes {whole_ns / 1e3:.0f} us",
        )
    ]  # fmt: skip


@contextmanager
def _opened(card: Card) -> Iterator[Context]:
    if card.dry:
        driver = Driver(import_module("fusec_testing.persistent_card").PersistentCard(seed=1))
    else:
        driver = load_driver()
    with open_context(driver) as context:
        yield context


@dataclass(frozen=True, slots=True)
class _Kernel:
    module: Module
    function: Any


class _Running:
    """A model's program on the card, its weights and inputs beside it."""

    def __init__(
        self,
        card: Card,
        context: Context,
        model: nn.Module,
        inputs: Inputs,
        allowed: Sequence[Policy],
    ) -> None:
        compiled = fusec.compile({"m": model}, examples={"m": inputs[0]}, executor="cuda")
        registry, stages, _ = compiled.inside()
        choice = registry.target("m").choices[0]
        lowered = stages.of(choice.template)
        major, minor = context.properties.capability
        arch = max(a for a in RATES if a <= max(10 * major + minor, min(RATES)))
        programs = 4 if card.dry else context.properties.multiprocessors
        modes = (("WIDEN", 1),) if card.dry else ()
        self.plan: Plan = plan(
            lowered,
            {},
            inputs[0].shape[0],
            lambda spelled: branch_of(spelled, arch, modes),
            Settings(rates=RATES[arch], programs=programs, policies=tuple(allowed)),
        )
        self.stream = Stream(context)
        arena = DeviceMemory(self.stream, max(256, self.plan.arena_bytes))
        contents = {s: b.data for s, b in zip(lowered.weights, choice.weights, strict=True)}
        contents[lowered.inputs[0]] = memoryview(inputs[0].tobytes())
        buffers = {}
        for slot in (*contents, *lowered.outputs):
            n_bytes = contents[slot].nbytes if slot in contents else self.plan.sizes[slot]
            buffers[slot] = DeviceMemory(self.stream, max(16, n_bytes))
            if slot in contents:
                upload(self.stream, buffers[slot], contents[slot])
        self.uses = [arena, *buffers.values()]
        branches = Branches.of(self.plan.specials)
        given = {slot: memory.address for slot, memory in buffers.items()}
        entry = Entry(plan=self.plan, addresses=addresses_of(self.plan, arena.address, given))
        program = assemble([entry], branches)
        self.kernel = _kernel(card, context, branches, arch)
        self.resident = Resident(self.stream, self.kernel.function, program, programs)
        self._context = context

    def run(self) -> int:
        """Run it, and give what the card took."""
        begin, end = Event(self._context, timed=True), Event(self._context, timed=True)
        begin.record(self.stream)
        self.resident.start(self.uses)
        end.record(self.stream)
        self.resident.outcome()
        end.synchronize()
        took = end.since_ns(begin)
        begin.close()
        end.close()
        return took

    def close(self) -> None:
        """Give back memory and code."""
        self.resident.close()
        for memory in self.uses:
            memory.free()
        self.kernel.module.close()
        self.stream.close()


def _timed(
    card: Card, context: Context, model: nn.Module, inputs: Inputs, allowed: Sequence[Policy]
) -> Callable[[], Callable[[], object]]:
    def build() -> Callable[[], object]:
        running = _Running(card, context, model, inputs, tuple(allowed))
        return lambda: Took(running.run())

    return build


def _kernel(card: Card, context: Context, branches: Branches, arch: int) -> _Kernel:
    if card.dry:
        code, kernel = import_module("fusec_testing.persistent_card").persistent_kernel(branches)
    else:
        (made,) = compile_jobs([branches.job(arch)])
        if not isinstance(made, Made):
            raise RuntimeError(f"the super-kernel does not compile: {made}")
        code, kernel = made.code, made.kernel
    module = Module(context, code)
    return _Kernel(module, module.function(kernel))
