"""Reading a row's operands by position or name, and bringing views to the shapes of kernels."""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.extents import Extent, of, product
from fusec.ir.stage import View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.builder import Lowering, Refused, reshape_view

__all__ = ["axis_of", "flag", "given", "moved", "need", "row_major", "shape_of", "unit"]


def given(row: Row, position: int, name: str, default: Arg = None) -> Arg:
    """Give an operand by position or, where it is written by name, by that."""
    if len(row.args) > position:
        return row.args[position]
    return dict(row.kwargs).get(name, default)


def need(condition: bool, reason: str) -> None:
    """Refuse the row unless a condition holds.

    Raises:
        Refused: it does not.
    """
    if not condition:
        raise Refused(reason)


def flag(row: Row, position: int, name: str) -> bool:
    """Give an operand that is true or false, false where it is not given."""
    value = given(row, position, name, False)
    need(isinstance(value, bool), f"{name} is {value!r}")
    return bool(value)


def axis_of(low: Lowering, arg: Arg, rank: int) -> int:
    """Give an axis counted from the front.

    Raises:
        Refused: it is no plain integer, or the tensor has no axes.
    """
    (axis,) = low.ints(arg)
    need(-rank <= axis < rank, f"axis {axis} of rank {rank}")
    return axis % rank


def shape_of(low: Lowering, row: Row, number: int = 0) -> tuple[Extent, ...]:
    """Give the shape of a row's result."""
    return tuple(of(d) for d in low.out(row, number).shape)


def moved(view: View, order: Sequence[int]) -> View:
    """See the axes of a view in another order."""
    return replace(
        view,
        shape=tuple(view.shape[i] for i in order),
        strides=tuple(view.strides[i] for i in order),
    )


def unit(view: View) -> bool:
    """Tell whether the elements of the last axis lie one after another."""
    return view.shape[-1] == 1 or view.strides[-1] == 1


def row_major(low: Lowering, view: View, shape: Sequence[Extent]) -> View:
    """View in a shape of as many elements, last axis contiguous; copied where it must be."""
    seen = reshape_view(view, shape)
    if seen is None or not unit(seen):
        seen = reshape_view(low.contiguous(view), shape)
    if seen is None:
        raise Refused(f"{view.shape} cannot be seen as {tuple(shape)}")
    if product(seen.shape) == 1 or seen.shape[-1] == 1:
        seen = replace(seen, strides=(*seen.strides[:-1], 1))
    return seen
