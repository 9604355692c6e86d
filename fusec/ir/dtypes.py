"""Names of dtypes, as templates and plan files spell them."""

import numpy as np

from fusec.ir.errors import UnsupportedError

__all__ = ["DTYPES", "NO_NUMPY", "itemsize_bytes", "numpy_dtype"]

DTYPES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}
"""Bytes per element of every dtype that a tensor in a plan may have."""

NO_NUMPY = frozenset(name for name in DTYPES if name.startswith(("bfloat16", "float8")))
"""Those that NumPy lacks."""


def itemsize_bytes(name: str) -> int:
    """Give the bytes per element of a dtype.

    Raises:
        UnsupportedError: the name is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise UnsupportedError(f"dtype {name!r} is not known; known: {', '.join(DTYPES)}")
    return DTYPES[name]


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Give the NumPy dtype of a dtype name; same-width unsigned integers for those NumPy lacks.

    Raises:
        UnsupportedError: the name is not in `DTYPES`.
    """
    size = itemsize_bytes(name)
    return np.dtype(f"u{size}" if name in NO_NUMPY else name)
