"""Compiled kernels on a card, and how they are launched."""

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from ctypes import POINTER, Structure, addressof, byref, c_char, c_int, c_uint, c_void_p
from typing import Any

from fusec.ir.device import DeviceCode, DeviceKernel, code_hash
from fusec.ir.errors import ArtifactError, UnsupportedError, VerifyError
from fusec.ir.frozen import dataclass
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.memory import DeviceMemory, Memory
from fusec.runtime.cuda.stream import Stream

__all__ = ["Function", "Launch", "Module", "load_kernels"]

_WARP_THREADS = 32
_PLAIN_SHARED_BYTES = 48 * 1024
"""More has to be asked for."""
_MAX_SHARED_BYTES = 8
"""Number of a function's attribute."""
_COOPERATIVE, _OVERLAPPING = 2, 6
"""Numbers of a launch's attributes."""
_VALUE_BYTES = 64
_MAX_GRID = (2**31 - 1, 65535, 65535)

_TYPES: Mapping[str, type[Any]] = {
    "*": ctypes.c_uint64,
    "i1": ctypes.c_int8,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}


class _Attribute(Structure):
    """CUlaunchAttribute."""

    _fields_ = (("id", c_int), ("pad", c_char * 4), ("value", c_char * _VALUE_BYTES))


class _Configuration(Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared_bytes", c_uint),
        ("stream", c_void_p),
        ("attributes", POINTER(_Attribute)),
        ("n_attributes", c_uint),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a kernel is launched, beside its arguments."""

    grid: tuple[int, int, int] = (1, 1, 1)
    cooperative: bool = False
    """All blocks are resident at once, or the launch fails."""
    overlapping: bool = False
    """It may begin before the kernel ahead has ended, and waits for that one itself (sm_90)."""


class Module:
    """Code on a card."""

    def __init__(self, context: Context, code: bytes | memoryview) -> None:
        """Load code; the driver checks it once more.

        Raises:
            KernelError: the driver refuses it.
            VerifyError: this thread captures.
        """
        context.refuse_in_capture("code is loaded")
        self.context = context
        # The driver copies it.
        self._handle: int | None = context.create("cuModuleLoadData", bytes(code))
        self._users: set[Stream] = set()
        self._holders = 0

    def function(self, kernel: DeviceKernel) -> "Function":
        """Give a kernel of this code.

        Raises:
            KernelError: the code has no such function, or the card not that much shared memory.
            VerifyError: the code is unloaded.
        """
        if self._handle is None:
            raise VerifyError("code is used that is unloaded")
        handle = self.context.create("cuModuleGetFunction", self._handle, kernel.symbol.encode())
        if kernel.shared_bytes > _PLAIN_SHARED_BYTES:
            self.context.call("cuFuncSetAttribute", handle, _MAX_SHARED_BYTES, kernel.shared_bytes)
        return Function(self, kernel, handle)

    def used_by(self, stream: Stream) -> None:
        """Note that work in a stream runs this code.

        Raises:
            VerifyError: it is unloaded.
        """
        if self._handle is None:
            raise VerifyError("code is used that is unloaded")
        self._users.add(stream)

    def hold(self) -> None:
        """Keep it from being unloaded: a graph runs it."""
        self._holders += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1

    def close(self) -> None:
        """Wait for all work that runs this code, then unload it; once.

        Raises:
            VerifyError: a graph runs it, or this thread captures.
        """
        if self._handle is None:
            return
        self.context.refuse_in_capture("code is unloaded")
        if self._holders:
            raise VerifyError(f"code is unloaded that {self._holders} graphs run")
        for stream in self._users:
            if not stream.closed:
                stream.synchronize()
        handle, self._handle = self._handle, None
        self.context.call("cuModuleUnload", handle)


class Function:
    """A kernel that can be launched."""

    def __init__(self, module: Module, kernel: DeviceKernel, handle: int) -> None:
        """Users call `Module.function`."""
        unknown = sorted(set(kernel.parameters) - set(_TYPES))
        if unknown:
            raise UnsupportedError(f"kernel {kernel.name}: no launch passes {', '.join(unknown)}")
        self.kernel = kernel
        self.module = module
        self._handle = handle
        self._types = [*(_TYPES[p] for p in kernel.parameters), *[_TYPES["*"]] * kernel.hidden]

    def launch(
        self,
        stream: Stream,
        launch: Launch,
        arguments: Sequence[DeviceMemory | float],
        uses: Iterable[Memory] = (),
    ) -> None:
        """Enqueue the kernel.

        Args:
            stream: to enqueue in.
            launch: how.
            arguments: one for each of the kernel's parameters; numbers serve as addresses, too.
            uses: memory whose address the kernel finds elsewhere, say in a table.

        Raises:
            VerifyError: too many or too few arguments, no such grid, or freed memory.
            KernelError: the driver refuses.

        Cost: 5 us.
        """
        parameters = self.kernel.parameters
        if len(arguments) != len(parameters):
            raise VerifyError(
                f"kernel {self.kernel.name} takes {len(parameters)} arguments, got {len(arguments)}"
            )
        if not all(1 <= n <= top for n, top in zip(launch.grid, _MAX_GRID, strict=True)):
            raise VerifyError(f"kernel {self.kernel.name}: no grid is {launch.grid}")
        touched = [a for a in arguments if isinstance(a, DeviceMemory)]
        stream.touch([*touched, *uses, self.module])
        values = [a.address if isinstance(a, DeviceMemory) else a for a in arguments]
        values += [0] * self.kernel.hidden
        holders = [kind(value) for kind, value in zip(self._types, values, strict=True)]
        pointers = (c_void_p * len(holders))(*map(addressof, holders))
        self._enqueue(stream, launch, pointers)

    def _enqueue(self, stream: Stream, launch: Launch, pointers: Any) -> None:
        attributes = _attributes(launch)
        block = (self.kernel.warps * _WARP_THREADS, 1, 1)
        call = self.module.context.call
        if not attributes:
            call(
                *("cuLaunchKernel", self._handle, *launch.grid, *block),
                *(self.kernel.shared_bytes, stream.handle, pointers, None),
            )
            return
        table = (_Attribute * len(attributes))(*attributes)
        configuration = _Configuration(
            (c_uint * 3)(*launch.grid),
            (c_uint * 3)(*block),
            self.kernel.shared_bytes,
            stream.handle,
            table,
            len(attributes),
        )
        call("cuLaunchKernelEx", byref(configuration), self._handle, pointers, None)


def load_kernels(context: Context, device: DeviceCode) -> dict[tuple[str, object], Function]:
    """Load all kernels of a plan for this card.

    Returns:
        (name, constants) -> kernel.

    Raises:
        UnsupportedError: the code is for another kind of card.
        ArtifactError: code is not what its hash says.
        KernelError: the driver refuses it.
    """
    major, minor = context.properties.capability
    arch = int(device.target.rpartition("_")[2])
    # Code runs on later cards of its generation.
    if arch // 10 != major or arch % 10 > minor:
        raise UnsupportedError(
            f"{context.properties.name} is sm_{major}{minor}, the plan has code for "
            f"{device.target}; compile it with --target cuda:sm_{major}{minor}"
        )
    modules: dict[str, Module] = {}
    try:
        for key, code in device.codes.items():
            if code_hash(code) != key:
                raise ArtifactError(f"device code {key[:16]} is damaged; compile the plan again")
            modules[key] = Module(context, code)
        return {(k.name, k.constants): modules[k.code].function(k) for k in device.kernels}
    except BaseException:
        for module in modules.values():
            module.close()
        raise


def _attributes(launch: Launch) -> list[_Attribute]:
    wanted = {_COOPERATIVE: launch.cooperative, _OVERLAPPING: launch.overlapping}
    one = (1).to_bytes(4, "little")
    return [_Attribute(number, b"", one) for number, set_ in wanted.items() if set_]
