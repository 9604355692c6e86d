"""A card that computes, without a card: streams are queues, kernels run in Triton's interpreter.

What is enqueued runs as late as it may, streams taking turns by a seed: only what somebody waits
for, in the orders that events ask for. So whatever is not waited for shows: memory of the card is
full of NaN when it is allocated and when it is freed, copies read pinned memory when they run, and
what is used before or after its time is noted in `faults`.

Import it before triton, see `grouped`.
"""

from __future__ import annotations

import ctypes
import random
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from fusec_testing.card_code import JOBS
from fusec_testing.fake_cuda import INVALID, OK, OUT_OF_MEMORY, Block, FakeLibrary
from fusec_testing.grouped import patched_once_a_module

from fusec.kernels.cuda.cubin import read_cubin
from fusec.kernels.cuda.job import Job
from fusec.runtime.cuda.library import NOT_READY, OPTIONAL

__all__ = ["ComputingCard"]

_BROKEN = 719


def _write_resource(address: int, multiprocessors: int) -> None:
    ctypes.c_uint32.from_address(address).value = 1
    ctypes.c_uint32.from_address(address + 96).value = multiprocessors


Op = Callable[[], None]


@dataclass
class _Queue:
    ops: list[Op | tuple[int, int]] = field(default_factory=list)
    """What to do, or (stream, how many ops of it) to wait for."""
    done: int = 0
    busy: bool = False
    """Something of it runs, or waits for another stream."""


