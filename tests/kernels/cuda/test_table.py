"""Every kernel of the table compiles for real cards, inside their limits, without a card."""

from collections.abc import Iterator
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec.ir.stage import TileOp
from fusec.kernels.cuda.cards import card_of
from fusec.kernels.triton_table import KERNELS, Special, grouped, specials
from fusec.targets import compile_for

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton to compile with")

TARGETS = ("cuda:sm_80", "cuda:sm_90")


class Encoder(nn.Module):
    """Embeddings, attention, norms, products, gathers, and a few odd reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, activation="gelu")
        self.group = nn.GroupNorm(4, 8)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.layer(self.embed(ids))
        scores = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        ranked, order = torch.sort(x.mean(dim=1), dim=-1)
        return scores.cumsum(-1), ranked, order, x.amax(dim=1), self.group(x)


class Pixels(nn.Module):
    """Convolutions and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.back = nn.ConvTranspose2d(8, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.deep(torch.relu(self.first(x))), 2)
        x = nn.functional.interpolate(self.back(x), scale_factor=2.0, mode="bilinear")
        return torch.cat([x, nn.functional.pad(x, (0, 0, 0, 0, 1, 0))], dim=1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.lstm(x)[0]
        return result


def zeros(*shape: int, dtype: type = np.float32) -> Any:
    return np.zeros(shape, dtype)


MODELS: list[tuple[nn.Module, Any]] = [
    (nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), zeros(1, 64)),
    (Encoder(), zeros(1, 8, dtype=np.int64)),
    (Pixels(), zeros(1, 3, 16, 16)),
    (Recurrent(), zeros(1, 5, 16)),
]


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    models = {str(i): model.eval() for i, (model, _) in enumerate(MODELS)}
    return fusec.compile(models, examples={str(i): e for i, (_, e) in enumerate(MODELS)})


def every(plan: fusec.Plan, arch: int) -> Iterator[list[Special]]:
    registry, stages, _ = plan.inside()
    for template in registry.data().templates.values():
        for stage in stages.of(template).stages:
            spelled = grouped(stage, stages.of(template).buffers)
            if spelled is not None:
                yield list(specials(spelled, arch))


@pytest.mark.parametrize("target", TARGETS)
def test_each_kernel_has_a_configuration_that_fits(
    plan: fusec.Plan, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each kernel the smallest, to be quick, and larger ones only if that does not fit."""
    found: dict[str, list[Special]] = {}
    for configurations in every(plan, card_of(target).arch):
        found.setdefault(configurations[0].kernel.function, configurations)
    assert found.keys() == {kernel.function for kernel in KERNELS.values()}
    monkeypatch.setattr("fusec.targets.super_kernels", lambda templates, kept, card: ([], []))
    left = [
        sorted(f, key=lambda s: prod(size for _, size in s.config.blocks)) for f in found.values()
    ]
    registry, stages, _ = plan.inside()
    fitting: set[str] = set()
    while left:
        tried = [[configurations.pop(0)] for configurations in left]
        monkeypatch.setattr(
            "fusec.targets._stages", lambda *plan, tried=tried: [(TileOp.GEMM, t) for t in tried]
        )
        code = compile_for(target, registry.data(), stages)
        assert all("does not compile" not in dropped.reason for dropped in code.dropped)
        for kernel in code.kernels:
            assert kernel.parameters == ("*",) * 4
            assert 0 < kernel.registers <= 255
            assert kernel.spill_bytes == 0
            assert kernel.shared_bytes <= card_of(target).block_shared_bytes
            fitting.add(kernel.name)
        left = [f for f, (t,) in zip(left, tried, strict=True) if t.kernel.function not in fitting]
        assert all(left), f"{code.dropped}: no configuration fits"
    assert fitting == found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_each_stage_has_a_configuration_that_fits(plan: fusec.Plan, target: str) -> None:
    info = plan.compile_for(target)
    assert info.stages == len(list(every(plan, card_of(target).arch)))
    for kernel in info.kernels:
        assert kernel.spill_bytes == 0
        assert kernel.blocks_per_multiprocessor >= 1
    assert all("does not compile" not in dropped.reason for dropped in info.dropped)
