"""A driver without a card: it runs nothing, but knows what is ordered before what.

Streams are queues with vector clocks. Work is done when a test says so (`finish`), or when
something waits for it. Whatever frees memory or code that work may still use, uses it after it was
freed, or breaks a rule of captures is noted in `faults`.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fusec_testing.cubins import example_device

from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.library import FUNCTIONS, NOT_READY
from fusec.runtime.cuda.module import Function, load_kernels

__all__ = ["Block", "FakeLibrary", "kernel_of"]

Clock = dict[int, int]
OK, OUT_OF_MEMORY, INVALID, CAPTURING, BROKEN = 0, 2, 1, 900, 901


@dataclass
class _Stream:
    clock: Clock
    finished: int = 0
    captured_by: int | None = None


@dataclass
class Block:
    kind: str
    n_bytes: int = 0
    buffer: Any = None
    uses: list[tuple[int, int]] = field(default_factory=list)


class FakeLibrary:
    """What `ctypes.CDLL` would be."""

    def __init__(
        self,
        *,
        cards: int = 1,
        capability: tuple[int, int] = (9, 0),
        memory_bytes: int = 1 << 30,
        missing: tuple[str, ...] = (),
        failing: dict[str, int] | None = None,
    ) -> None:
        self.calls: list[str] = []
        self.faults: list[str] = []
        self.launches: list[dict[str, Any]] = []
        self.failing = dict(failing or {})
        self.streams: dict[int, _Stream] = {}
        self.events: dict[int, tuple[int, Clock] | None] = {}
        self.blocks: dict[int, Block] = {}
        self.graphs: dict[int, list[int]] = {}
        self.captures: dict[int, list[int]] = {}
        self._cards, self._capability, self._memory = cards, capability, memory_bytes
        self._next = 0x1000
        for name in set(FUNCTIONS) - set(missing):
            setattr(self, name, self._wrapped(name))

    def finish(self, stream: int) -> None:
        """Let all work of a stream be done, and what it waits for."""
        self._reach(self.streams[stream].clock)

    def kinds(self) -> list[str]:
        """What is alive, sorted."""
        return sorted(b.kind for b in self.blocks.values())

    def _wrapped(self, name: str) -> Callable[..., int]:
        body = getattr(self, f"_{name}", lambda *_: OK)

        def function(*arguments: Any) -> int:
            assert len(arguments) == len(FUNCTIONS[name]), name
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            result = body(*[_plain(a) for a in arguments])
            return OK if result is None else result

        return function

    # Devices

    def _cuDeviceGetCount(self, out: Any) -> None:
        out.value = self._cards

    def _cuDeviceGet(self, out: Any, number: int) -> None:
        out.value = number

    def _cuDeviceGetName(self, buffer: Any, size: int, device: int) -> None:
        buffer.value = b"Card of a test"

    def _cuDeviceTotalMem_v2(self, out: Any, device: int) -> None:
        out.value = self._memory

    def _cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> None:
        known = {75: self._capability[0], 76: self._capability[1], 16: 132, 97: 232448, 115: 1}
        out.value = known.get(attribute, 4096)

    def _cuDevicePrimaryCtxRetain(self, out: Any, device: int) -> None:
        out.value = self._handle()

    def _cuCtxGetStreamPriorityRange(self, least: Any, most: Any) -> None:
        least.value, most.value = 0, -5

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        total.value = self._memory
        free.value = self._memory - sum(b.n_bytes for b in self.blocks.values())

    def _cuGetErrorName(self, code: int, out: Any) -> None:
        out.value = b"CUDA_ERROR_OF_A_TEST"

    def _cuGetErrorString(self, code: int, out: Any) -> None:
        out.value = b"as the test wished"

    # Streams and events

    def _cuStreamCreateWithPriority(self, out: Any, flags: int, priority: int) -> None:
        out.value = self._handle()
        self.streams[out.value] = _Stream({out.value: 0})

    def _cuStreamDestroy_v2(self, stream: int) -> None:
        del self.streams[stream]

    def _cuStreamQuery(self, stream: int) -> int:
        one = self.streams[stream]
        return OK if one.finished >= one.clock[stream] else NOT_READY

    def _cuStreamSynchronize(self, stream: int) -> int:
        if self.streams[stream].captured_by is not None:
            return self._fault("a captured stream is waited for", BROKEN)
        self.finish(stream)
        return OK

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        recorded = self.events[event]
        if recorded is None:
            return
        source, clock = recorded
        mine = self.streams[stream]
        owner = self.streams.get(source)
        if owner is not None and owner.captured_by is not None:
            mine.captured_by = owner.captured_by
        mine.clock.update({s: max(n, mine.clock.get(s, 0)) for s, n in clock.items()})

    def _cuEventCreate(self, out: Any, flags: int) -> None:
        out.value = self._handle()
        self.events[out.value] = None

    def _cuEventDestroy_v2(self, event: int) -> None:
        del self.events[event]

    def _cuEventRecord(self, event: int, stream: int) -> None:
        self.events[event] = (stream, dict(self.streams[stream].clock))

    def _cuEventQuery(self, event: int) -> int:
        recorded = self.events[event]
        return OK if recorded is None or self._reached(recorded[1]) else NOT_READY

    def _cuEventSynchronize(self, event: int) -> None:
        recorded = self.events[event]
        if recorded is not None:
            self._reach(recorded[1])

    def _cuEventElapsedTime(self, out: Any, first: int, then: int) -> None:
        out.value = 1.5

    # Memory

    def _cuMemAllocAsync(self, out: Any, n_bytes: int, stream: int) -> int:
        if n_bytes > self._memory - sum(b.n_bytes for b in self.blocks.values()):
            return OUT_OF_MEMORY
        out.value = self._handle(n_bytes)
        self.blocks[out.value] = Block("device", n_bytes)
        return OK

    def _cuMemFreeAsync(self, address: int, stream: int) -> None:
        clock = self.streams[stream].clock
        block = self._take(address, "device")
        if block and any(clock.get(s, 0) < n for s, n in block.uses):
            self.faults.append("memory is freed before work that uses it")

    def _cuMemHostAlloc(self, out: Any, n_bytes: int, flags: int) -> None:
        buffer = ctypes.create_string_buffer(n_bytes)
        out.value = ctypes.addressof(buffer)
        self.blocks[out.value] = Block("host", 0, buffer)

    def _cuMemFreeHost(self, address: int) -> None:
        self._end(address, "host")

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._work(stream, [target, source])

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._work(stream, [target, source])

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._work(stream, [target, source])

    def _cuMemsetD8Async(self, target: int, byte: int, n: int, stream: int) -> None:
        self._work(stream, [target])

    # Code

    def _cuModuleLoadData(self, out: Any, code: bytes) -> int:
        if not code.startswith(b"\x7fELF"):
            return INVALID
        out.value = self._handle()
        self.blocks[out.value] = Block("module")
        return OK

    def _cuModuleUnload(self, module: int) -> None:
        self._end(module, "module")

    def _cuModuleGetFunction(self, out: Any, module: int, name: bytes) -> None:
        # A function's name is its module's and a bit.
        out.value = module + 1

    def _cuLaunchKernel(self, function: int, *rest: Any) -> None:
        *shape, shared, stream, pointers, _ = rest
        self._launch(function, shape, shared, stream, pointers, [])

    def _cuLaunchKernelEx(self, config: Any, function: int, pointers: Any, _: Any) -> None:
        shape = [*config.grid, *config.block]
        attributes = [config.attributes[i].id for i in range(config.n_attributes)]
        self._launch(function, shape, config.shared_bytes, config.stream, pointers, attributes)

    def _launch(
        self,
        function: int,
        shape: list[int],
        shared: int,
        stream: int,
        pointers: Any,
        attributes: list[int],
    ) -> None:
        values = [ctypes.c_uint64.from_address(p).value for p in pointers]
        self.launches.append(
            {"shape": shape, "shared": shared, "values": values, "attributes": attributes}
        )
        self._work(stream, [function - 1, *values])

    # Graphs

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        if mode != 1 or self.streams[stream].captured_by is not None:
            return self._fault("a capture is not local to its thread, or nested", INVALID)
        self.streams[stream].captured_by = stream
        self.captures[stream] = []
        return OK

    def _cuStreamEndCapture(self, stream: int, out: Any) -> None:
        for one in self.streams.values():
            if one.captured_by == stream:
                one.captured_by = None
        out.value = self._handle()
        self.graphs[out.value] = self.captures.pop(stream)

    def _cuGraphInstantiateWithFlags(self, out: Any, graph: int, flags: int) -> None:
        out.value = self._handle()
        self.blocks[out.value] = Block("graph", 0, self.graphs[graph])

    def _cuGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:
        self._work(stream, [graph, *self.blocks[graph].buffer])

    def _cuGraphExecDestroy(self, graph: int) -> None:
        self._end(graph, "graph")

    # What is common

    def _handle(self, n_bytes: int = 0) -> int:
        self._next += 0x1000 + n_bytes // 0x1000 * 0x1000
        return self._next

    def _work(self, stream: int, used: list[int]) -> None:
        captured_by = self.streams[stream].captured_by
        if captured_by is not None:
            self.captures[captured_by] += used
            return
        self.streams[stream].clock[stream] += 1
        for address in used:
            block = self.blocks.get(address)
            if block is not None:
                block.uses.append((stream, self.streams[stream].clock[stream]))
            elif 0x1000 <= address <= self._next and address % 0x1000 == 0:
                self.faults.append(f"{address:#x} is used and is not there")

    def _reach(self, clock: Clock) -> None:
        for stream, count in clock.items():
            if stream in self.streams:
                one = self.streams[stream]
                one.finished = max(one.finished, count)

    def _reached(self, clock: Clock) -> bool:
        return all(self.streams[s].finished >= n for s, n in clock.items() if s in self.streams)

    def _take(self, address: int, kind: str) -> Block | None:
        block = self.blocks.pop(address, None)
        if block is None or block.kind != kind:
            self.faults.append(f"a {kind} is freed that is not there")
            return None
        return block

    def _end(self, address: int, kind: str) -> None:
        """Free what has to be idle."""
        block = self._take(address, kind)
        if block and not self._reached(dict(_latest(block.uses))):
            self.faults.append(f"a {kind} is freed while work uses it")

    def _fault(self, text: str, code: int) -> int:
        self.faults.append(text)
        return code


def kernel_of(context: Context) -> Function:
    """Load the example's code; give its first kernel: two addresses, a number, one hidden."""
    return next(iter(load_kernels(context, example_device()).values()))


def _plain(argument: Any) -> Any:
    """Give what `byref` points to, and what a handle is."""
    found = getattr(argument, "_obj", argument)
    return found.value if isinstance(found, ctypes.c_void_p) and found is argument else found


def _latest(uses: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(uses)
