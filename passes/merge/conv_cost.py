"""Which form a merged convolution takes: grouped, one call per member, or a matrix product.

Passes read no clock, so the cost is a model with coefficients that were fitted to measurements.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ConvCost", "ConvForm", "ConvShape"]


class ConvForm(StrEnum):
    """Ways to run N convolutions of different weights on different inputs."""

    GROUPED = "grouped"
    """One convolution with N times the groups over N times the channels."""

    PER_MEMBER = "per_member"
    """N convolutions."""

    MATMUL = "matmul"
    """Patches as columns and one batched matrix product; no patches for 1x1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvShape:
    """What the cost of a convolution depends on; extents that are symbols count as given."""

    members: int
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    taps: int
    positions: int
    """Product of the output extents."""
    pointwise: bool
    """1x1, stride 1, no padding: patches are the input itself."""
    matmul: bool
    """Whether the product form exists: at most two axes, one group, not transposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvCost:
    """Coefficients of the cost model, in nanoseconds."""

    forced: ConvForm | None = None
    """Always this form where it exists."""

    def choose(self, shape: ConvShape) -> ConvForm:
        """Give the cheapest form that exists."""
        if self.forced is not None and (self.forced is not ConvForm.MATMUL or shape.matmul):
            return self.forced
        return ConvForm.GROUPED
