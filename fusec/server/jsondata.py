"""Tensor data in JSON: flat or nested lists to arrays, with no conversion that loses anything."""

from itertools import chain
from typing import Any

import numpy as np

from fusec.server.datatypes import BYTES, Datatype
from fusec.server.errors import ServerError

__all__ = ["read_data"]

_FLOATS = ({float}, {int}, {float, int})


def read_data(
    data: Any, datatype: Datatype, shape: tuple[int, ...], count: int, what: str
) -> np.ndarray:
    """Make an array of a JSON list.

    Args:
        data: a list of numbers, booleans or strings in row-major order, or nested as the shape.
        datatype: that it should have.
        shape: that it should have.
        count: elements of the shape.
        what: the tensor, in words.

    Raises:
        ServerError: another number of elements, another kind, a number that does not fit.
    """
    if not datatype.json:
        raise ServerError(f"{what}: {datatype.name} can only be sent as binary data")
    if not isinstance(data, list):
        raise ServerError(f"Unable to parse 'data' of {what}: it must be a list")
    flat = _flat(data, shape, what) if data and type(data[0]) is list else data
    if len(flat) != count:
        raise ServerError(
            f"Unable to parse 'data' of {what}: Shape does not match true shape of 'data' field: "
            f"{len(flat)} elements for shape {list(shape)}"
        )
    try:
        return _array(flat, datatype, what).reshape(shape)
    except (OverflowError, FloatingPointError) as e:
        raise ServerError(f"{what} has a number that does not fit {datatype.name}") from e


def _flat(data: list[Any], shape: tuple[int, ...], what: str) -> list[Any]:
    """Unfold lists that are nested exactly as the shape is."""
    items = [data]
    for depth, extent in enumerate(shape):
        if depth:
            items = list(chain.from_iterable(items))
        if any(type(item) is not list or len(item) != extent for item in items):
            raise ServerError(
                f"Unable to parse 'data' of {what}: it is neither flat nor nested as shape "
                f"{list(shape)}"
            )
    return list(chain.from_iterable(items))


def _array(flat: list[Any], datatype: Datatype, what: str) -> np.ndarray:
    kinds = set(map(type, flat))
    kind = datatype.numpy.kind
    if not flat:
        return np.empty(0, dtype=datatype.numpy)
    if datatype is BYTES:
        _check(kinds == {str}, what, "strings")
        return _strings(flat, what)
    if kind == "b":
        _check(kinds == {bool}, what, "true or false")
        return np.array(flat, dtype=bool)
    if kind == "f":
        _check(kinds in _FLOATS, what, "numbers")
        return _numbers(flat, datatype)
    _check(kinds == {int}, what, "whole numbers")
    info = np.iinfo(str(datatype.numpy))
    if min(flat) < info.min or max(flat) > info.max:
        raise OverflowError
    return np.array(flat, dtype=datatype.numpy)


def _numbers(flat: list[Any], datatype: Datatype) -> np.ndarray:
    wide = np.array(flat, dtype=np.float64)
    # Some parsers read 1e999 as infinity.
    if not np.isfinite(wide).all():
        raise OverflowError
    with np.errstate(over="raise"):
        return wide.astype(datatype.numpy, copy=False)


def _strings(flat: list[str], what: str) -> np.ndarray:
    values = np.empty(len(flat), dtype=object)
    try:
        values[:] = [text.encode() for text in flat]
    except UnicodeEncodeError as e:
        raise ServerError(f"{what} holds a string that is no Unicode text") from e
    return values


def _check(fits: bool, what: str, wanted: str) -> None:
    if not fits:
        raise ServerError(f"Unable to parse 'data' of {what}: it must hold {wanted} only")
