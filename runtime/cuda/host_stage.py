"""Stages without a kernel: their buffers come to the host, PyTorch or NumPy runs them, and back."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.memory import Memory
from fusec.runtime.cuda.lane import Lane
from fusec.runtime.cuda.memory import DeviceMemory, download, upload
from fusec.runtime.cuda.places import Place
from fusec.runtime.request import Choice
from fusec.runtime.tile.externs import RunExtern
from fusec.runtime.tile.layout import Class
from fusec.runtime.tile.reference import run_stage

__all__ = ["run_on_host"]

_ALIGN_BYTES = 64


def run_on_host(
    lane: Lane,
    memory: DeviceMemory,
    stage: Stage,
    cls: Class,
    choices: Sequence[Choice],
    place_of: Callable[[int], Place],
    run_extern: RunExtern,
) -> None:
    """Run one stage for all instances of a class; waits for the lane's stream twice.

    Args:
        lane: that runs.
        memory: of the lane.
        stage: what to run.
        cls: who.
        choices: of each of its requests.
        place_of: slot -> where its instances are in the lane's memory.
        run_extern: runs what PyTorch has to.

    Raises:
        KernelError: values are refused, or the driver fails.
    """
    buffers = cls.binding.code.lowered.buffers
    touched = sorted({v.slot for v in _views(stage)})
    moving = [s for s in touched if buffers[s].kind is not BufferKind.WEIGHT]
    starts, end = {}, 0
    for slot in moving:
        starts[slot] = end
        end += -(-place_of(slot).n_bytes * cls.instances // _ALIGN_BYTES) * _ALIGN_BYTES
    staging = lane.scratch.take(end)
    for slot in moving:
        place = place_of(slot)
        download(
            *(lane.stream, staging, memory, place.start),
            target_offset=starts[slot],
            n_bytes=place.n_bytes * cls.instances,
        )
    lane.stream.synchronize()
    flat = staging.window()
    for instance in range(cls.instances):
        choice = choices[cls.part_of(instance)]
        own: list[np.ndarray] = [np.empty(0, dtype=np.uint8)] * len(buffers)
        for slot in touched:
            own[slot] = _window(buffers[slot], choice, flat, starts, slot, instance, place_of)
        run_stage(stage, Memory(own, cls.binding.symbols), run_extern)
    for slot in {view.slot for view in stage.writes}:
        place = place_of(slot)
        upload(
            *(lane.stream, memory, staging, place.start),
            source_offset=starts[slot],
            n_bytes=place.n_bytes * cls.instances,
        )
    # The next such stage has the same staging memory.
    lane.stream.synchronize()


def _window(
    buffer: Buffer,
    choice: Choice,
    flat: np.ndarray,
    starts: Mapping[int, int],
    slot: int,
    instance: int,
    place_of: Callable[[int], Place],
) -> np.ndarray:
    dtype = numpy_dtype(buffer.dtype)
    if buffer.kind is BufferKind.WEIGHT:
        return np.frombuffer(choice.weights[buffer.index].data, dtype=dtype)
    n_bytes = place_of(slot).n_bytes
    first = starts[slot] + instance * n_bytes
    return flat[first : first + n_bytes].view(dtype)


def _views(stage: Stage) -> list[View]:
    point = stage.point.operands if stage.point else ()
    extern = _operands([o for _, o in stage.extern.operands]) if stage.extern else []
    return [v for v in (*stage.reads, *stage.writes, *point, *extern) if v is not None]


def _operands(operands: Sequence[object]) -> list[View]:
    found: list[View] = []
    for operand in operands:
        if isinstance(operand, View):
            found.append(operand)
        elif isinstance(operand, tuple):
            found += _operands(operand)
    return found
