"""Packed weights: from plain arrays to panels and back, bit for bit.

    B[K, N] -> [groups, ceil(N / nr), K, nr]: a kernel reads one panel from end to end

Columns past N are zero; they are computed and thrown away.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from fusec.ir.stage import Layout, LayoutKind

__all__ = ["matrices", "pack", "unpack"]

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
    """Give the plain array that was packed.

    Args:
        layout: it was packed by.
        shape: the template's.
        flat: what `pack` gave.
    """
    if layout.kind is LayoutKind.PLAIN:
        return flat.reshape(tuple(shape))
    matrix = matrices(flat, layout.groups, layout.k, layout.n, layout.nr)
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
