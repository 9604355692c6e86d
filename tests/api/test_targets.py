"""Plans with code for cards; the compiler is a test's, see tests/kernels/cuda for Triton's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fusec_testing.cubins import made_cubin
from torch import nn
from typer.testing import CliRunner

import fusec
import fusec.targets as module
from fusec.cli.app import app
from fusec.ir.device import DeviceKernel, DroppedKernel, code_hash
from fusec.ir.errors import ConfigError, UnsupportedError
from fusec.kernels.configs import Config
from fusec.kernels.cuda.compile import Made
from fusec.kernels.cuda.job import Job

ROW = np.zeros((1, 16), dtype=np.float32)
CONFIGS = tuple(
    Config(blocks=(("BLOCK_M", m), ("BLOCK_N", 64), ("BLOCK_K", 32)), warps=4)
    for m in (64, 16, 32, 128)
)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What is compiled: large blocks spill, small ones take too much shared memory."""
    asked: list[Job] = []

    def compile_jobs(
        given: Sequence[Job], progress: Callable[[Job, int, int], None] | None = None
    ) -> list[Made | DroppedKernel]:
        asked.extend(given)
        return list(map(made, given))

    monkeypatch.setattr(module, "compile_jobs", compile_jobs)
    monkeypatch.setattr("fusec.kernels.triton_table.configs_of", lambda *stage: CONFIGS)
    monkeypatch.setattr(module, "compiler_name", lambda: "a test's")
    monkeypatch.setattr(module, "super_kernels", lambda templates, kept, card: ([], []))
    return asked


def made(job: Job) -> Made | DroppedKernel:
    block = dict(job.constants)["BLOCK_M"]
    if block == 32:
        return DroppedKernel(name=job.name, constants=job.constants, reason="does not compile: 32")
    code = made_cubin(job.name, arch=job.arch, threads=job.warps * 32, parameters=(8,) * 6)
    kernel = DeviceKernel(
        name=job.name,
        constants=job.constants,
        symbol=job.name,
        code=code_hash(code),
        parameters=job.parameters,
        hidden=2,
        warps=job.warps,
        shared_bytes=300_000 if block == 16 else 1024,
        registers=32,
        stack_bytes=0,
        spill_bytes=24 if block == 128 else 0,
    )
    return Made(kernel=kernel, code=code)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU()).eval()


@pytest.fixture
def plan(jobs: list[Job]) -> fusec.Plan:
    return fusec.compile({"a": linear()}, examples={"*": ROW})


def test_what_does_not_fit_is_dropped_with_its_reason(plan: fusec.Plan, jobs: list[Job]) -> None:
    info = plan.compile_for("cuda:sm_90")
    assert info.name == "cuda:sm_90"
    assert {job.arch for job in jobs} == {90}
    assert all(job.aligned == ("table", "tiles", "count", "status") for job in jobs)
    assert [k.configuration for k in info.kernels] == ["BLOCK_M=64 BLOCK_N=64 BLOCK_K=32, 4 warps"]
    (kernel,) = info.kernels
    assert (kernel.name, kernel.registers, kernel.shared_bytes) == ("gemm", 32, 1024)
    assert kernel.blocks_per_multiprocessor == 16
    reasons = {dict(d.constants)["BLOCK_M"]: d.reason for d in info.dropped}
    assert reasons[16].startswith("takes 300000 bytes of shared memory")
    assert reasons[32] == "does not compile: 32"
    assert reasons[128] == "spills 24 bytes of registers"
    assert (info.stages, info.missing, info.stale) == (1, (), False)


def test_members_of_one_template_share_kernels(plan: fusec.Plan, jobs: list[Job]) -> None:
    for seed in range(1, 9):
        plan.add(str(seed), linear(seed), example=ROW)
    plan.compile_for("cuda:sm_90")
    assert len(jobs) == len(CONFIGS)


