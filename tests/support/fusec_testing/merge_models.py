"""Small models of the kinds that people merge."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def mlp(out: int = 4) -> nn.Module:
    """A classifier on vectors of 8."""
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, out))


def cnn() -> nn.Module:
    """A classifier on images [1, 3, 12, 12], its batch norm not fresh."""
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=2, padding=1), nn.Hardswish(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


class Encoder(nn.Module):
    """Token classifier: embedding, transformer encoder, head; tokens [1, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to logits."""
        return self.head(self.body(self.embed(x)))  # type: ignore[no-any-return]


class Tagger(nn.Module):
    """Recurrent tagger over tokens [1, T]."""

    def __init__(self, kind: Any = nn.LSTM) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.body = kind(8, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to probabilities."""
        return self.head(self.body(self.embed(x))[0]).softmax(-1)  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Language-model head whose weight is the embedding's, or is not."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to logits."""
        return self.head(self.embed(x).tanh())  # type: ignore[no-any-return]


def tokens(*shape: int) -> Tensor:
    """Give random tokens."""
    return torch.randint(0, 20, shape)
