"""A template's stages as native code wants them: words, ranges, costs; extents still symbolic."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

import numpy as np

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, value
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Buffer, BufferKind, Lowered, Stage, TileOp
from fusec.kernels.encoded import Encoded, weights_of
from fusec.kernels.table import TILE_OPS
from fusec.runtime.tile.soon import soon_words

__all__ = ["EXTERN", "Lifetime", "TemplateCode", "encode_stage"]

EXTERN = "extern"
"""Stands for a kernel's name where PyTorch is called."""


def encode_stage(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a stage by its operation's folder; an extern stage is one item that costs unknown."""
    if stage.op is not TileOp.EXTERN:
        module = import_module(f"{TILE_OPS[stage.op].package}.encode")
        encoded: Encoded = module.encode(stage, buffers)
        return encoded
    return Encoded(
        kernel=EXTERN,
        words=(0, 0),
        items=1,
        items2=1,
        grain=1,
        grain2=1,
        flat=False,
        flops=0,
        read_bytes=sum((_bytes(v.shape, v.dtype) for v in stage.reads), start=0),
        written_bytes=sum((_bytes(v.shape, v.dtype) for v in stage.writes), start=0),
        scratch_bytes=0,
    )


def _bytes(shape: Sequence[Extent], dtype: str) -> Extent:
    total: Extent = itemsize_bytes(dtype)
    for extent in shape:
        total = total * extent
    return total


Encoder = Callable[[Stage, Sequence[Buffer]], Encoded]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Stages from the first that writes an arena buffer to the last that touches it."""

    slot: int
    first: int
    last: int


class TemplateCode:
    """What is the same for all extents: made once per template.

    Every extent that occurs in any word, range or cost has one number; binding evaluates each
    once and gathers.
    """

    def __init__(self, lowered: Lowered, encode: Encoder = encode_stage) -> None:
        """Encode all stages."""
        self.lowered = lowered
        self.stages = tuple(encode(s, lowered.buffers) for s in lowered.stages)
        self.weights = tuple(tuple(sorted(weights_of(s, lowered.buffers))) for s in lowered.stages)
        """Slots of the weights that each stage reads."""
        self.lifetimes = _lifetimes(lowered)
        self.externs = tuple(i for i, s in enumerate(self.stages) if s.kernel == EXTERN)
        numbers: dict[Extent, int] = {}

        def number(extent: Extent) -> int:
            return numbers.setdefault(extent, len(numbers))

        self.word_numbers = np.array(
            [number(w) for s in self.stages for w in s.words], dtype=np.int64
        )
        lengths = [len(s.words) for s in self.stages]
        self.word_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        """First word of each stage, and the end."""
        self.facts = np.array(
            [[number(getattr(s, field)) for field in _FACTS] for s in self.stages],
            dtype=np.int64,
        ).reshape(len(self.stages), len(_FACTS))
        self.sizes = np.array(
            [number(b.elements * itemsize_bytes(b.dtype)) for b in lowered.buffers],
            dtype=np.int64,
        )
        self.extents = tuple(numbers)
        self.soon, self.soon_starts = soon_words(
            self.weights, [_weight_bytes(b) for b in lowered.buffers]
        )
        """What each stage's tasks fetch ahead, and where its words start."""

    def values(self, symbols: Mapping[str, int]) -> np.ndarray:
        """Evaluate every extent once."""
        return np.array([value(e, symbols) for e in self.extents], dtype=np.int64)


_FACTS = ("items", "items2", "flops", "read_bytes", "written_bytes", "scratch_bytes")


def _weight_bytes(buffer: Buffer) -> int:
    if buffer.kind is not BufferKind.WEIGHT or not isinstance(buffer.elements, int):
        return 0
    return buffer.elements * itemsize_bytes(buffer.dtype)


def _touched(stage: Stage) -> set[int]:
    point = stage.point.operands if stage.point else ()
    return {v.slot for v in (*stage.reads, *stage.writes, *point) if v is not None}


def _lifetimes(lowered: Lowered) -> tuple[Lifetime, ...]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, stage in enumerate(lowered.stages):
        for slot in _touched(stage):
            if lowered.buffers[slot].kind is BufferKind.ARENA:
                first.setdefault(slot, i)
                last[slot] = i
    return tuple(Lifetime(slot, first[slot], last[slot]) for slot in sorted(first))
