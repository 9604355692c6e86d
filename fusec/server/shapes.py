"""Shapes that clients claim: nothing is allocated for one before its bytes are there."""

import math
from collections.abc import Sequence

from fusec.server.errors import ServerError
from fusec.server.limits import Limits

__all__ = ["read_shape"]

_MOST = (1 << 63) - 1


def read_shape(given: object, what: str, limits: Limits) -> tuple[tuple[int, ...], int]:
    """Read a shape.

    Args:
        given: as it came.
        what: the tensor, in words.
        limits: of ranks.

    Returns:
        The shape, and how many elements it has.

    Raises:
        ServerError: no list of non-negative integers, or more than memory could ever hold.
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ServerError(f"shape of {what} must be a list of integers, got {_short(given)}")
    if len(given) > limits.rank:
        raise ServerError(f"shape of {what} has {len(given)} extents, at most {limits.rank} can be")
    for extent in given:
        if type(extent) is not int or extent < 0:
            raise ServerError(
                f"shape of {what} must be non-negative integers, got {_short(extent)} in it"
            )
    shape = tuple(given)
    count = math.prod(shape)
    # An extent of 0 makes the product small whatever the others are.
    if max(shape, default=0) > _MOST or count > _MOST:
        raise ServerError(f"shape of {what} has more elements than can be")
    return shape, count


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
