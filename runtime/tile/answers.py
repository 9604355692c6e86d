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

    def __init__(
        self,
        cls: Class,
        template: Template,
        rows: Sequence[int | None],
        joins: Sequence[tuple[int, int]],
    ) -> None:
        """Work out shapes.

        Args:
            cls: the class.
            template: of all its requests.
            rows: of each request in the class's order; None: the request runs whole.
            joins: first and end of requests whose inputs and outputs have to lie together.
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
        self._firsts = np.array(cls.starts, dtype=np.int64)
        self._joins = tuple(joins)
        self._in_place = self._single or all(axis == 0 for axis in template.input_axes)
        """Inputs can be read where the caller has them."""

    def enter_inputs(
        self,
        block: np.ndarray,
        requests: Sequence[Sequence[np.ndarray]],
        addresses: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Enter addresses of all inputs.

        Args:
            block: the class's rows of the address tables.
            requests: inputs of each request in the class's order, C-contiguous.
            addresses: [requests, inputs] of the same, if the caller has them already.

        Returns:
            What must stay alive until the run ends, the requests' own arrays left out.
        """
        held: list[np.ndarray] = []
        for i, slot in enumerate(self.input_slots):
            rows: list[np.ndarray] = []
            if addresses is not None and self._in_place:
                starts = addresses[:, i]
            else:
                rows = [self._rows_of(requests, p, i) for p in range(len(self.rows))]
                starts = np.array([a.ctypes.data for a in rows], dtype=np.int64)
                held += rows
            size = self._input_bytes[i]
            for a, b in self._joins:
                own = rows[a:b] or [self._rows_of(requests, p, i) for p in range(a, b)]
                together = np.concatenate([array.reshape(-1) for array in own])
                starts[a:b] = together.ctypes.data + size * (self._firsts[a:b] - self._firsts[a])
                held.append(together)
            self._enter(block, slot, starts, size)
        return held

    def enter_outputs(self, block: np.ndarray) -> list[Memory]:
        """Allocate memory for every output, instances one after another, and enter addresses.

        Small answers of all requests share one block; a large one has memory of its own, so that
        keeping it does not keep all others alive.

        Args:
            block: the class's rows of the address tables.
        """
        given: list[Memory] = []
        for slot, size, out in zip(
            self.output_slots, self._output_bytes, self._outputs, strict=True
        ):
            if size < _OWN_MEMORY_BYTES or len(self.rows) == 1:
                memory = np.empty((self.cls.instances, *out.shape), dtype=out.dtype)
                block[:, :, slot] = memory.ctypes.data + self._steps * size
                given.append(memory)
                continue
            own = self._own_memory(out)
            starts = np.array([m.ctypes.data for m in own], dtype=np.int64)
            self._enter(block, slot, starts, size)
            given.append(own)
        return given

    def _rows_of(
        self, requests: Sequence[Sequence[np.ndarray]], part: int, number: int
    ) -> np.ndarray:
        array = requests[part][number]
        return input_rows(array, self.input_axes[number], self.rows[part] or 1)

    def _enter(self, block: np.ndarray, slot: int, starts: np.ndarray, size: int) -> None:
        if self._single:
            block[:, :, slot] = starts
        else:
            block[:, :, slot] = starts[self._part_of] + self._step_in_part * size

    def _own_memory(self, out: _Output) -> list[np.ndarray]:
        """Allocate an output request by request; those that are joined get parts of one array."""
        counts = np.diff(self.cls.starts).tolist()
        own: list[np.ndarray] = []
        for a, b in (*self._joins, (len(counts), len(counts))):
            own += [np.empty((n, *out.shape), dtype=out.dtype) for n in counts[len(own) : a]]
            if b > a:
                together = np.empty((sum(counts[a:b]), *out.shape), dtype=out.dtype)
                own += np.split(together, np.cumsum(counts[a : b - 1]))
        return own

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
