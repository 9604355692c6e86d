"""Super-kernels compile for cards that are not here, within limits, and say what is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

import fusec
import fusec.kernels.persistent.compile as module
from fusec.ir.device import Constants, DeviceKernel, DroppedKernel, code_hash
from fusec.ir.errors import ArtifactError
from fusec.kernels.cuda.cards import card_of
from fusec.kernels.cuda.compile import Made
from fusec.kernels.cuda.job import Job
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.persistent.branches import NAME, Branches, branch_of, branches_in
from fusec.kernels.triton_table import KERNELS, grouped, specials

ROW = np.zeros((1, 24), np.float32)


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.LayerNorm(40), nn.Linear(40, 7))
    return fusec.compile({"a": model.eval()}, examples={"a": ROW})


def spelled(plan: fusec.Plan) -> list[Grouped]:
    registry, stages, _ = plan.inside()
    (template,) = registry.data().templates.values()
    lowered = stages.of(template)
    found = [grouped(stage, lowered.buffers) for stage in lowered.stages]
    return [stage for stage in found if stage is not None]


def made(name: str, constants: Constants, registers: int, spills: int = 0) -> Made:
    code = f"{name}{constants}".encode()
    kernel = DeviceKernel(
        name=name,
        constants=constants,
        symbol=name,
        code=code_hash(code),
        parameters=("*",) * 8,
        hidden=2,
        warps=4,
        shared_bytes=1024,
        registers=registers,
        stack_bytes=0,
        spill_bytes=spills,
    )
    return Made(kernel=kernel, code=code)


def kept(
    stages: list[Grouped], registers: dict[int, int]
) -> dict[tuple[str, Constants], DeviceKernel]:
    """Let configurations fit that have so many rows in a tile, with so many registers."""
    fitting = {}
    for stage in stages:
        for special in specials(stage, 90):
            rows = dict(special.config.blocks)["BLOCK_M"]
            if rows in registers:
                key = special.kernel.function, special.constants
                fitting[key] = made(*key, registers[rows]).kernel
    return fitting


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton to compile with")
@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_90"])
def test_a_plan_has_a_super_kernel_within_the_limits(plan: fusec.Plan, target: str) -> None:
    card = card_of(target)
    (shown,) = [k for k in plan.compile_for(target).to_json()["kernels"] if k["name"] == NAME]
    assert shown["configuration"] == "3 branches, 4 warps"
    assert shown["registers"] <= card.thread_registers
    assert shown["spill_bytes"] == shown["stack_bytes"] == 0
    assert shown["shared_bytes"] <= card.block_shared_bytes
    assert shown["blocks_per_multiprocessor"] >= 1
    assert plan.targets()[target].stages == len(spelled(plan))


def test_few_rows_take_the_tile_that_holds_them(plan: fusec.Plan) -> None:
    stage = spelled(plan)[0]
    special = branch_of(stage, 90)
    assert special is not None
    assert dict(special.config.blocks)["BLOCK_M"] == 16
    assert special.config.warps == 4
    assert branch_of(stage, 90, allowed=lambda special: False) is None


def test_branches_are_read_from_the_kernel_that_has_them(plan: fusec.Plan) -> None:
    found = [branch_of(stage, 90) for stage in spelled(plan)]
    branches = Branches.of(special for special in found if special is not None)
    job = branches.job(90)
    again = branches_in(made(NAME, job.constants, 99).kernel)
    assert again.keys == branches.keys
    assert [again.number(special) for special in found if special] == [
        branches.number(special) for special in found if special
    ]
    for bad in ("", "[]]", '[["gemm", [1]]]', '[["nobody", []]]', "7"):
        with pytest.raises(ArtifactError, match="branches cannot be read"):
            branches_in(made(NAME, (("BRANCHES", bad),), 99).kernel)


def test_together_they_spill_so_each_takes_what_is_leanest(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []
    spilling = {1}

    def compile_jobs(jobs: list[Job]) -> list[Made | DroppedKernel]:
        asked.extend(jobs)
        return [made(j.name, j.constants, 99, 8 * (len(asked) in spilling)) for j in jobs]

    monkeypatch.setattr(module, "compile_jobs", compile_jobs)
    stages = spelled(plan)
    fitting = kept(stages, {16: 120, 32: 80, 4: 40})
    (result,), (gone,) = module.super_kernels([stages], fitting, card_of("cuda:sm_90"))
    assert gone.reason == "spills 8 bytes of registers"
    assert {job.stages for job in asked} == {3}
    assert rows_of(branches_in(result.kernel)) == {32, 4}
    spilling.update({1, 2})
    asked.clear()
    (result,), gone_too = module.super_kernels([stages], fitting, card_of("cuda:sm_90"))
    assert len(gone_too) == 2
    assert [job.stages for job in asked] == [3, 3, 1]


def rows_of(branches: Branches) -> set[int]:
    return {int(dict(constants)["BLOCK_M"]) for _, constants in branches.keys}


def fitting_jobs(jobs: list[Job]) -> list[Made]:
    return [made(job.name, job.constants, 9) for job in jobs]


def test_a_template_with_a_stage_that_has_none_is_left_out(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "compile_jobs", lambda jobs: [made(j.name, j.constants, 9) for j in jobs]
    )
    stages = spelled(plan)
    card = card_of("cuda:sm_90")
    assert module.super_kernels([stages], {}, card) == ([], [])
    assert module.super_kernels([], kept(stages, {16: 9}), card) == ([], [])


def test_too_many_branches_are_compiled_by_template(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "compile_jobs", lambda jobs: [made(j.name, j.constants, 9) for j in jobs]
    )
    monkeypatch.setattr(module, "MOST_BRANCHES", 1)
    stages = [stage for stage in spelled(plan) if stage.kernel == "gemm"]
    fitting = kept(stages, {16: 120})
    results, gone = module.super_kernels([[s] for s in stages], fitting, card_of("cuda:sm_90"))
    assert (len(results), gone) == (len(stages), [])


def test_the_kernel_has_a_tile_for_every_grouped_kernel(plan: fusec.Plan) -> None:
    pytest.importorskip("triton")
    from fusec.kernels.persistent.triton import _Branches

    assert _Branches.tiles.keys() == {kernel.function for kernel in KERNELS.values()}


ASSEMBLY = """
import json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fusec.kernels.persistent.triton import persistent
job = json.loads(sys.stdin.read())
given = {"signature": dict(job["signature"]), "constexprs": dict(job["constants"])}
source = ASTSource(fn=persistent, **given)
options = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}
print(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton to compile with")
def test_words_that_others_change_are_loaded_and_signals_release(plan: fusec.Plan) -> None:
    norm = next(stage for stage in spelled(plan) if stage.kernel == "norm")
    job = Branches.of(filter(None, [branch_of(norm, 90)])).job(90)
    kept_settings = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_INTERPRET")}
    # In a process of its own: in this one Triton may be its interpreter.
    ptx = subprocess.run(
        [sys.executable, "-c", ASSEMBLY],
        input=job.to_json(),
        env=kept_settings,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # The host writes the flag: an addition of nothing could undo that.
    assert "ld.global.sys.relaxed" in ptx
    assert ".sys." not in ptx.replace("ld.global.sys.relaxed", "")
    assert "ld.global.gpu.acquire.b64" in ptx
    assert ptx.count("red.global.gpu.release.add.u64") == 1
    before = ptx[: ptx.index("red.global.gpu.release")]
    assert before.rindex("bar.sync") > before.rindex("st.global"), "not all threads are waited for"
