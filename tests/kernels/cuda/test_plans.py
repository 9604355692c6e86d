"""Real plans on real cards: every stage has a kernel, no configuration of the table spills."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from fusec_testing.half import on_card
from torch import nn

import fusec
from fusec.kernels.cuda.cards import card_of, why_not
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.cuda.special import job_of
from fusec.kernels.triton_table import Special, grouped, specials

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton to compile with")

TARGETS = ("cuda:sm_80", "cuda:sm_90")
BENCH = str(Path(__file__).parents[3] / "bench")


class Small(nn.Module):
    """One stage of each kind that ResNets and encoders have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.head = nn.Sequential(nn.Linear(64, 128), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)) + x)
        result: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return result


def products(plan: fusec.Plan, arch: int) -> list[tuple[Special, ...]]:
    _, lowered, _ = on_card(plan.inside()[0].data())
    spelled = [grouped(stage, lowered.buffers) for stage in lowered.stages]
    return [specials(s, arch) for s in spelled if s and s.kernel in ("gemm", "conv")]


@pytest.mark.parametrize("target", TARGETS)
def test_preferred_half_width_configurations_fit(target: str) -> None:
    x = torch.zeros(1, 64, 8, 8, dtype=torch.float16)
    plan = fusec.compile({"a": Small().eval().half()}, examples={"a": x})
    card = card_of(target)
    found = products(plan, card.arch)
    assert [s[0].kernel.function for s in found] == ["conv", "gemm"]
    for result in compile_jobs([job_of(s[0], card) for s in found]):
        assert isinstance(result, Made), result
        assert why_not(result.kernel, card) is None
        assert result.kernel.mma.startswith("wgmma" if card.arch == 90 else "mma.sync")


def real(name: str, dtype: torch.dtype) -> fusec.Plan:
    sys.path.insert(0, BENCH)
    try:
        from minilm import Sentence
        from resnet import ResNet
    finally:
        sys.path.remove(BENCH)
    if name == "minilm":
        ids = torch.ones(1, 16, dtype=torch.int64)
        model = Sentence(layers=2).eval().to(dtype)
        return fusec.compile({"a": model}, examples={"a": (ids, ids)})
    image = torch.zeros(1, 3, 64, 64, dtype=dtype)
    return fusec.compile({"a": ResNet().eval().to(dtype)}, examples={"a": image})


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["minilm", "resnet"])
def test_real_plans_have_all_kernels_without_spills(
    name: str, dtype: torch.dtype, target: str
) -> None:
    info = real(name, dtype).compile_for(target)
    assert not info.missing
    stages = [kernel for kernel in info.kernels if kernel.name != "persistent"]
    assert all(kernel.spill_bytes == 0 for kernel in stages)
    # The table is chosen such that none has to be tried in vain.
    assert not [d for d in info.dropped if d.name != "persistent"]
