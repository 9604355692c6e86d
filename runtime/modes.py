"""Torch's modes of the caller's thread that must not reach a model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["no_autocast", "plain_tensors"]


@contextmanager
def no_autocast() -> Iterator[None]:
    """Compute in the model's own dtypes inside, whatever autocast the caller is under."""
    if not torch.is_autocast_enabled("cpu"):
        yield
        return
    with torch.autocast("cpu", enabled=False):
        yield


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Make ordinary tensors inside: those of inference mode can neither be traced nor edited."""
    with no_autocast(), torch.inference_mode(False):
        yield