def test_other_instructions_than_the_first_are_dropped(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sums would be in another order, so a choice by time would change answers."""

    def compile_jobs(given: Sequence[Job], progress: object = None) -> list[Made | DroppedKernel]:
        results: list[Made | DroppedKernel] = []
        for job, mma in zip(given, ("one", "two", "one", "two"), strict=True):
            result = made(job)
            if isinstance(result, Made):
                kernel = replace(result.kernel, mma=mma, shared_bytes=0, spill_bytes=0)
                result = replace(result, kernel=kernel)
            results.append(result)
        return results

    monkeypatch.setattr(module, "compile_jobs", compile_jobs)
    info = plan.compile_for("cuda:sm_90")
    assert [k.mma for k in info.kernels] == ["one"]
    reasons = {dict(d.constants)["BLOCK_M"]: d.reason for d in info.dropped}
    assert reasons[16] == reasons[128] == "multiplies by two, the preferred one by one"
    assert info.stages == 1


def test_code_is_saved_and_loaded_with_the_plan(plan: fusec.Plan, tmp_path: Path) -> None:
    infos = {name: plan.compile_for(name) for name in ("cuda:sm_80", "cuda:sm_90")}
    assert plan.targets() == infos
    plan.save(tmp_path / "a.fusec")
    loaded = fusec.load(tmp_path / "a.fusec")
    assert loaded.targets() == infos
    loaded.save(tmp_path / "b.fusec")
    assert (tmp_path / "a.fusec").read_bytes() == (tmp_path / "b.fusec").read_bytes()


def test_a_member_of_a_new_template_makes_it_stale(plan: fusec.Plan) -> None:
    plan.compile_for("cuda:sm_90")
    plan.add("twin", linear(1), example=ROW)
    assert not plan.targets()["cuda:sm_90"].stale
    plan.add("other", nn.Sequential(nn.Linear(16, 8), nn.Sigmoid()).eval(), example=ROW)
    info = plan.targets()["cuda:sm_90"]
    assert info.stale
    assert (info.stages, info.missing[0].stages) == (1, 1)
    assert "compile for the card again" in str(info)
    assert not plan.compile_for("cuda:sm_90").stale


def test_stages_without_a_kernel_are_told(plan: fusec.Plan) -> None:
    plan.add("rare", Determinants().eval(), example=ROW)
    info = plan.compile_for("cuda:sm_90")
    assert info.missing
    assert not info.stale
    assert all("kernel for cards" in m.reason or "PyTorch" in m.reason for m in info.missing)


class Determinants(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.det(x.reshape(-1, 4, 4))


def test_all_configurations_dropped_is_a_missing_kernel(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "why_not", lambda kernel, card: "too ugly")
    info = plan.compile_for("cuda:sm_90")
    assert (info.kernels, info.stages) == ((), 0)
    assert info.missing[0].reason == "too ugly"


@pytest.mark.parametrize("target", ["cuda:sm_75", "sm_90", ""])
def test_unknown_targets_are_refused(plan: fusec.Plan, target: str) -> None:
    with pytest.raises(ConfigError, match="give one of cuda:sm_80"):
        plan.compile_for(target)
    assert plan.targets() == {}


@pytest.fixture
def file(plan: fusec.Plan, tmp_path: Path) -> Path:
    plan.compile_for("cuda:sm_90")
    plan.save(tmp_path / "a.fusec")
    return tmp_path / "a.fusec"


def test_explain_shows_what_the_plan_has(file: Path, jobs: list[Job]) -> None:
    jobs.clear()
    ran = CliRunner().invoke(app, ["explain", str(file), "--target", "cuda:sm_90", "--json"])
    assert ran.exit_code == 0, ran.output
    assert jobs == []
    target = json.loads(ran.stdout)["target"]
    (kernel,) = target["kernels"]
    assert kernel["name"] == "gemm"
    assert (kernel["registers"], kernel["spill_bytes"], kernel["shared_bytes"]) == (32, 0, 1024)
    assert {d["constants"]["BLOCK_M"] for d in target["dropped"]} == {16, 32, 128}
    text = CliRunner().invoke(app, ["explain", str(file), "--target", "cuda:sm_90a"]).stdout
    assert "gemm BLOCK_M=64 BLOCK_N=64 BLOCK_K=32, 4 warps: 32 registers, 1024 bytes" in text
    assert "dropped: gemm BLOCK_M=128 BLOCK_N=64 BLOCK_K=32: spills 24 bytes" in text


def test_explain_compiles_what_the_plan_lacks(file: Path, jobs: list[Job]) -> None:
    jobs.clear()
    ran = CliRunner().invoke(app, ["explain", str(file), "--target", "cuda:sm_80", "--json"])
    assert json.loads(ran.stdout)["target"]["name"] == "cuda:sm_80"
    assert {job.arch for job in jobs} == {80}
    plain = CliRunner().invoke(app, ["explain", str(file), "--json"])
    assert "target" not in json.loads(plain.stdout)


def test_compile_stores_code_for_targets(jobs: list[Job], tmp_path: Path) -> None:
    exported = torch.export.export(linear(), (torch.from_numpy(ROW),))
    torch.export.save(exported, tmp_path / "m.pt2")
    out = tmp_path / "a.fusec"
    command = ["compile", str(tmp_path / "m.pt2"), "-o", str(out), "--json"]
    ran = CliRunner().invoke(app, [*command, "--target", "cuda:sm_90", "--target", "cuda:sm_80"])
    assert ran.exit_code == 0, ran.output
    assert [t["name"] for t in json.loads(ran.stdout)["targets"]] == ["cuda:sm_90", "cuda:sm_80"]
    assert set(fusec.load(out).targets()) == {"cuda:sm_90", "cuda:sm_80"}


def test_bad_targets_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["compile", str(tmp_path), "-o", str(tmp_path / "a.fusec"), "--target"]
    ran = CliRunner().invoke(app, [*command, "cuda:sm_75"])
    assert ran.exit_code != 0
    assert "cuda:sm_75" in ran.output

    def nobody() -> str:
        raise UnsupportedError("compiling for a card needs Triton")

    monkeypatch.setattr(module, "compiler_name", nobody)
    ran = CliRunner().invoke(app, [*command, "cuda:sm_80"])
    assert ran.exit_code != 0
    assert "needs Triton" in ran.output
