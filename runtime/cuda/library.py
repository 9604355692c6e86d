"""The driver's own library, called through ctypes; every failing call is an error that names it."""

import ctypes
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import (
    POINTER,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint64,
    c_void_p,
)
from typing import Any

from fusec.ir.errors import KernelError, UnsupportedError

__all__ = ["FUNCTIONS", "NOT_READY", "OPTIONAL", "Driver", "OutOfDeviceMemory", "load_driver"]

_SUCCESS, _OUT_OF_MEMORY, NOT_READY = 0, 2, 600
"""Results of calls."""

_NAMES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
_OUT = POINTER
_DEVICE = c_int
_HANDLE = c_void_p
_ADDRESS = c_uint64

FUNCTIONS: Mapping[str, tuple[object, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (_OUT(c_int),),
    "cuDeviceGetCount": (_OUT(c_int),),
    "cuDeviceGet": (_OUT(_DEVICE), c_int),
    "cuDeviceGetName": (c_char_p, c_int, _DEVICE),
    "cuDeviceGetAttribute": (_OUT(c_int), c_int, _DEVICE),
    "cuDeviceTotalMem_v2": (_OUT(c_size_t), _DEVICE),
    "cuDevicePrimaryCtxRetain": (_OUT(_HANDLE), _DEVICE),
    "cuDevicePrimaryCtxRelease_v2": (_DEVICE,),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuCtxGetStreamPriorityRange": (_OUT(c_int), _OUT(c_int)),
    "cuMemGetInfo_v2": (_OUT(c_size_t), _OUT(c_size_t)),
    "cuStreamCreateWithPriority": (_OUT(_HANDLE), c_uint, c_int),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamQuery": (_HANDLE,),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamWaitEvent": (_HANDLE, _HANDLE, c_uint),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT(_HANDLE)),
    "cuEventCreate": (_OUT(_HANDLE), c_uint),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuEventElapsedTime": (_OUT(c_float), _HANDLE, _HANDLE),
    "cuEventQuery": (_HANDLE,),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventSynchronize": (_HANDLE,),
    "cuModuleLoadData": (_OUT(_HANDLE), c_void_p),
    "cuModuleUnload": (_HANDLE,),
    "cuModuleGetFunction": (_OUT(_HANDLE), _HANDLE, c_char_p),
    "cuFuncSetAttribute": (_HANDLE, c_int, c_int),
    "cuLaunchKernel": (_HANDLE, *[c_uint] * 7, _HANDLE, c_void_p, c_void_p),
    "cuLaunchKernelEx": (c_void_p, _HANDLE, c_void_p, c_void_p),
    "cuMemAllocAsync": (_OUT(_ADDRESS), c_size_t, _HANDLE),
    "cuMemFreeAsync": (_ADDRESS, _HANDLE),
    "cuMemHostAlloc": (_OUT(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyDtoDAsync_v2": (_ADDRESS, _ADDRESS, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _ADDRESS, c_size_t, _HANDLE),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, c_void_p, c_size_t, _HANDLE),
    "cuMemsetD8Async": (_ADDRESS, c_ubyte, c_size_t, _HANDLE),
    "cuGraphInstantiateWithFlags": (_OUT(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGetErrorName": (c_int, _OUT(c_char_p)),
    "cuGetErrorString": (c_int, _OUT(c_char_p)),
}
"""Name -> types of its arguments; all give a result code."""

OPTIONAL: Mapping[str, tuple[object, ...]] = {
    "cuDeviceGetDevResource": (_DEVICE, c_void_p, c_int),
    "cuDevSmResourceSplitByCount": (c_void_p, _OUT(c_uint), c_void_p, c_void_p, c_uint, c_uint),
    "cuDevResourceGenerateDesc": (_OUT(_HANDLE), c_void_p, c_uint),
    "cuGreenCtxCreate": (_OUT(_HANDLE), _HANDLE, _DEVICE, c_uint),
    "cuGreenCtxDestroy": (_HANDLE,),
    "cuGreenCtxStreamCreate": (_OUT(_HANDLE), _HANDLE, c_uint, c_int),
}
"""The same, of functions that a driver may lack: green contexts, from CUDA 12.5 on."""


class OutOfDeviceMemory(KernelError):
    """The card has not this much memory left."""


class Driver:
    """The driver: its functions, initialised."""

    def __init__(self, library: object) -> None:
        """Take a library and initialise it.

        Args:
            library: has `FUNCTIONS` as attributes; `ctypes.CDLL`, or what a test has made.

        Raises:
            UnsupportedError: it lacks a function, finds no card, or does not start.
        """
        missing = [name for name in FUNCTIONS if not hasattr(library, name)]
        if missing:
            raise UnsupportedError(
                f"the NVIDIA driver is too old: it has no {', '.join(missing[:3])}; "
                "CUDA 12 or newer is needed"
            )
        has = [name for name in OPTIONAL if hasattr(library, name)]
        self._functions = {name: _typed(library, name) for name in (*FUNCTIONS, *has)}
        try:
            self.call("cuInit", 0)
        except KernelError as e:
            raise UnsupportedError(
                f"the NVIDIA driver does not start: {e}; is there a card, and may this user use it?"
            ) from e

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Give those of `OPTIONAL` functions that this driver does not have."""
        return [name for name in names if name not in self._functions]

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            OutOfDeviceMemory: as the card says.
            KernelError: any other failure; after some of them a context is of no more use.
        """
        code = self.result(name, *arguments)
        if code != _SUCCESS:
            kind = OutOfDeviceMemory if code == _OUT_OF_MEMORY else KernelError
            raise kind(f"{name} fails: {self._name_of(code)}")

    def ready(self, name: str, handle: Any) -> bool:
        """Call a function that asks whether something has finished.

        Raises:
            KernelError: what was to finish has failed.
        """
        code = self.result(name, handle)
        if code not in (_SUCCESS, NOT_READY):
            raise KernelError(f"{name} says: {self._name_of(code)}")
        return code == _SUCCESS

    def result(self, name: str, *arguments: Any) -> int:
        """Call a function and give its result code."""
        return self._functions[name](*arguments)

    def _name_of(self, code: int) -> str:
        texts = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            self.result(name, code, ctypes.byref(text))
            texts.append((text.value or b"?").decode(errors="replace"))
        return f"{texts[0]} ({code}): {texts[1]}"


def load_driver(names: Sequence[str] = _NAMES) -> Driver:
    """Load the driver of this machine.

    Raises:
        UnsupportedError: there is none, it is too old, or there is no card.
    """
    reasons = []
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError as e:
            reasons.append(str(e))
        else:
            return Driver(library)
    raise UnsupportedError(
        f"there is no NVIDIA driver on this machine ({reasons[0]}); plans run on the CPU without, "
        "and `fusec compile --target` needs none"
    )


def _typed(library: object, name: str) -> Callable[..., int]:
    function: Any = getattr(library, name)
    if hasattr(function, "argtypes"):
        function.argtypes = FUNCTIONS.get(name) or OPTIONAL[name]
        function.restype = c_int
    return function  # type: ignore[no-any-return]
