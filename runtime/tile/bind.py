"""A template's code for one set of extents: all integers."""

from collections.abc import Mapping

import numpy as np

from fusec.ir.stage import BufferKind
from fusec.runtime.tile.arena import plan_arena
from fusec.runtime.tile.code import TemplateCode

__all__ = ["Binding"]

_FLOPS_PER_NS, _BYTES_PER_NS, _START_NS = 60.0, 15.0, 100.0
"""A rough core, for cutting tasks only; what is promised to anybody comes from profiles."""


class Binding:
    """Words, ranges, costs and arena offsets. Immutable; shared by all programs that use it."""

    def __init__(self, code: TemplateCode, symbols: Mapping[str, int]) -> None:
        """Evaluate the template's extents; cost: microseconds per distinct extent."""
        self.code = code
        self.symbols = dict(symbols)
        values = code.values(symbols)
        self.words = values[code.word_numbers]
        self.word_address = self.words.ctypes.data
        facts = values[code.facts].reshape(len(code.stages), -1)
        self.items, self.items2 = facts[:, 0].tolist(), facts[:, 1].tolist()
        flops, moved = facts[:, 2], facts[:, 3] + facts[:, 4]
        self.cost_ns = (
            _START_NS + np.maximum(flops / _FLOPS_PER_NS, moved / _BYTES_PER_NS)
        ).tolist()
        """Of each stage of one instance, roughly."""
        self.flops, self.moved_bytes = flops.tolist(), moved.tolist()
        self.scratch_bytes = int(facts[:, 5].max(initial=0))
        self.sizes = values[code.sizes]
        """Bytes of each buffer."""
        offsets, self.arena_bytes = plan_arena(code.lifetimes, self.sizes.tolist())
        self.arena_slots = np.array(sorted(offsets), dtype=np.int64)
        self.arena_offsets = np.array([offsets[s] for s in sorted(offsets)], dtype=np.int64)
        self.weight_bytes = int(
            sum(
                size
                for size, buffer in zip(self.sizes.tolist(), code.lowered.buffers, strict=True)
                if buffer.kind is BufferKind.WEIGHT
            )
        )

    @property
    def instance_ns(self) -> float:
        """Cost of one instance, roughly."""
        return float(sum(self.cost_ns))
