"""Small models of every kind for the super-kernel, lowered as plans have them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

import fusec
from fusec.ir.dtypes import numpy_dtype
from fusec.ir.stage import Lowered
from fusec.ir.template import Template

__all__ = ["ENCODER", "HEAD", "PIXELS", "RECURRENT", "Model", "Recipe"]


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 40, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.layer(self.embed(ids))
        return torch.softmax(x @ x.transpose(1, 2), dim=-1).cumsum(-1), x.mean(dim=1)


class _Pixels(nn.Module):
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


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 9, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.lstm(x)[0][:, -1].tanh() * 2, dim=-1)


class _Head(nn.Module):
    """Rows of each sample are as many as its symbol says."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(37, 53), nn.Linear(53, 37)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x + self.b(torch.relu(self.a(x))), -1)


@functools.cache
def _built(recipe: Recipe, seed: int, dtype: torch.dtype) -> Model:
    return recipe._build(seed, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """How a model is made."""

    make: Callable[[], nn.Module]
    example: np.ndarray
    input: str | None = None
    """Whose axis 1 varies between requests."""

    def build(self, seed: int = 3, dtype: torch.dtype = torch.float32) -> Model:
        """Make a member, planned and packed; the same one for the same arguments."""
        return _built(self, seed, dtype)

    def _build(self, seed: int, dtype: torch.dtype) -> Model:
        torch.manual_seed(seed)
        module = self.make().eval().to(dtype)
        example = self.example
        if example.dtype.kind == "f":
            example = torch.from_numpy(example).to(dtype).numpy()
        symbols = {"a": {self.input: {1: ("length", 0, 99)}}} if self.input else None
        plan = fusec.compile({"a": module}, examples={"a": example}, symbols=symbols)
        registry, stages, _ = plan.inside()
        choice = registry.target("a").choices[0]
        lowered = stages.of(choice.template)
        weights = [
            np.frombuffer(
                choice.weights[lowered.buffers[slot].index].data,
                numpy_dtype(lowered.buffers[slot].dtype),
            )
            for slot in lowered.weights
        ]
        return Model(choice.template, lowered, weights, example)


@dataclasses.dataclass
class Model:
    """A member as the super-kernel sees it."""

    template: Template
    lowered: Lowered
    weights: Sequence[np.ndarray]
    example: np.ndarray

    def inputs(self, seed: int, count: int = 1, length: int | None = None) -> np.ndarray:
        """Draw inputs of so many instances."""
        rng = np.random.default_rng(seed)
        shape = [count, *self.example.shape[1:]]
        if length is not None:
            shape[1] = length
        if self.example.dtype.kind == "i":
            return rng.integers(0, 50, shape).astype(self.example.dtype)
        return rng.standard_normal(shape).astype(self.example.dtype)

    def symbols(self, length: int | None = None) -> dict[str, int]:
        """Give the symbols of a request."""
        return {symbol.name: length or 0 for symbol in self.template.symbols}


ENCODER = Recipe(_Encoder, np.zeros((1, 23), np.int64))
PIXELS = Recipe(_Pixels, np.zeros((1, 3, 11, 9), np.float32))
RECURRENT = Recipe(_Recurrent, np.zeros((1, 3, 5), np.float32))
HEAD = Recipe(_Head, np.zeros((1, 7, 37), np.float32), input="x")
