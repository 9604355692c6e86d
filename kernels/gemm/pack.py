"""Packed weights: from plain arrays to panels and back, bit for bit.

    B[K, N] -> [groups, ceil(N / nr), K, nr]: a kernel reads one panel from end to end

Columns past N are zero; they are computed and thrown away. Float32 panels may be stored as
bfloat16: the upper half of a float's bits, rounded to nearest even.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from fusec.ir.stage import Layout, LayoutKind

__all__ = ["from_bfloat16", "matrices", "pack", "to_bfloat16", "unpack"]

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
Flat: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.generic]]"


def pack(layout: Layout, array: Array) -> Flat:
    """Lay a plain array out as a layout says.

    Args:
        layout: of the weight.
        array: in the template's shape, any strides, any dtype.

    Cost: one strided copy, about 1 ns per element; a plain layout of a dense array costs nothing
        and is a view of it.
    """
    if layout.kind is LayoutKind.PLAIN:
        return np.ascontiguousarray(array).reshape(-1)
    if layout.stored == "bfloat16":
        array = to_bfloat16(array)
    groups, k, n, nr = layout.groups, layout.k, layout.n, layout.nr
    split = array.reshape(layout.split) if layout.split else array
    matrix = split.transpose(layout.order).reshape(groups, k, n)
    panels = np.empty((groups, -(-n // nr), k, nr), array.dtype)
    whole = n // nr
    full = matrix[:, :, : whole * nr].reshape(groups, k, whole, nr)
    panels[:, :whole] = full.transpose(0, 2, 1, 3)
    if whole * nr < n:
        panels[:, whole, :, : n - whole * nr] = matrix[:, :, whole * nr :]
        panels[:, whole, :, n - whole * nr :] = 0
    return panels.reshape(-1)


def unpack(layout: Layout, shape: Sequence[int], flat: Flat) -> Array:
    """Give the plain array that was packed; what was rounded stays so.

    Args:
        layout: it was packed by.
        shape: the template's.
        flat: what `pack` gave.
    """
    if layout.kind is LayoutKind.PLAIN:
        return flat.reshape(tuple(shape))
    wide = from_bfloat16(flat).reshape(-1) if layout.stored == "bfloat16" else flat
    matrix = matrices(wide, layout.groups, layout.k, layout.n, layout.nr)
    split = layout.split or shape
    turned = matrix.reshape([split[axis] for axis in layout.order])
    back = [layout.order.index(axis) for axis in range(len(split))]
    return np.ascontiguousarray(turned.transpose(back)).reshape(tuple(shape))


def matrices(flat: Flat, groups: int, k: int, n: int, nr: int) -> Array:
    """Read panels as matrices [groups, K, N].

    Cost: a copy.
    """
    panels = -(-n // nr)
    split = flat[: groups * panels * k * nr].reshape(groups, panels, k, nr)
    return split.transpose(0, 2, 1, 3).reshape(groups, k, panels * nr)[:, :, :n]


def to_bfloat16(array: Array) -> Array:
    """Round float32 to bfloat16, to nearest even, as uint16; NaN stays NaN.

    Cost: about 2 ns per element.
    """
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    # Half a unit less one, plus one for odd neighbours: ties go to the even one.
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))) >> 16
    nan = (bits & np.uint32(0x7FFF_FFFF)) > np.uint32(0x7F80_0000)
    # Rounding could carry a NaN over to infinity or zero; the quiet bit keeps it one.
    rounded[nan] = (bits[nan] >> 16) | np.uint32(0x40)
    return rounded.astype(np.uint16).reshape(array.shape)


def from_bfloat16(array: Array) -> Array:
    """Widen bfloat16 as uint16 to float32, exactly."""
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
