"""uint64 arithmetic on int64 bit patterns, since torch computes with the latter only.

Sums, differences and products have the same bits either way; order and quotients do not.
"""

from collections.abc import Callable

import torch

Tensor = torch.Tensor

_SIGN = -(2**63)


def ordered(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a comparison, or a maximum or minimum, that takes the bits as unsigned."""

    def run(a: Tensor, b: Tensor) -> Tensor:
        result = function(a ^ _SIGN, b ^ _SIGN)
        return result if result.dtype == torch.bool else result ^ _SIGN

    return run


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide unsigned numbers, dropping the remainder."""
    at_least = ordered(torch.ge)
    # Half of a fits into a signed number; the last bit of the quotient follows from the rest.
    half = torch.div(a, 2, rounding_mode="floor") & ~_SIGN
    small = torch.where(b > 0, b, 1)
    most = torch.div(half, small, rounding_mode="trunc") * 2
    quotient = most + at_least(a - most * small, small).to(torch.int64)
    return torch.where(b < 0, at_least(a, b).to(torch.int64), quotient)


def remainder(a: Tensor, b: Tensor) -> Tensor:
    """Return what an unsigned division leaves."""
    return a - divide(a, b) * b
