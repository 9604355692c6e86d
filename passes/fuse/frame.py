"""Views in the frame of another: how a consumer's axes lie on those of a producer's write.

frame  [56, 56, 64] strides (3584, 64, 1)       what a producer writes
view   [64, 56, 56] strides (1, 3584, 64)       the same memory as a consumer sees it
order  (1, 2, 0)                                axes of the view, as the frame runs
"""

from collections.abc import Sequence

from fusec.ir.extents import Extent, exactly
from fusec.ir.stage import View
from fusec.passes.lower.builder import reshape_view

__all__ = ["axis_order", "express", "same_cells", "same_steps"]


def axis_order(view: View, frame: View) -> tuple[int, ...] | None:
    """Order a view's axes as the frame's run, if both see the same elements once each.

    Axes may be split and joined in between. Axes of extent 1 are left out.
    """
    if view.slot != frame.slot or view.dtype != frame.dtype or view.offset != frame.offset:
        return None
    free = {
        i: (extent, stride)
        for i, (extent, stride) in enumerate(zip(view.shape, view.strides, strict=True))
        if extent != 1
    }
    order: list[int] = []
    rest: tuple[Extent, Extent] | None = None  # of the view's axis at hand: extent, stride
    for extent, stride in zip(reversed(frame.shape), reversed(frame.strides), strict=True):
        while extent != 1:
            if rest is None:
                axis = next((i for i, (_, s) in free.items() if s == stride), None)
                if axis is None:
                    return None
                order.append(axis)
                rest = free.pop(axis)
            if rest[1] != stride:
                return None
            if rest[0] == extent:
                rest, extent = None, 1
            elif (more := exactly(extent, rest[0])) is not None:
                extent, stride, rest = more, stride * rest[0], None
            elif (more := exactly(rest[0], extent)) is not None:
                rest, extent = (more, stride * extent), 1
            else:
                return None
    if rest is not None or free:
        return None
    return tuple(reversed(order))


def express(view: View, order: Sequence[int], shape: Sequence[Extent]) -> View | None:
    """See a view of the consumer's iteration in the frame's shape; None if strides cannot."""
    turned = View(
        view.slot,
        view.dtype,
        tuple(view.shape[i] for i in order),
        tuple(view.strides[i] for i in order),
        view.offset,
    )
    return reshape_view(turned, shape)


def same_steps(a: View, b: View) -> bool:
    """Tell whether two views of one shape step alike; axes of extent 1 do not step."""
    return a.shape == b.shape and all(
        extent == 1 or s == t for extent, s, t in zip(a.shape, a.strides, b.strides, strict=True)
    )


def same_cells(a: View, b: View) -> bool:
    """Tell whether two views see the same memory in the same order."""
    return (a.slot, a.dtype, a.offset) == (b.slot, b.dtype, b.offset) and same_steps(a, b)
