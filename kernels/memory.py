"""Buffers of one instance as NumPy arrays: what reference kernels read and write."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import Extent, value
from fusec.ir.stage import View

__all__ = ["Memory"]


class Memory:
    """Flat buffers by slot, and the symbols' values."""

    def __init__(
        self,
        buffers: Sequence[np.ndarray[tuple[int], np.dtype[np.generic]]],
        symbols: Mapping[str, int],
    ) -> None:
        """Take buffers as they are; arrays that `array` gives are windows on them."""
        self.buffers = buffers
        self.symbols = symbols

    def extent(self, extent: Extent) -> int:
        """Give the value of an extent."""
        return value(extent, self.symbols)

    def array(self, view: View) -> np.ndarray:
        """Give the strided array that a view sees."""
        flat = self.buffers[view.slot]
        dtype = numpy_dtype(view.dtype)
        assert flat.dtype == dtype, (flat.dtype, dtype)
        shape = tuple(self.extent(e) for e in view.shape)
        strides = tuple(self.extent(s) * dtype.itemsize for s in view.strides)
        return as_strided(flat[self.extent(view.offset) :], shape, strides)
