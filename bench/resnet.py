"""A residual network of the size of ResNet-18, with random weights."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)


class Basic(nn.Module):
    """Two convolutions and what goes around them."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        around: list[nn.Module] = []
        if stride != 1 or inside != width:
            around = [nn.Conv2d(inside, width, 1, stride, bias=False), nn.BatchNorm2d(width)]
        self.around = nn.Sequential(*around)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half the pixels each way where the stride is 2."""
        return torch.relu(self.body(x) + self.around(x))


class ResNet(nn.Module):
    """Eight blocks in four widths, 1.8 billion multiplications for an image of 224 x 224."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inside = 64
        for width in WIDTHS:
            stride = 1 if width == inside else 2
            layers += [Basic(inside, width, stride), Basic(width, width, 1)]
            inside = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inside, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images [rows, 3, height, width]."""
        logits: torch.Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return logits
