"""A test's driver behind real C calls: arguments go through ctypes there and back."""

import ctypes
from collections.abc import Callable
from typing import Any

from fusec_testing.fake_cuda import FakeLibrary

from fusec.runtime.cuda.library import FUNCTIONS
from fusec.runtime.cuda.module import _Configuration

__all__ = ["CalledLibrary"]

_ARGUMENTS = 4
"""Of the kernel that tests launch, hidden ones too."""


class _Out:
    """What `byref` gives, seen from the other side."""

    def __init__(self, found: Any) -> None:
        self._obj = found


class CalledLibrary:
    """What `ctypes.CDLL` would be: C functions that call a `FakeLibrary`."""

    def __init__(self, fake: FakeLibrary) -> None:
        for name in FUNCTIONS:
            # As an address, a name to fill in arrives as one, and not as a copy of what is there.
            types: list[Any] = [
                ctypes.c_void_p if kind is ctypes.c_char_p else kind for kind in FUNCTIONS[name]
            ]
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, *types)
            setattr(self, name, prototype(_seen(getattr(fake, name), name)))


def _seen(function: Callable[..., int], name: str) -> Callable[..., int]:
    def called(*arguments: Any) -> int:
        seen = [_Out(a.contents) if hasattr(a, "contents") else a for a in arguments]
        seen = [0 if a is None else a for a in seen]
        if name == "cuModuleLoadData":
            seen[1] = ctypes.string_at(seen[1], 4)
        elif name == "cuModuleGetFunction":
            seen[2] = ctypes.string_at(seen[2])
        elif name == "cuDeviceGetName":
            seen[0] = (ctypes.c_char * seen[1]).from_address(seen[0])
        elif name == "cuLaunchKernelEx":
            seen[0] = _Out(_Configuration.from_address(seen[0]))
            seen[2] = (ctypes.c_void_p * _ARGUMENTS).from_address(seen[2])
        elif name == "cuLaunchKernel":
            seen[9] = (ctypes.c_void_p * _ARGUMENTS).from_address(seen[9])
        return function(*seen)

    return called
