"""Checks of weights: what their specs and layouts say about their bytes."""

import math
from collections.abc import Mapping

from fusec.artifact.body import MAX_EXTENT, MAX_RANK, Flaw, check_spec, tuples
from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.plan import Blob, WeightStorage
from fusec.ir.stage import Layout, LayoutKind, packed_elements, plain_layout, stored_dtype
from fusec.ir.template import TensorSpec

__all__ = ["check_weights"]


def check_weights(weights: Mapping[str, Blob]) -> None:
    """Check that each weight has as many bytes as its spec and layout say; not the bytes.

    Raises:
        Flaw: the first thing wrong, with where it is.
    """
    # Few specs serve many weights. By identity: (True,) equals (1,) and is no shape.
    lengths: dict[tuple[int, int], int] = {}
    for key, blob in weights.items():
        kind = (id(blob.spec), id(blob.layout))
        if kind not in lengths:
            lengths[kind] = _bytes_of(blob.spec, blob.layout, f"weight {key}")
        if lengths[kind] != blob.data.nbytes:
            raise Flaw(
                f"weight {key}",
                f"{blob.data.nbytes} bytes, but {blob.spec.dtype} {list(blob.spec.shape)} in its "
                f"layout is {lengths[kind]}",
            )


def _bytes_of(spec: object, layout: object, where: str) -> int:
    # No symbols: a weight's extents are numbers.
    if not isinstance(check_spec(spec, frozenset(), where), TensorSpec):
        raise Flaw(where, "a weight is a tensor")
    assert isinstance(spec, TensorSpec)
    extents = [d for d in spec.shape if isinstance(d, int)]
    if len(extents) != len(spec.shape):
        raise Flaw(where, "a weight's extents are numbers")
    if math.prod(d for d in extents if d) * itemsize_bytes(spec.dtype) > MAX_EXTENT:
        raise Flaw(where, "shape is larger than any memory")
    checked = _check_layout(layout, extents, where)
    _check_stored(checked, spec.dtype, where)
    n_bytes = packed_elements(checked) * itemsize_bytes(stored_dtype(checked, spec.dtype))
    if n_bytes > MAX_EXTENT:
        raise Flaw(where, "layout is larger than any memory")
    return n_bytes


def _check_stored(layout: Layout, dtype: str, where: str) -> None:
    """Check that a weight of another dtype than its own is one that can be unpacked."""
    if layout.stored is None:
        return
    fits = layout.kind is LayoutKind.PANELS and dtype == "float32"
    if layout.stored != WeightStorage.BFLOAT16 or not fits:
        raise Flaw(where, f"{layout.kind} of {dtype} cannot be stored as {layout.stored!r}")


def _check_layout(layout: object, extents: list[int], where: str) -> Layout:
    """Check that a layout has a place for each element of a weight."""
    if not isinstance(layout, Layout) or not isinstance(layout.kind, LayoutKind):
        raise Flaw(where, "it has no layout")
    axes = (*tuples(layout.order, where), *tuples(layout.split, where))
    numbers = (*axes, layout.groups, layout.k, layout.n, layout.nr)
    # A bool is an int to isinstance.
    if any(type(n) is not int or not 0 <= n <= MAX_EXTENT for n in numbers) or layout.nr < 1:
        raise Flaw(where, "a number of its layout is no size")
    split = layout.split or tuple(extents)
    if len(split) > MAX_RANK or sorted(layout.order) != list(range(len(split))):
        raise Flaw(where, f"its layout orders axes {layout.order[:8]} of {len(split)}")
    if math.prod(split) != math.prod(extents):
        raise Flaw(where, f"its layout splits {extents} as {split}")
    if layout.groups * layout.k * layout.n != math.prod(extents):
        raise Flaw(where, f"its layout has no place for each element of {extents}")
    if layout.kind is LayoutKind.PLAIN and layout != plain_layout(extents):
        raise Flaw(where, "its layout is plain and says otherwise")
    return layout
