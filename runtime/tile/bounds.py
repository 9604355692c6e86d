"""Prove that the kernels of a lowered template stay inside its buffers, for one set of extents.

A plan file says what its templates compute, and a file may lie. What reaches native code is
therefore checked as integers, whatever the lowering believed: every view lies inside its buffer,
results go to no input or weight, and the views of a stage fit each other as its kernel takes for
granted.
"""

from collections.abc import Mapping

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.errors import VerifyError
from fusec.ir.extents import Extent, Poly, value
from fusec.ir.stage import BufferKind, Lowered, Stage, View
from fusec.runtime.tile.relations import Fit, Shaped, check_relations

__all__ = ["check_bounds"]

_MAX = 1 << 46
"""Bytes of a buffer or a stride: sums of a few fit 64 bits, and no memory is larger."""


def check_bounds(lowered: Lowered, symbols: Mapping[str, int]) -> None:
    """Check every view of every stage against its buffer.

    Args:
        lowered: a template's stages.
        symbols: value of every symbol.

    Raises:
        VerifyError: a stage would reach outside its buffers.

    Cost: about 5 us per view; extents are computed once each.
    """
    _Check(lowered, symbols).run()


class _Check:
    def __init__(self, lowered: Lowered, symbols: Mapping[str, int]) -> None:
        self._lowered, self._symbols = lowered, symbols
        self._values: dict[Poly, int] = {}
        self._views: dict[int, tuple[View, Shaped]] = {}
        self._elements: list[int] = []

    def run(self) -> None:
        for slot, buffer in enumerate(self._lowered.buffers):
            elements = self._int(buffer.elements)
            if not 0 <= elements * itemsize_bytes(buffer.dtype) <= _MAX:
                raise VerifyError(f"buffer {slot} has {elements} elements")
            self._elements.append(elements)
        for number, stage in enumerate(self._lowered.stages):
            try:
                self._stage(stage)
            except Fit as e:
                raise VerifyError(
                    f"stage {number} ({stage.op}, row {stage.rows}) does not fit its memory: {e}; "
                    "the plan file is damaged, or this is a bug in fusec"
                ) from e

    def _int(self, extent: Extent) -> int:
        if isinstance(extent, int):
            return extent
        known = self._values.get(extent)
        if known is None:
            known = self._values[extent] = value(extent, self._symbols)
        return known

    def _stage(self, stage: Stage) -> None:
        reads = [self._view(v) for v in stage.reads]
        writes = [self._view(v) for v in stage.writes]
        operands = [
            None if v is None else self._view(v)
            for v in (stage.point.operands if stage.point else ())
        ]
        for view in stage.writes:
            if self._lowered.buffers[view.slot].kind in (BufferKind.INPUT, BufferKind.WEIGHT):
                raise Fit("it writes to an input or a weight")
        check_relations(stage, reads, writes, operands, self._point_shape(stage))

    def _point_shape(self, stage: Stage) -> tuple[int, ...]:
        return tuple(map(self._int, stage.point.shape)) if stage.point else ()

    def _view(self, view: View) -> Shaped:
        # Views are shared between stages; by identity, since hashing one costs more.
        known = self._views.get(id(view))
        if known is None:
            known = self._views[id(view)] = (view, self._checked(view))
        return known[1]

    def _checked(self, view: View) -> Shaped:
        if not 0 <= view.slot < len(self._elements):
            raise Fit(f"there is no buffer {view.slot}")
        if self._lowered.buffers[view.slot].dtype != view.dtype:
            raise Fit(f"buffer {view.slot} is not {view.dtype}")
        if len(view.shape) != len(view.strides):
            raise Fit(f"a view of buffer {view.slot} has shape and strides of other ranks")
        shape = tuple(map(self._int, view.shape))
        strides = tuple(map(self._int, view.strides))
        low = high = self._int(view.offset)
        for extent, stride in zip(shape, strides, strict=True):
            if extent < 0 or abs(stride) > _MAX:
                raise Fit(f"a view of buffer {view.slot} has extent {extent}, stride {stride}")
            low += min(0, (extent - 1) * stride)
            high += max(0, (extent - 1) * stride)
        elements = self._elements[view.slot]
        if 0 not in shape and not 0 <= low <= high < elements:
            raise Fit(f"elements {low} to {high} of buffer {view.slot}, which has {elements}")
        return Shaped(shape, strides, elements)
