"""Many NumPy arrays checked and their addresses collected in one native call.

122 arrays take about 10 us; asking each for its dtype, shape, flags and address takes 100.
"""

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np

from fusec.kernels.library import address

__all__ = ["ArrayReader", "readable"]

_SPEC_WORDS, _DTYPE_WORD = 12, 24
_READ = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 5)
"""With the interpreter's lock held: it reads Python objects."""


class ArrayReader:
    """Checks lists of arrays against one list of wanted dtypes and shapes."""

    def __init__(self, dtypes: Sequence[np.dtype[np.generic]], shapes: Sequence[tuple[int, ...]]):
        """Lay out what is wanted of each array.

        Args:
            dtypes: of plain numbers; one of another byte order never passes.
            shapes: rank 10 at most.
        """
        self._specs = np.zeros((len(shapes), _SPEC_WORDS), dtype=np.int64)
        for spec, dtype, shape in zip(self._specs, dtypes, shapes, strict=True):
            spec[0], spec[1] = _word(dtype), len(shape)
            spec[2 : 2 + len(shape)] = shape
        self._specs_address = self._specs.ctypes.data
        self._read = _READ(address("arrays_read"))

    def addresses(self, arrays: Sequence[object]) -> np.ndarray | None:
        """Give the address of each array's data, or None if one is not as wanted.

        None also for what would do after a conversion: whoever asks then looks closely.
        """
        n = len(arrays)
        if n != len(self._specs):
            return None
        objects = np.fromiter(map(id, arrays), np.int64, n)
        out = np.empty(n, dtype=np.int64)
        read = self._read(
            objects.ctypes.data, n, id(np.ndarray), self._specs_address, out.ctypes.data
        )
        return out if read == n else None


@cache
def readable() -> bool:
    """Tell whether arrays lie in memory as the reader expects: tried on a few."""
    shapes = [(2, 3), (), (1, 5, 7)]
    arrays = [np.zeros(shape, dtype=np.float32) for shape in shapes]
    reader = ArrayReader([a.dtype for a in arrays], shapes)
    found = reader.addresses(arrays)
    if found is None or found.tolist() != [a.ctypes.data for a in arrays]:
        return False
    swapped = arrays[0].astype(arrays[0].dtype.newbyteorder())
    wrong: list[object] = [
        arrays[0].T,
        arrays[0][:, :2],
        arrays[0].astype(np.float64),
        swapped,
        "no",
    ]
    return all(reader.addresses([w, *arrays[1:]]) is None for w in wrong)


def _word(dtype: np.dtype[np.generic]) -> int:
    """Give what a dtype of plain numbers is compared by; see `fusec.runtime.tile.arrays_cpu`."""
    return ctypes.c_int64.from_address(id(dtype) + _DTYPE_WORD).value
