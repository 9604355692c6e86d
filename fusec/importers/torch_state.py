"""Run a user's module without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["untouched"]


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Put back buffers, attributes and training flags that a run inside changes.

    Parameters are not copied: a forward pass without gradients that writes to them is refused
    elsewhere.
    """
    parts = list(module.modules())
    attributes = [dict(vars(part)) for part in parts]
    buffers = [dict(part._buffers) for part in parts]
    saved: dict[Tensor, tuple[int, Tensor]] = {
        b: (b._version, b.detach().clone())
        for held in buffers
        for b in held.values()
        if b is not None and not b.is_meta
    }
    try:
        with torch.no_grad():
            yield
    finally:
        for part, old, held in zip(parts, attributes, buffers, strict=True):
            vars(part).clear()
            vars(part).update(old)
            part._buffers.clear()
            part._buffers.update(held)
        with torch.no_grad():
            for buffer, (version, value) in saved.items():
                if buffer._version != version:
                    buffer.copy_(value)
