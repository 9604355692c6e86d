"""Whether two ways to compute a model's answers agree but for rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["difference", "distance", "same_answers"]


def same_answers(got: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    """Tell whether two ways to compute a model's answers agree but for rounding."""
    if len(got) != len(want):
        return False
    return difference(got, want, [0.0] * len(want)) is None


def difference(got: Sequence[Tensor], want: Sequence[Tensor], noise: Sequence[float]) -> str | None:
    """Say which output differs by more than rounding, if one does.

    Args:
        got: answers.
        want: answers by another way, as many.
        noise: how far each output is known to move by itself.
    """
    for i, (a, b, own) in enumerate(zip(got, want, noise, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} has shape {tuple(a.shape)}, single rows give {tuple(b.shape)}"
        if a.is_floating_point() and a.dtype.itemsize == 1:
            # Too coarse for a tolerance, and torch computes nothing on them.
            a, b = a.view(torch.uint8), b.view(torch.uint8)
        if not a.is_floating_point() and not a.is_complex():
            if not torch.equal(a, b):
                return f"output {i} differs"
            continue
        finite = b[b.isfinite()].abs()
        scale = float(finite.max()) if finite.numel() else 0.0
        # A kernel may round otherwise at another row count, relative to what it adds up inside.
        bound = min(own, 1e-2 * scale) * 16 + 1e3 * torch.finfo(a.dtype).eps * max(scale, 1e-6)
        if not torch.allclose(a, b, rtol=0.0, atol=bound, equal_nan=True):
            return f"output {i} differs by {distance(a, b):.3g} from single rows"
    return None


def distance(a: Tensor, b: Tensor) -> float:
    """Give the largest finite difference of two tensors; 0 where there is none."""
    if a.shape != b.shape or a.numel() == 0 or not a.is_floating_point():
        return 0.0
    difference = (a.double() - b.double()).abs()
    finite = difference[difference.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0
