"""Native reading of NumPy arrays: what many `flags`, `shape` and `ctypes` lookups would say.

An array object's fields lie where NumPy's C interface says (`PyArrayObject_fields`, the same in all
releases of 1.x and 2.x, behind an object head of 16 bytes):

    8 type   16 data   24 nd   32 dims   40 strides   48 base   56 dtype   64 flags

and so do a dtype's (`PyArray_Descr`): kind, letter, byte order, a byte of flags and the type's
number are the 8 bytes from 24 on. Equal dtypes of plain numbers have equal words: an array that was
unpickled has a dtype object of its own.
"""

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i32, load_i64, store_i64

__all__ = ["DTYPE_WORD", "KERNELS", "SPEC_WORDS"]

SPEC_WORDS = 12
"""Words of one array's wanted form: dtype word, nd, extents; rank 10 at most."""

DTYPE_WORD = 24
"""Where the word that tells dtypes apart is in a dtype object."""

_CONTIGUOUS_AND_ALIGNED = 0x1 | 0x100


def _read(objects, n, ndarray, specs, out):  # type: ignore[no-untyped-def]
    """Give how many arrays are as wanted before the first that is not; store their addresses."""
    for i in range(n):
        array = load_i64(objects + 8 * i)
        spec = specs + 8 * SPEC_WORDS * i
        if load_i64(array + 8) != ndarray:
            return i
        flags = load_i32(array + 64)
        if flags & _CONTIGUOUS_AND_ALIGNED != _CONTIGUOUS_AND_ALIGNED:
            return i
        if load_i64(load_i64(array + 56) + DTYPE_WORD) != load_i64(spec):
            return i
        rank = load_i64(spec + 8)
        if load_i32(array + 24) != rank:
            return i
        dims = load_i64(array + 32)
        for d in range(rank):
            if load_i64(dims + 8 * d) != load_i64(spec + 16 + 8 * d):
                return i
        store_i64(out + 8 * i, load_i64(array + 16))
    return n


KERNELS = (KernelSource(name="arrays_read", function=_read, arguments=5, gives=True),)
