"""The plain executor: stage after stage, instance after instance, in NumPy. Tests compare with it.

Same interface as `NativeExecutor`, same stages, same packed weights; no kernels, threads or arenas.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.stage import Buffer, BufferKind, Lowered, Stage
from fusec.ir.template import Template
from fusec.kernels.memory import Memory
from fusec.kernels.table import TILE_OPS
from fusec.runtime.extern import run_extern
from fusec.runtime.request import Choice
from fusec.runtime.tile.executor import NativeRequest, Wanted
from fusec.runtime.tile.externs import RunExtern

__all__ = ["ReferenceExecutor", "run_stage"]

Answers = list[tuple[np.ndarray, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    executor: "ReferenceExecutor"
    wanted: tuple[Wanted, ...]

    def run(
        self, inputs: Sequence[Sequence[np.ndarray]], addresses: np.ndarray | None = None
    ) -> Answers:
        """Answer every request, in order."""
        del addresses
        return [self.executor.answer(w, i) for w, i in zip(self.wanted, inputs, strict=True)]


class ReferenceExecutor:
    """Runs instances of any templates."""

    def __init__(self, lowered: Callable[[Template], Lowered]) -> None:
        """Take the way from a template to its stages."""
        self._lowered = lowered

    def run(self, requests: Sequence[NativeRequest]) -> Answers:
        """Answer each request, in order."""
        return [self.answer(Wanted(r.choice, r.rows, r.extents), r.inputs) for r in requests]

    def prepare(self, wanted: Sequence[Wanted]) -> _Planned:
        """Take an instance list; there is nothing to plan."""
        return _Planned(self, tuple(wanted))

    def forget(self, choices: Sequence[Choice]) -> None:
        """Do nothing: nothing is kept."""

    def answer(self, wanted: Wanted, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Answer one request.

        Raises:
            KernelError: PyTorch refuses the values of an extern stage.
        """
        template = wanted.choice.template
        if wanted.rows is None:
            return self._instance(wanted, inputs)
        answers = []
        for row in range(wanted.rows):
            own = [
                array if axis is None else array.take([row], axis)
                for array, axis in zip(inputs, template.input_axes, strict=True)
            ]
            answers.append(self._instance(wanted, own))
        return tuple(
            parts[0] if axis is None else np.concatenate(parts, axis)
            for parts, axis in zip(zip(*answers, strict=True), template.output_axes, strict=True)
        )

    def _instance(self, wanted: Wanted, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        lowered = self._lowered(wanted.choice.template)
        symbols = wanted.extents
        buffers = [_buffer(b, wanted, inputs) for b in lowered.buffers]
        memory = Memory(buffers, symbols)
        for stage in lowered.stages:
            run_stage(stage, memory)
        return tuple(
            buffers[slot].reshape([value(e, symbols) for e in shape])
            for slot, shape in zip(lowered.outputs, lowered.output_shapes, strict=True)
        )


def run_stage(stage: Stage, memory: Memory, run_extern: RunExtern = run_extern) -> None:
    """Run a stage for one instance, in place.

    Args:
        stage: what to run.
        memory: of the instance.
        run_extern: runs what PyTorch has to.

    Raises:
        KernelError: PyTorch refuses the values of an extern stage.
    """
    if stage.extern is not None:
        run_extern(stage.extern, memory.array, stage.writes, memory.symbols)
    else:
        folder = TILE_OPS[stage.op]
        import_module(f"{folder.package}.{folder.reference}").run(stage, memory)


def _buffer(buffer: Buffer, wanted: Wanted, inputs: Sequence[np.ndarray]) -> np.ndarray:
    dtype = numpy_dtype(buffer.dtype)
    if buffer.kind is BufferKind.INPUT:
        return np.ascontiguousarray(inputs[buffer.index]).reshape(-1)
    if buffer.kind is BufferKind.WEIGHT:
        return np.frombuffer(wanted.choice.weights[buffer.index].data, dtype)
    # All bits set: NaN in every float, so that what is read before it is written shows.
    elements = value(buffer.elements, wanted.extents)
    return np.full(elements * dtype.itemsize, 0xFF, np.uint8).view(dtype)
