"""Models of the benches on a card, written out so that torch alone makes them.

Every member of a fleet has weights of its own. `small` sizes are for a walk without a card.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from minilm import Sentence
from torch import nn

__all__ = ["FLEETS", "Fleet", "mixture", "pair"]

Inputs = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Models of one architecture, with inputs of one row each."""

    models: Mapping[str, nn.Module]
    inputs: Mapping[str, Inputs]

    @property
    def weight_bytes(self) -> int:
        """Of all members."""
        return sum(
            t.numel() * t.element_size()
            for m in self.models.values()
            for t in m.state_dict().values()
        )


class Bottleneck(nn.Module):
    """Three convolutions and what goes around them."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
        )
        around: list[nn.Module] = []
        if stride != 1 or inside != 4 * width:
            around = [nn.Conv2d(inside, 4 * width, 1, stride, bias=False)]
            around.append(nn.BatchNorm2d(4 * width))
        self.around = nn.Sequential(*around)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half the pixels each way where the stride is 2."""
        return torch.relu(self.body(x) + self.around(x))


class ResNet50(nn.Module):
    """The network of that name; fewer and narrower blocks if small."""

    def __init__(self, small: bool = False) -> None:
        super().__init__()
        blocks, base = ((1, 1), 8) if small else ((3, 4, 6, 3), 64)
        layers: list[nn.Module] = [
            nn.Conv2d(3, base, 7, 2, 3, bias=False),
            nn.BatchNorm2d(base),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inside = base
        for level, count in enumerate(blocks):
            width = base << level
            for n in range(count):
                layers.append(Bottleneck(inside, width, 2 if n == 0 and level else 1))
                inside = 4 * width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inside, 16 if small else 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images [rows, 3, height, width]."""
        logits: torch.Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return logits


class Head(nn.Module):
    """A wake-word head: 16 embeddings of 96 to one score."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(1536, 32), nn.LayerNorm(32), nn.ReLU(),
            nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [rows, 1] of [rows, 16, 96]."""
        score: torch.Tensor = self.layers(x)
        return score


def bert(small: bool) -> Fleet:
    """Give 32 of BERT-base's size, 128 tokens, half width."""
    size = {"layers": 12, "width": 768, "heads": 12, "vocabulary": 30522}
    if small:
        size = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 100}
    n, length, words = (3, 8, 100) if small else (32, 128, 30522)
    rng = np.random.default_rng(1)

    def inputs() -> Inputs:
        return rng.integers(0, words, (1, length)), np.ones((1, length), np.int64)

    return _fleet("bert", lambda: Sentence(**size).half(), n, inputs)


def resnet(small: bool) -> Fleet:
    """Give 32 ResNet-50, one image each, float32."""
    rng = np.random.default_rng(2)
    side = 32 if small else 224
    return _fleet(
        "resnet",
        lambda: ResNet50(small),
        2 if small else 32,
        lambda: (rng.standard_normal((1, 3, side, side), dtype=np.float32),),
    )


def wakewords(small: bool) -> Fleet:
    """Give 122 heads over the same frames."""
    frames = np.random.default_rng(3).standard_normal((1, 16, 96), dtype=np.float32)
    return _fleet("wake", Head, 4 if small else 122, lambda: (frames,))


def mlps(small: bool) -> Fleet:
    """Give small networks, as taggers are."""
    rng = np.random.default_rng(4)
    return _fleet(
        "mlp",
        lambda: nn.Sequential(
            nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 10)
        ),
        2 if small else 8,
        lambda: (rng.standard_normal((1, 64), dtype=np.float32),),
    )


FLEETS: Mapping[str, Callable[[bool], Fleet]] = {
    "bert": bert,
    "resnet": resnet,
    "wakewords": wakewords,
}


def mixture(small: bool) -> list[Fleet]:
    """Give four architectures with some tenants each."""
    tenants = 2 if small else 8
    made = [mlps(small), wakewords(small), bert(small), resnet(small)]
    return [
        Fleet(
            dict(list(f.models.items())[:tenants]),
            dict(list(f.inputs.items())[:tenants]),
        )
        for f in made
    ]


def pair(rows: int, small: bool) -> tuple[nn.Module, Inputs]:
    """Give two products one after the other, as cuSync's: GPT-3's MLP on one of eight cards."""
    width, inner = (64, 96) if small else (3072, 1536)
    model = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)).half()
    x = np.random.default_rng(5).standard_normal((rows, width), dtype=np.float32)
    return model.eval(), (x.astype(np.float16),)


def _fleet(name: str, make: Callable[[], nn.Module], n: int, inputs: Callable[[], Inputs]) -> Fleet:
    """Make members that differ in every weight; the first is made, the others are varied copies.

    On a card where there is one: random numbers for billions of weights take minutes elsewhere.
    """
    torch.manual_seed(0)
    first = make().eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = {}
    for i in range(n):
        models[f"{name}{i}"] = model = copy.deepcopy(first)
        with torch.no_grad():
            for weight in model.parameters():
                there = weight.to(device)
                varied = there + torch.randn_like(there) * there.abs().mean() * 0.1
                weight.copy_(varied)
    return Fleet(models, {f"{name}{i}": inputs() for i in range(n)})
