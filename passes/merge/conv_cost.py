"""Which form a merged convolution takes: grouped, one call per member, or a matrix product.

Passes read no clock, so the cost is a model. Its coefficients are a fit to 78 shapes (2 to 32
members, 1 to 512 channels, kernels 1 to 7, strides 1 and 2, depthwise), float32, one thread of an
AVX-512 CPU, each form timed interleaved with the others. Over these shapes the model's choice costs
1.02 times the best form's time on average and 1.7 times at worst; always grouped costs 1.10 and
2.4 times.
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
    """What the cost of a convolution depends on; all but `members` are of one member."""

    members: int
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    taps: int
    """Product of the kernel's extents."""
    in_positions: int
    """Product of the input's extents."""
    positions: int
    """Product of the output's extents."""
    pointwise: bool
    """1x1, stride 1, no padding: patches are the input itself."""
    matmul: bool
    """Whether the product form exists: one row, one group, not transposed, at most two axes."""

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.weights * self.batch * self.positions

    @property
    def weights(self) -> int:
        """Elements of the weight."""
        return self.out_channels * (self.in_channels // self.groups) * self.taps

    @property
    def moved(self) -> int:
        """Elements read and written."""
        inputs = self.in_channels * self.in_positions
        return self.batch * (inputs + self.out_channels * self.positions)

    @property
    def columns(self) -> int:
        """Elements of the patches."""
        copied = 0 if self.pointwise else self.taps
        return self.batch * self.in_channels * copied * self.positions

    @property
    def thin(self) -> bool:
        """Few input channels: the library has a kernel for these, but not in groups."""
        return self.groups == 1 and self.in_channels <= 4

    @property
    def light(self) -> bool:
        """Small enough for torch to take its plain kernel, whose calls are cheap."""
        few = self.in_channels * self.in_positions <= 20480
        return self.groups == 1 and self.batch == 1 and self.taps <= 9 and few


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvCost:
    """Coefficients of the cost model, in nanoseconds: per call, member, multiply-add, element."""

    forced: ConvForm | None = None
    """Always this form where it exists."""
    grouped_call: float = 42_000
    grouped_member: float = 1_200
    grouped_mac: float = 0.0182
    grouped_thin_mac: float = 0.0507
    grouped_weight: float = 0.279
    grouped_moved: float = 0.186
    grouped_huge: float = 2.0
    """Factor on the grouped form where one member's weight exceeds `huge_elements`."""
    huge_elements: int = 1_000_000
    member_light_call: float = 13_100
    member_call: float = 42_100
    member_mac: float = 0.0248
    member_weight: float = 0.181
    matmul_call: float = 14_800
    matmul_member: float = 650
    matmul_mac: float = 0.022
    matmul_weight: float = 0.232
    matmul_column: float = 1.55

    def estimates(self, shape: ConvShape) -> dict[ConvForm, float]:
        """Give the estimated time of each form that exists, in nanoseconds."""
        n = shape.members
        mac = self.grouped_thin_mac if shape.thin else self.grouped_mac
        each = mac * shape.macs + self.grouped_weight * shape.weights
        each += self.grouped_moved * shape.moved + self.grouped_member
        huge = self.grouped_huge if shape.weights > self.huge_elements else 1.0
        call = self.member_light_call if shape.light else self.member_call
        alone = call + self.member_mac * shape.macs + self.member_weight * shape.weights
        found = {
            ConvForm.GROUPED: huge * (self.grouped_call + n * each),
            ConvForm.PER_MEMBER: n * alone,
        }
        if shape.matmul:
            part = self.matmul_mac * shape.macs + self.matmul_weight * shape.weights
            part += self.matmul_column * shape.columns + self.matmul_member
            found[ConvForm.MATMUL] = self.matmul_call + n * part
        return found

    def choose(self, shape: ConvShape) -> ConvForm:
        """Give the cheapest form that exists."""
        found = self.estimates(shape)
        if self.forced in found:
            return self.forced
        return min(found, key=lambda form: found[form])
