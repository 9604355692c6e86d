"""Stages as models really have them, each through its grouped kernel and its reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fusec_testing.grouped import check_grouped, interpreter
from torch import nn

import fusec
from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.stage import Buffer, BufferKind, TileOp
from fusec.kernels.triton_table import grouped

interpreter()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.layer(self.embed(ids))
        scores = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        return scores.cumsum(-1), x.mean(dim=1), x.amax(dim=1), x.argmax(dim=2)


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.back = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.deep(torch.relu(self.first(x))), 2)
        x = nn.functional.interpolate(self.norm(self.back(x)), scale_factor=2.0, mode="bilinear")
        return torch.cat([x, nn.functional.pad(x, (0, 0, 0, 0, 1, 0)).flip(1)], dim=1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 9, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(18, 7, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.gru(self.lstm(x)[0])[0]
        return torch.log_softmax(result[:, -1].tanh() * 2, dim=-1)


MODELS: list[tuple[Callable[[], nn.Module], np.ndarray, set[TileOp]]] = [
    (Encoder, np.zeros((1, 5), np.int64), {TileOp.GEMM, TileOp.ATTENTION, TileOp.GATHER}),
    (Pixels, np.zeros((1, 3, 11, 9), np.float32), {TileOp.CONV, TileOp.POOL, TileOp.NORM}),
    (Recurrent, np.zeros((1, 3, 5), np.float32), {TileOp.RNN, TileOp.GEMM}),
]


def memory(rng: np.random.Generator, buffer: Buffer, symbols: dict[str, int]) -> np.ndarray:
    n = value(buffer.elements, symbols)
    kind = numpy_dtype(buffer.dtype)
    if kind.kind == "f":
        return rng.standard_normal(n).astype(kind)
    return rng.integers(0, 2 if kind.kind == "b" else 5, n).astype(kind)


@pytest.mark.parametrize(("model", "example", "expected"), MODELS)
def test_every_stage(
    model: Callable[[], nn.Module], example: np.ndarray, expected: set[TileOp]
) -> None:
    plan = fusec.compile({"a": model().eval()}, examples={"a": example})
    registry, stages, _ = plan.inside()
    rng = np.random.default_rng(5)
    seen = set()
    for template in registry.data().templates.values():
        lowered = stages.of(template)
        symbols = {symbol.name: 4 for symbol in template.symbols}
        for stage in lowered.stages:
            if grouped(stage, lowered.buffers) is None:
                assert stage.op is TileOp.EXTERN
                continue
            seen.add(stage.op)
            flats = [memory(rng, buffer, symbols) for buffer in lowered.buffers]
            got, wanted = check_grouped(stage, lowered.buffers, flats, symbols=symbols)
            for ours, plain, buffer in zip(got, wanted, lowered.buffers, strict=True):
                if buffer.kind is BufferKind.WEIGHT or ours.dtype.kind != "f":
                    np.testing.assert_array_equal(ours, plain)
                else:
                    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)
    assert expected <= seen
