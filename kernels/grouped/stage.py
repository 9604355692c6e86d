"""What a stage is to its grouped kernel: constants to compile for, words of the table, tiles."""

from collections.abc import Sequence
from math import gcd
from typing import TypeAlias

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Buffer, BufferKind, View

__all__ = ["Address", "Constants", "Grouped", "Word", "address", "alignment", "whole"]

_MOST_ALIGNED = 16
"""Bytes that one load of a thread takes at most; addresses of buffers are multiples of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a buffer of the instance."""

    slot: int
    offset_bytes: Extent


Constants: TypeAlias = "tuple[tuple[str, int | str], ...]"
"""What a kernel is compiled for, by name."""

Word: TypeAlias = "Address | Extent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """A stage for its grouped kernel."""

    kernel: str
    """Name in the table of kernels."""
    constants: Constants
    """What the stage fixes, `WORDS` first."""
    words: tuple[Word, ...]
    """A row of the table, bound to an instance's buffers and symbols."""
    rows: Extent
    """What tiles cut in blocks of the configuration's `BLOCK_M`."""
    columns: Extent
    """What tiles cut in blocks of `BLOCK_N`, if the configuration has one; else each is a tile."""
    layers: Extent = 1
    """How often all those tiles are there: the fourth number of a tile."""
    joins: int = -1
    """Number of the word that counts rows, where rows of further instances with equal weights
    follow without a gap: instances are then one row of the table. -1 where they do not."""


def address(view: View | None) -> Word:
    """Give where a view begins; 0 for none."""
    if view is None:
        return 0
    return Address(view.slot, view.offset * itemsize_bytes(view.dtype))


def alignment(view: View, buffers: Sequence[Buffer]) -> int:
    """Give what a row's address is known to be a multiple of, in bytes, 16 at most.

    Args:
        view: its last axis is contiguous; all others are rows.
        buffers: of the lowered template; those that move have one instance after another.
    """
    size = itemsize_bytes(view.dtype)
    common = gcd(_MOST_ALIGNED, whole(view.offset) * size)
    for stride in view.strides[:-1]:
        common = gcd(common, whole(stride) * size)
    if buffers[view.slot].kind is not BufferKind.WEIGHT:
        common = gcd(common, whole(buffers[view.slot].elements) * size)
    return common


def whole(extent: Extent) -> int:
    """Give what divides an extent, whatever the symbols are."""
    if isinstance(extent, int):
        return extent
    return gcd(*(coefficient for _, coefficient in extent.terms))
