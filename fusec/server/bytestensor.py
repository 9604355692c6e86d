"""BYTES tensors on the wire: each element is four bytes of length, little-endian, and its bytes."""

import struct

import numpy as np

from fusec.server.errors import ServerError

__all__ = ["pack_bytes", "unpack_bytes"]

_LENGTH = struct.Struct("<I")


def unpack_bytes(data: memoryview, count: int, what: str) -> np.ndarray:
    """Read elements into a flat array of `bytes`.

    Args:
        data: of the whole tensor.
        count: of elements that its shape has.
        what: the tensor, in words.

    Raises:
        ServerError: a length lies, or there are more or fewer elements.
    """
    # Each element takes at least its length, so a lie about the shape allocates nothing.
    if count * _LENGTH.size > len(data):
        raise ServerError(
            f"{what} has {len(data)} bytes of data, too few for {count} elements of BYTES"
        )
    values = np.empty(count, dtype=object)
    at = 0
    for i in range(count):
        start = at + _LENGTH.size
        if start > len(data):
            raise ServerError(f"{what} ends after {i} of {count} elements of BYTES")
        at = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if at > len(data):
            raise ServerError(f"element {i} of {what} is longer than the data that is left")
        values[i] = bytes(data[start:at])
    if at != len(data):
        raise ServerError(f"{what} has {len(data) - at} bytes behind its {count} elements of BYTES")
    return values


def pack_bytes(array: np.ndarray) -> bytes:
    """Write an array of `bytes`."""
    parts = []
    for value in array.ravel():
        parts += [_LENGTH.pack(len(value)), value]
    return b"".join(parts)
