"""How wide the rows are that a kernel adds up."""

from fusec.ir.extents import Extent

__all__ = ["width"]

_NARROW = 32


def width(n: Extent) -> str:
    """Give "narrow" or "wide": it decides lanes, and with them the order of sums.

    Args:
        n: elements of a row; symbolic ones are wide, whatever the instance, so that its company
            and its own length decide nothing.
    """
    return "narrow" if isinstance(n, int) and n <= _NARROW else "wide"
