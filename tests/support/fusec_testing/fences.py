"""Arrays that end where memory ends: a kernel that reads or writes behind them crashes."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

__all__ = ["fenced"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def fenced(array: np.ndarray) -> np.ndarray:
    """Copy a flat array so that its last byte is the last before a page nobody may touch."""
    page = mmap.PAGESIZE
    pages = -(-max(array.nbytes, 1) // page)
    memory = mmap.mmap(-1, (pages + 1) * page)
    base = np.frombuffer(memory, np.uint8)
    fence = base.ctypes.data + pages * page
    if _libc.mprotect(fence, page, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = base[pages * page - array.nbytes : pages * page].view(array.dtype)
    copy[:] = array
    return copy
