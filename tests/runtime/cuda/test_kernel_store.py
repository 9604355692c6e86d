"""Kernels of a plan on a card: its own code first, then a compiler's, then the host or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.grouped import interpreter

import fusec
from fusec.ir.device import DeviceCode, DroppedKernel
from fusec.ir.errors import UnsupportedError
from fusec.kernels.cuda.cards import card_of
from fusec.kernels.cuda.compile import Made
from fusec.kernels.cuda.job import Job
from fusec.kernels.cuda.special import job_of
from fusec.kernels.triton_table import grouped, specials
from fusec.runtime.cuda.executor import CudaExecutor
from fusec.runtime.cuda.kernels import arch_of
from fusec.runtime.cuda.library import Driver
from fusec.runtime.cuda.settings import CudaSettings
from fusec.runtime.extern import run_extern

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_code import build, device_code  # noqa: E402
from fusec_testing.card_runs import OnCard, head  # noqa: E402

X = np.ones((1, 24), np.float32)
PLAN = fusec.compile({"a": head(0), "b": head(1)}, examples={"*": X})
Results = Sequence[Made | DroppedKernel]


def jobs(arch: int = 90) -> list[Job]:
    registry, stages, _ = PLAN.inside()
    found = []
    for template in registry.data().templates.values():
        lowered = stages.of(template)
        for stage in lowered.stages:
            spelled = grouped(stage, lowered.buffers)
            assert spelled is not None
            card = card_of(f"cuda:sm_{arch}")
            found += [job_of(special, card) for special in specials(spelled, arch)]
    return found


def nobody(_: Sequence[Job]) -> Results:
    raise UnsupportedError("compiling for a card needs Triton")


def world(
    codes: Sequence[DeviceCode], compiler: object = nobody, capability: tuple[int, int] = (9, 0)
) -> OnCard:
    fake = ComputingCard(capability=capability)
    executor = CudaExecutor(
        PLAN.inside()[1].of,
        run_extern,
        CudaSettings(lanes=1),
        lambda: codes,
        driver=lambda: Driver(fake),
        build=compiler,  # type: ignore[arg-type]
    )
    return OnCard(PLAN, executor, fake)


def test_code_of_the_plan_is_run_and_nothing_is_compiled() -> None:
    made = world([device_code(jobs(), "cuda:sm_90"), device_code(jobs(80), "cuda:sm_80")])
    made.check({"a": X, "b": X})
    assert made.executor.stats().compiles == 0
    made.close()


def test_code_for_an_earlier_card_of_the_generation_runs() -> None:
    made = world([device_code(jobs(80), "cuda:sm_80")], capability=(8, 6))
    made.check({"a": X, "b": X})
    assert made.executor.open().kernels.card.arch == 80
    made.close()


def test_what_the_plan_lacks_is_compiled() -> None:
    made = world([device_code(jobs()[:1], "cuda:sm_90")], build)
    made.check({"a": X, "b": X})
    assert 0 < made.executor.stats().compiles < len(jobs())
    made.close()


def test_without_code_and_compiler_the_way_out_is_told() -> None:
    made = world([])
    with pytest.raises(UnsupportedError, match=r"--target cuda:sm_90.*needs Triton"):
        made.run({"a": X})
    made.close()


def test_stages_whose_configurations_are_all_dropped_run_on_the_host() -> None:
    def spilling(wanted: Sequence[Job]) -> Results:
        results = []
        for job, one in zip(wanted, build(wanted), strict=True):
            first = dict(job.constants).get("K_MULTIPLE") == 8
            assert isinstance(one, Made)
            spilled = replace(one.kernel, spill_bytes=8)
            results.append(Made(kernel=spilled, code=one.code) if first else one)
        return results

    made = world([], spilling)
    made.check({"a": X, "b": X[[0, 0]]})
    assert made.executor.stats().host_stages == 1
    made.close()


def test_configurations_that_do_not_compile_are_left_out() -> None:
    def one_of_each(wanted: Sequence[Job]) -> Results:
        return [
            one
            if dict(job.constants)["BLOCK_M"] == 16
            else DroppedKernel(name=job.name, constants=job.constants, reason="does not compile")
            for job, one in zip(wanted, build(wanted), strict=True)
        ]

    made = world([], one_of_each)
    made.check({"a": X, "b": X[[0] * 40]})
    assert made.executor.stats().host_stages == 0
    made.close()


def test_configurations_that_would_add_up_in_another_order_are_left_out() -> None:
    def other(wanted: Sequence[Job]) -> Results:
        results = []
        for job, one in zip(wanted, build(wanted), strict=True):
            assert isinstance(one, Made)
            mma = "mma" if dict(job.constants)["BLOCK_M"] == 64 else "wgmma"
            results.append(Made(kernel=replace(one.kernel, mma=mma), code=one.code))
        return results

    made = world([], other)
    made.check({"a": X})
    kernels = made.executor.open().kernels
    registry, stages, _ = PLAN.inside()
    (template,) = registry.data().templates.values()
    lowered = stages.of(template)
    for stage in lowered.stages:
        spelled = grouped(stage, lowered.buffers)
        assert spelled is not None
        ready = [s for s in specials(spelled, 90) if kernels.of(s) is not None]
        first = dict(specials(spelled, 90)[0].config.blocks)["BLOCK_M"] == 64
        assert ready
        assert all((dict(s.config.blocks)["BLOCK_M"] == 64) == first for s in ready)
    made.close()


def test_the_architecture_to_run() -> None:
    assert arch_of((9, 0), []) == 90
    assert arch_of((8, 7), []) == 86
    assert arch_of((8, 9), ["cuda:sm_80", "cuda:sm_90"]) == 80
    assert arch_of((8, 9), ["cuda:sm_80", "cuda:sm_89"]) == 89
    with pytest.raises(UnsupportedError, match="the card is sm_75; there are kernels for sm_80"):
        arch_of((7, 5), ["cuda:sm_90"])
