"""Where an instance list's buffers are in a lane's memory: all but weights.

    | inputs of all classes | outputs of all classes | arenas of all classes |

Instances of a class have their copies of a buffer one after another, so that what lies as one is
one row of a table. An arena of n instances is that of one with every offset and size n times.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.tile.layout import Class

__all__ = ["Place", "Places", "place"]

_ALIGN_BYTES = 256
"""Of each block: what the widest loads want."""


@dataclass(frozen=True, slots=True)
class Place:
    """A buffer of all instances of a class."""

    slot: int
    start: int
    """Byte in the lane's memory."""
    n_bytes: int
    """Of one instance."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Of all classes of an instance list."""

    inputs: tuple[tuple[Place, ...], ...]
    """By class, in the template's order."""
    outputs: tuple[tuple[Place, ...], ...]
    arenas: tuple[tuple[Place, ...], ...]
    offsets: tuple[np.ndarray, ...]
    """By class: [instances, slots] int64, where each buffer is; 0 for weights."""
    moving: tuple[np.ndarray, ...]
    """By class: [slots] int64, 1 where a buffer is in the lane's memory, 0 for weights."""
    input_bytes: int
    """Inputs are the bytes before this; the first one is byte 0."""
    output_start: int
    output_bytes: int
    n_bytes: int

    def of(self, cls: int, slot: int) -> Place:
        """Give the place of a buffer that is no weight.

        Raises:
            KeyError: there is none.
        """
        for place in (*self.inputs[cls], *self.outputs[cls], *self.arenas[cls]):
            if place.slot == slot:
                return place
        raise KeyError(slot)


def place(classes: Sequence[Class]) -> Places:
    """Lay out buffers.

    Args:
        classes: of an instance list.
    """
    end = 0

    def take(cls: Class, slots: Sequence[int]) -> tuple[Place, ...]:
        nonlocal end
        found = []
        for slot in slots:
            n_bytes = int(cls.binding.sizes[slot])
            found.append(Place(slot, end, n_bytes))
            end = _up(end + cls.instances * n_bytes)
        return tuple(found)

    inputs = tuple(take(cls, cls.binding.code.lowered.inputs) for cls in classes)
    output_start = end
    outputs = tuple(take(cls, cls.binding.code.lowered.outputs) for cls in classes)
    arena_start = end
    arenas = []
    for cls in classes:
        binding = cls.binding
        arenas.append(
            tuple(
                Place(slot, end + cls.instances * offset, int(binding.sizes[slot]))
                for slot, offset in zip(
                    binding.arena_slots.tolist(), binding.arena_offsets.tolist(), strict=True
                )
            )
        )
        end = _up(end + cls.instances * binding.arena_bytes)
    offsets, moving = [], []
    for cls, *own in zip(classes, inputs, outputs, arenas, strict=True):
        slots = len(cls.binding.code.lowered.buffers)
        table = np.zeros((cls.instances, slots), dtype=np.int64)
        moves = np.zeros(slots, dtype=np.int64)
        steps = np.arange(cls.instances, dtype=np.int64)
        for one in itertools.chain(*own):
            table[:, one.slot] = one.start + steps * one.n_bytes
            moves[one.slot] = 1
        offsets.append(table)
        moving.append(moves)
    return Places(
        inputs=inputs,
        outputs=outputs,
        arenas=tuple(arenas),
        offsets=tuple(offsets),
        moving=tuple(moving),
        input_bytes=output_start,
        output_start=output_start,
        output_bytes=arena_start - output_start,
        n_bytes=end,
    )


def _up(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
