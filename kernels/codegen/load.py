"""Images in memory, ready to be called; needs neither LLVM nor NumPy."""

import ctypes
import mmap
import os
import struct
import sys

from fusec.ir.errors import KernelError
from fusec.kernels.codegen.image import read_image

__all__ = ["Loader", "takes_images"]


def takes_images() -> bool:
    """Tell whether kernels come as images here; on other machines LLVM links their objects."""
    return sys.platform == "linux" and os.uname().machine == "x86_64"


class Loader:
    """Keeps the code it was given in memory for the life of the process."""

    def __init__(self) -> None:
        """Start empty."""
        self._addresses: dict[str, int] = {}

    def add(self, data: bytes) -> None:
        """Load an image.

        Raises:
            KernelError: the system lacks a function, or does not let new code run.

        Cost: 0.1 ms and a copy.
        """
        image = read_image(data)
        body = bytearray(image.body)
        memory = mmap.mmap(-1, max(len(body), 1))
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for at in image.rebased:
            struct.pack_into("<Q", body, at, struct.unpack_from("<Q", body, at)[0] + start)
        for at, name in image.outside.items():
            struct.pack_into("<Q", body, at, _function(name))
        memory[: len(body)] = bytes(body)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(start, len(memory), mmap.PROT_READ | mmap.PROT_EXEC):
            raise KernelError(
                f"this system lets no new code run (errno {ctypes.get_errno()}); "
                "use an executor of PyTorch"
            )
        # Workers may still be inside when the interpreter takes itself apart: never unmapped.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        self._addresses |= {name: start + at for name, at in image.symbols.items()}

    def address(self, symbol: str) -> int:
        """Give the address of a symbol; 0 if no image defines it."""
        return self._addresses.get(symbol, 0)


def _function(name: str) -> int:
    for library in (None, "libm.so.6"):
        try:
            address = ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value
        except (AttributeError, OSError):
            continue
        if address:
            return address
    raise KernelError(f"the C library has no {name}")
