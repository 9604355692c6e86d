"""Inputs into address tables, outputs out of blocks: where rows of requests meet instances."""

import itertools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.frozen import dataclass
from fusec.ir.template import Template
from fusec.runtime.tile.layout import Class

__all__ = ["Memory", "Ports", "input_rows"]

_OWN_MEMORY_BYTES = 1 << 16

Memory: TypeAlias = "np.ndarray | list[np.ndarray]"
"""An output of a class: [instances, ...], or one such array per request."""


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

    def enter_outputs(self, block: np.ndarray, *, together: bool) -> list[Memory]:
        """Allocate memory for every output, instances one after another, and enter addresses.

        Small answers of all requests share one block; a large one has memory of its own, so that
        keeping it does not keep all others alive.

        Args:
            block: the class's rows of the address tables.
            together: some group spans requests, so that their outputs have to lie together.
        """
        given: list[Memory] = []
        for slot, size, out in zip(
            self.output_slots, self._output_bytes, self._outputs, strict=True
        ):
            if together or size < _OWN_MEMORY_BYTES or len(self.rows) == 1:
                memory = np.empty((self.cls.instances, *out.shape), dtype=out.dtype)
                block[:, :, slot] = memory.ctypes.data + self._steps * size
                given.append(memory)
                continue
            counts = np.diff(self.cls.starts).tolist()
            own = [np.empty((n, *out.shape), dtype=out.dtype) for n in counts]
            starts = np.array([m.ctypes.data for m in own], dtype=np.int64)
            block[:, :, slot] = starts[self._part_of] + self._step_in_part * size
            given.append(own)
        return given

    def answers(self, outputs: Sequence[Memory]) -> list[tuple[np.ndarray, ...]]:
        """Give each request's outputs, rows joined along their batch axes."""
        if not outputs:
            return [()] * len(self.rows)
        if self._single:
            return list(zip(*map(_first_of_each, outputs), strict=True))
        parts = [self._by_part(memory) for memory in outputs]
        return [
            tuple(
                _joined(part[i], out.axis, rows)
                for part, out in zip(parts, self._outputs, strict=True)
            )
            for i, rows in enumerate(self.rows)
        ]

    def _by_part(self, memory: Memory) -> list[np.ndarray]:
        if isinstance(memory, list):
            return memory
        starts = self.cls.starts
        return [memory[a:b] for a, b in itertools.pairwise(starts)]


def _first_of_each(memory: Memory) -> "list[np.ndarray] | np.ndarray":
    """Give the first instance of each request, as arrays even if they have no axes."""
    if isinstance(memory, list):
        return [own[0, ...] for own in memory]
    return memory if memory.ndim > 1 else [memory[i, ...] for i in range(len(memory))]


def _joined(instances: np.ndarray, axis: int | None, rows: int | None) -> np.ndarray:
    if rows is None or axis is None or rows == 1:
        first: np.ndarray = instances[0, ...]  # an array even if it has no axes
        return first
    if axis == 0:
        return instances.reshape(rows * instances.shape[1], *instances.shape[2:])
    joined: np.ndarray = np.concatenate(list(instances), axis=axis)
    return joined
