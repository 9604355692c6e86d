"""What benches pass around: members, what each is asked, and the ways fusec gets them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

Models = Mapping[str, nn.Module]
Given = torch.Tensor | tuple[torch.Tensor, ...]
Inputs = Mapping[str, Given]
Sources = Mapping[str, nn.Module | Path]


def arguments(given: Given) -> tuple[torch.Tensor, ...]:
    """Return a model's inputs as positional arguments."""
    return given if isinstance(given, tuple) else (given,)
