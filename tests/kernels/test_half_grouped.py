"""Half-width models on cards: storage in half, sums in float32, nothing left to PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from fusec_testing.grouped import interpreter
from fusec_testing.half import on_card, run_on_card, within_twice
from torch import nn
from torch.nn import functional as F

import fusec
from fusec.ir.stage import TileOp

interpreter()

HALVES = (torch.float16, torch.bfloat16)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.layer(self.embed(ids))
        scores = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        return scores, x.mean(dim=1), x.amax(dim=1), torch.log_softmax(x, -1)[:, -1]


class Masked(nn.Module):
    """Attention under a float mask, a norm by its root mean square, gates."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8, bias=False)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        q, k, v = (p.unflatten(-1, (2, 4)).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
        mask = (1.0 - keep.to(x.dtype))[:, None, None, :] * torch.finfo(x.dtype).min
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = F.rms_norm(x, (8,), self.scale, 1e-5)
        a, b = self.up(x).chunk(2, -1)
        return self.down(F.silu(a) * b) + x.clamp(-1.0, 1.0)


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.back = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.group = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.norm(self.first(x)))
        x = F.max_pool2d(F.hardswish(self.deep(x)) + x, 2)
        x = self.group(self.back(x))
        y = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        return torch.cat([y, y.flip(1)], dim=1), self.head(x.mean(dim=(2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 9, batch_first=True)
        self.gru = nn.GRU(9, 7, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.gru(self.lstm(x)[0])[0]
        return result


class Odd(nn.Module):
    """What has no epilogue, or more than one result."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        best = x.max(dim=-1)
        both = torch.addmm(x[0], x[0], y[0], beta=0.5, alpha=2.0)
        spread = torch.logsumexp(x, -1), x.std(-1), torch.linalg.vector_norm(y, dim=-1)
        return best[0], best[1], both, *spread, torch.cumsum(x, -1), x.argmax(-1), x > y


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 17), nn.Softplus())


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...], set[TileOp]]] = {
    "mlp": (mlp, (normal(1, 40),), {TileOp.GEMM}),
    "encoder": (
        Encoder,
        (torch.arange(6).reshape(1, 6) * 4,),
        {TileOp.GEMM, TileOp.ATTENTION, TileOp.GATHER, TileOp.NORM, TileOp.SOFTMAX},
    ),
    "masked": (Masked, (normal(1, 5, 8), torch.tensor([[1, 1, 1, 0, 0]])), {TileOp.ATTENTION}),
    "pixels": (
        Pixels,
        (normal(1, 3, 11, 9),),
        {TileOp.CONV, TileOp.POOL, TileOp.NORM, TileOp.COPY, TileOp.REDUCE},
    ),
    "recurrent": (Recurrent, (normal(1, 4, 5),), {TileOp.RNN, TileOp.GEMM}),
    "odd": (Odd, (normal(1, 6, 6), normal(1, 6, 6)), {TileOp.REDUCE, TileOp.MATMUL}),
}


def cast(given: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return given.to(dtype) if given.is_floating_point() else given


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_models_are_as_near_to_float64_as_in_torch(name: str, dtype: torch.dtype) -> None:
    make, given, expected = MODELS[name]
    torch.manual_seed(3)
    model = make().eval().to(dtype)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    inputs = tuple(cast(x, dtype) for x in given)
    plan = fusec.compile({"a": model}, examples={"a": inputs})
    data = plan.inside()[0].data()
    _, lowered, _ = on_card(data)
    assert expected <= {stage.op for stage in lowered.stages}
    arena = {buffer.dtype for buffer in lowered.buffers}
    assert str(dtype).removeprefix("torch.") in arena
    assert "float64" not in arena
    assert "float32" not in arena - {lowered.buffers[s].dtype for s in lowered.weights}
    ours = run_on_card(data, inputs)
    with torch.no_grad():
        plain = model(*inputs)
        truth = copy.deepcopy(model).double()(*(cast(x, torch.float64) for x in inputs))
    plain, truth = ((x,) if isinstance(x, torch.Tensor) else x for x in (plain, truth))
    for got, torchs, exact in zip(ours, plain, truth, strict=True):
        within_twice(got, torchs, exact)
