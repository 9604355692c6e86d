"""The models of the merge benches, small enough to be made on the spot with random weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn


class Classifier(nn.Module):
    """Convolutions with batch norm and a linear head, for 32 x 32 colour images."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images [rows, 3, 32, 32]."""
        logits: torch.Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """One post-norm transformer layer, as in BERT."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return activations of the same shape, [rows, tokens, width]; a true mask attends."""
        rows, tokens, width = x.shape
        split = (rows, tokens, self.heads, width // self.heads)
        q, k, v = (layer(x).view(split).transpose(1, 2) for layer in self.qkv)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm1(x + self.out(attended.transpose(1, 2).reshape(rows, tokens, width)))
        y: torch.Tensor = self.norm2(x + self.down(nn.functional.gelu(self.up(x))))
        return y


class Encoder(nn.Module):
    """Token and position embeddings, some layers, mean over the tokens."""

    def __init__(self, layers: int, width: int, heads: int, *, vocabulary: int = 1000) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(1, 32, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(layers))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return sentence vectors [rows, width] of token numbers [rows, 32]."""
        x: torch.Tensor = self.norm(self.tokens(tokens) + self.positions)
        for layer in self.layers:
            x = layer(x)
        return x.mean(dim=1)


def mlp(widths: tuple[int, ...] = (784, 256, 256, 10)) -> nn.Module:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _image() -> torch.Tensor:
    return torch.randn(1, 3, 32, 32)


def _tokens() -> torch.Tensor:
    return torch.randint(0, 1000, (1, 32))


@dataclass(frozen=True, slots=True)
class Fleet:
    """How to make one case: so many members, the model of one, the input of one request."""

    members: int
    model: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]


FLEETS: Mapping[str, Fleet] = {
    "mlp": Fleet(16, mlp, lambda: torch.randn(1, 784)),
    "cnn": Fleet(16, Classifier, _image),
    "encoder-mini": Fleet(16, lambda: Encoder(2, 128, 4), _tokens),
    "encoder-6": Fleet(8, lambda: Encoder(6, 384, 12), _tokens),
}
SMOKE: Mapping[str, Fleet] = {
    "mlp-tiny": Fleet(2, lambda: mlp((8, 4, 3)), lambda: torch.randn(1, 8)),
}