class ComputingCard(FakeLibrary):
    """What `ctypes.CDLL` would be."""

    def __init__(
        self,
        *,
        memory_bytes: int = 1 << 30,
        multiprocessors: int = 2,
        seed: int = 0,
        capability: tuple[int, int] = (9, 0),
    ) -> None:
        self.failing_call: tuple[str, int] | None = None
        """Function, and how many of its calls from now on are good until one fails."""
        self._lock = threading.RLock()
        self.green_left = 1 << 10
        """Green contexts that can be made."""
        self.green_streams: list[int] = []
        super().__init__(memory_bytes=memory_bytes, capability=capability)
        self._multiprocessors = multiprocessors
        self._random = random.Random(seed)
        self._queues: dict[int, _Queue] = {}
        self._recorded: dict[int, tuple[int, int] | None] = {}
        self._spaces: dict[int, np.ndarray] = {}
        """Memory of the card by address; freed memory stays, full of NaN."""
        self._symbols: dict[int, str] = {}
        self._codes: dict[int, bytes] = {}
        self._capturing: dict[int, list[Op]] = {}
        self._graph_ops: dict[int, list[Op]] = {}
        self.launched: list[str] = []
        """Kernels that ran, in order."""

    def _wrapped(self, name: str) -> Callable[..., int]:
        plain = super()._wrapped(name)

        def function(*arguments: Any) -> int:
            with self._lock:  # neither this nor the interpreter is for several threads
                return called(*arguments)

        def called(*arguments: Any) -> int:
            if self.failing_call is not None and self.failing_call[0] == name:
                left = self.failing_call[1]
                self.failing_call = None if left == 0 else (name, left - 1)
                if left == 0 and name == "cuStreamEndCapture":
                    self._break_capture(arguments[0])
                if left == 0:
                    return OUT_OF_MEMORY if "Alloc" in name else _BROKEN
            return plain(*arguments)

        return function

    def has_green_contexts(self) -> None:
        """Have the functions of green contexts."""
        for name in OPTIONAL:
            setattr(self, name, self._locked(getattr(self, f"_{name}")))

    def _locked(self, body: Callable[..., int | None]) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            with self._lock:
                return body(*[getattr(a, "_obj", a) for a in arguments]) or OK

        return function

    def _cuDeviceGetDevResource(self, device: int, out: int, kind: int) -> None:
        _write_resource(out, self._multiprocessors)

    def _cuDevSmResourceSplitByCount(
        self, out: int, groups: Any, source: int, rest: int, flags: int, least: int
    ) -> int | None:
        there = ctypes.c_uint32.from_address(source + 96).value
        if least > there:
            return INVALID
        _write_resource(out, least)
        _write_resource(rest, there - least)
        return None

    def _cuDevResourceGenerateDesc(self, out: Any, source: int, count: int) -> None:
        out.value = source

    def _cuGreenCtxCreate(self, out: Any, description: int, device: int, flags: int) -> int | None:
        if self.green_left == 0:
            return INVALID
        self.green_left -= 1
        out.value = self._handle()
        self.blocks[out.value] = Block("green context")
        return None

    def _cuGreenCtxDestroy(self, green: int) -> None:
        self._take(green, "green context")

    def _cuGreenCtxStreamCreate(self, out: Any, green: int, flags: int, priority: int) -> None:
        assert self.blocks[green].kind == "green context"
        self._cuStreamCreateWithPriority(out, flags, priority)
        self.green_streams.append(out.value)

    def _break_capture(self, stream: int) -> None:
        """End a capture that gives no graph, as the driver does."""
        for one in self.streams.values():
            if one.captured_by == stream:
                one.captured_by = None
        del self.captures[stream], self._capturing[stream]

    # Devices

    def _cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> None:
        super()._cuDeviceGetAttribute(out, attribute, device)
        if attribute == 16:
            out.value = self._multiprocessors

    # Order

    def _enqueue(self, stream: int, op: Op) -> None:
        owner = self.streams[stream].captured_by
        if owner is not None:
            self._capturing[owner].append(op)
        else:
            self._queues[stream].ops.append(op)

    def _cuStreamCreateWithPriority(self, out: Any, flags: int, priority: int) -> None:
        super()._cuStreamCreateWithPriority(out, flags, priority)
        self._queues[out.value] = _Queue()

    def _cuStreamSynchronize(self, stream: int) -> int:
        code = super()._cuStreamSynchronize(stream)
        if code == OK:
            self._run(stream, len(self._queues[stream].ops))
        return code

    def _cuStreamQuery(self, stream: int) -> int:
        queue = self._queues[stream]
        return OK if queue.done == len(queue.ops) else NOT_READY

    def _cuStreamDestroy_v2(self, stream: int) -> None:
        self._run(stream, len(self._queues[stream].ops))
        super()._cuStreamDestroy_v2(stream)

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        super()._cuStreamWaitEvent(stream, event, flags)
        recorded = self._recorded.get(event)
        if recorded is not None and self.streams[stream].captured_by is None:
            self._queues[stream].ops.append(recorded)

    def _cuEventCreate(self, out: Any, flags: int) -> None:
        super()._cuEventCreate(out, flags)
        self._recorded[out.value] = None

    def _cuEventRecord(self, event: int, stream: int) -> None:
        super()._cuEventRecord(event, stream)
        if self.streams[stream].captured_by is None:
            self._recorded[event] = (stream, len(self._queues[stream].ops))

    def _cuEventQuery(self, event: int) -> int:
        recorded = self._recorded[event]
        if recorded is None:
            return OK
        stream, count = recorded
        if self._random.random() < 0.3:
            self._run(stream, count)
        if self._queues[stream].done < count:
            return NOT_READY
        super()._cuEventSynchronize(event)
        return OK

    def _cuEventSynchronize(self, event: int) -> None:
        super()._cuEventSynchronize(event)
        recorded = self._recorded[event]
        if recorded is not None:
            self._run(*recorded)

    def _run(self, stream: int, count: int) -> None:
        """Run a stream up to a place; others get on a little meanwhile, or not."""
        queue = self._queues[stream]
        while queue.done < count:
            assert not queue.busy, "streams wait for each other"
            if self._random.random() < 0.2:
                free = [q for q in self._queues if q != stream and self._can_go_on(q)]
                if free:
                    other = self._random.choice(free)
                    self._run(other, self._queues[other].done + 1)
                    continue
            op = queue.ops[queue.done]
            queue.busy = True
            if isinstance(op, tuple):
                self._run(*op)
            else:
                op()
            queue.busy = False
            queue.done += 1

    def _can_go_on(self, stream: int) -> bool:
        """Tell whether a stream's next work waits for nobody."""
        queue = self._queues[stream]
        if queue.busy or queue.done == len(queue.ops):
            return False
        op = queue.ops[queue.done]
        return not isinstance(op, tuple) or self._queues[op[0]].done >= op[1]

    # Memory

    def _cuMemAllocAsync(self, out: Any, n_bytes: int, stream: int) -> int:
        if n_bytes > self._memory - sum(b.n_bytes for b in self.blocks.values()):
            return OUT_OF_MEMORY
        space = np.full(n_bytes + 256, 0xFF, dtype=np.uint8)
        address = -(-int(space.ctypes.data) // 256) * 256
        space = space[address - space.ctypes.data :]
        self._spaces[address] = space
        out.value = address
        self.blocks[address] = Block("device", n_bytes)
        return OK

    def _cuMemFreeAsync(self, address: int, stream: int) -> None:
        super()._cuMemFreeAsync(address, stream)
        space = self._spaces[address]
        self._enqueue(stream, lambda: space.fill(0xFF))

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._copy(target, source, n, stream, now=not self._pinned(source))

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._copy(target, source, n, stream)

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, n: int, stream: int) -> None:
        self._copy(target, source, n, stream)

    def _cuMemsetD8Async(self, target: int, byte: int, n: int, stream: int) -> None:
        self._use(stream, [target])
        self._enqueue(stream, lambda: ctypes.memset(target, byte, n) and None)

    def _copy(self, target: int, source: int, n: int, stream: int, *, now: bool = False) -> None:
        self._use(stream, [target, source])
        if now:
            kept = ctypes.string_at(source, n)
            self._enqueue(stream, lambda: ctypes.memmove(target, kept, n) and None)
        else:
            self._enqueue(stream, lambda: ctypes.memmove(target, source, n) and None)

    def _pinned(self, address: int) -> bool:
        return self._block_of(address) is not None

    def _use(self, stream: int, addresses: list[int]) -> None:
        """Note uses, of addresses inside of blocks too."""
        starts = [self._block_of(a) for a in addresses]
        for address, start in zip(addresses, starts, strict=True):
            if start is None and any(
                first <= address < first + len(space) for first, space in self._spaces.items()
            ):
                self.faults.append(f"{address:#x} is used, and was freed")
        self._work(stream, [start for start in starts if start is not None])

    def _block_of(self, address: int) -> int | None:
        for start, block in self.blocks.items():
            size = block.n_bytes or (len(block.buffer) if block.kind == "host" else 0)
            if start <= address < start + max(size, 1):
                return start
        return None

    # Code

    def _cuModuleLoadData(self, out: Any, code: bytes) -> int:
        result = super()._cuModuleLoadData(out, code)
        self._codes[out.value] = code
        return result

    def _cuModuleGetFunction(self, out: Any, module: int, name: bytes) -> int:
        known = [kernel.symbol for kernel in read_cubin(self._codes[module]).kernels]
        if name.decode() not in known:
            return INVALID
        out.value = module + 1
        self._symbols[out.value] = name.decode()
        return OK

    def _launch(
        self, function: int, shape: list[int], shared: int, stream: int, pointers: Any,
        attributes: list[int],
    ) -> None:  # fmt: skip
        values = [ctypes.c_uint64.from_address(p).value for p in pointers]
        self.launches.append(
            {"shape": shape, "shared": shared, "values": values, "attributes": attributes}
        )
        self._use(stream, values)
        self._work(stream, [function - 1])
        job = JOBS[self._symbols[function]]
        self._enqueue(stream, lambda: self._compute(job, shape[0], values))

    def _compute(self, job: Job, programs: int, values: list[int]) -> None:
        import torch

        self.launched.append(job.function)
        found = getattr(import_module(job.module), job.function)
        kinds = (np.int64, np.int32, np.int32, np.int32)
        for value in values:
            assert value % 16 == 0, "an argument is not aligned"
        pointers = [
            torch.from_numpy(np.frombuffer((ctypes.c_char * 16).from_address(value), dtype=kind))
            for value, kind in zip(values, kinds, strict=True)
        ]
        constants = {name: value for name, value in job.constants if name != "OVERLAP"}
        if "WIDEN" in constants:
            constants["WIDEN"] = 1
        with np.errstate(all="ignore"), warnings.catch_warnings(), patched_once_a_module():
            warnings.simplefilter("ignore", RuntimeWarning)
            found[(programs,)](*pointers, **constants)

    # Graphs

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        code = super()._cuStreamBeginCapture_v2(stream, mode)
        if code == OK:
            self._capturing[stream] = []
        return code

    def _cuStreamEndCapture(self, stream: int, out: Any) -> None:
        super()._cuStreamEndCapture(stream, out)
        self._graph_ops[out.value] = self._capturing.pop(stream)

    def _cuGraphInstantiateWithFlags(self, out: Any, graph: int, flags: int) -> None:
        super()._cuGraphInstantiateWithFlags(out, graph, flags)
        self._graph_ops[out.value] = self._graph_ops[graph]

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:
        super()._cuGraphLaunch(graph, stream)
        for op in self._graph_ops[graph]:
            self._enqueue(stream, op)
