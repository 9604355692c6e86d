"""Inputs into address tables, outputs out of blocks: where rows of requests meet instances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.template import Template
from fusec.runtime.tile.layout import Class

__all__ = ["Ports", "input_rows"]


def input_rows(array: np.ndarray, axis: int | None, count: int) -> np.ndarray:
    """Give an input's instances one after another in memory: the array itself if it is so.

    Args:
        array: C-contiguous, as the request has it.
        axis: its batch axis; None: every instance gets all of it.
        count: instances.
    """
    if count == 1 or axis == 0:
        return array
    if axis is None:
        return np.ascontiguousarray(np.broadcast_to(array, (count, *array.shape)))
    return np.ascontiguousarray(np.moveaxis(array, axis, 0))


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    axis: int | None


class Ports:
    """The inputs and outputs of one class of requests."""

    def __init__(self, cls: Class, template: Template, rows: Sequence[int | None]) -> None:
        """Work out shapes.

        Args:
            cls: the class.
            template: of all its requests.
            rows: of each request in the class's order; None: the request runs whole.
        """
        lowered, symbols = cls.binding.code.lowered, cls.binding.symbols
        self.cls, self.rows = cls, tuple(rows)
        self.input_axes = template.input_axes
        self.input_slots, self.output_slots = lowered.inputs, lowered.outputs
        self._input_bytes = [int(cls.binding.sizes[slot]) for slot in lowered.inputs]
        self._steps = np.arange(cls.instances, dtype=np.int64)
        self._output_bytes = [int(cls.binding.sizes[slot]) for slot in lowered.outputs]
        self._outputs = [
            _Output(
                numpy_dtype(lowered.buffers[slot].dtype),
                tuple(value(e, symbols) for e in shape),
                axis,
            )
            for slot, shape, axis in zip(
                lowered.outputs, lowered.output_shapes, template.output_axes, strict=True
            )
        ]
        self._single = all(n is None or n == 1 for n in rows)
        counts = np.diff(cls.starts)
        first = np.repeat(np.asarray(cls.starts[:-1], dtype=np.int64), counts)
        self._part_of = np.repeat(np.arange(len(rows)), counts)
        self._step_in_part = self._steps - first
        self.in_place = self._single or all(axis == 0 for axis in template.input_axes)
        """Inputs can be read where the caller has them."""

    def enter_addresses(self, block: np.ndarray, addresses: np.ndarray) -> None:
        """Enter inputs that are read where they are.

        Args:
            block: the class's rows of the address tables.
            addresses: [requests of the class, inputs].
        """
        for i, slot in enumerate(self.input_slots):
            own = addresses[:, i]
            if not self._single:
                own = own[self._part_of] + self._step_in_part * self._input_bytes[i]
            block[:, :, slot] = own

    def enter_inputs(
        self, block: np.ndarray, requests: Sequence[Sequence[np.ndarray]], *, together: bool
    ) -> list[np.ndarray]:
        """Enter addresses of all inputs.

        Args:
            block: the class's rows of the address tables.
            requests: inputs of each request in the class's order, C-contiguous.
            together: some group spans requests, so that their inputs have to lie together.

        Returns:
            What must stay alive until the run ends.
        """
        held: list[np.ndarray] = []
        for i, slot in enumerate(self.input_slots):
            size = self._input_bytes[i]
            arrays = [
                input_rows(given[i], self.input_axes[i], n or 1)
                for given, n in zip(requests, self.rows, strict=True)
            ]
            if together and len(arrays) > 1:
                arrays = [np.concatenate([a.reshape(-1) for a in arrays])]
            held += arrays
            if len(arrays) == 1:
                block[:, :, slot] = arrays[0].ctypes.data + self._steps * size
            else:
                starts = np.array([a.ctypes.data for a in arrays], dtype=np.int64)
                block[:, :, slot] = starts[self._part_of] + self._step_in_part * size
        return held

    def enter_outputs(self, block: np.ndarray) -> list[np.ndarray]:
        """Allocate a block per output, instances one after another, and enter the addresses."""
        blocks = []
        for slot, size, out in zip(
            self.output_slots, self._output_bytes, self._outputs, strict=True
        ):
            memory = np.empty((self.cls.instances, *out.shape), dtype=out.dtype)
            block[:, :, slot] = memory.ctypes.data + self._steps * size
            blocks.append(memory)
        return blocks

    def answers(self, blocks: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        """Give each request's outputs, rows joined along their batch axes."""
        if self._single:
            if not blocks:
                return [()] * len(self.rows)
            each = [
                m if out.shape else [m[i, ...] for i in range(len(m))]
                for m, out in zip(blocks, self._outputs, strict=True)
            ]
            return list(zip(*each, strict=True))
        starts = self.cls.starts
        return [
            tuple(
                _joined(memory[a:b], out.axis, rows)
                for memory, out in zip(blocks, self._outputs, strict=True)
            )
            for a, b, rows in zip(starts[:-1], starts[1:], self.rows, strict=True)
        ]


def _joined(instances: np.ndarray, axis: int | None, rows: int | None) -> np.ndarray:
    if rows is None or axis is None or rows == 1:
        first: np.ndarray = instances[0, ...]  # an array even if it has no axes
        return first
    if axis == 0:
        return instances.reshape(rows * instances.shape[1], *instances.shape[2:])
    joined: np.ndarray = np.concatenate(list(instances), axis=axis)
    return joined
