"""Lowered templates built by hand, and run stage by stage on whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from fusec_testing.stages import run_native, run_reference

from fusec.ir.extents import Extent, product, value
from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    Lowered,
    PointProgram,
    PointStep,
    Stage,
    TileOp,
    View,
    dense,
    packed_elements,
)
from fusec.kernels.memory import Memory
from fusec.passes.lower.builder import reshape_view

__all__ = ["F32", "Graph", "interpret", "orderly", "part", "reshaped", "spread", "turned"]

F32 = "float32"
Shape = Sequence[Extent | str]


class Graph:
    """Builds a lowered template by hand."""

    def __init__(self, symbols: dict[str, int] | None = None) -> None:
        self.buffers: list[Buffer] = []
        self.stages: list[Stage] = []
        self.symbols = symbols or {}

    def buffer(self, kind: BufferKind, shape: Shape, dtype: str = F32) -> View:
        view = dense(len(self.buffers), dtype, tuple(shape))
        index = sum(b.kind is kind for b in self.buffers) if kind is not BufferKind.ARENA else -1
        self.buffers.append(
            Buffer(kind=kind, dtype=dtype, elements=product(view.shape), index=index)
        )
        return view

    def input(self, *shape: Extent | str) -> View:
        return self.buffer(BufferKind.INPUT, shape)

    def weight(self, *shape: Extent | str) -> View:
        return self.buffer(BufferKind.WEIGHT, shape)

    def arena(self, *shape: Extent | str, dtype: str = F32) -> View:
        return self.buffer(BufferKind.ARENA, shape, dtype)

    def emit(self, op: TileOp, reads: Sequence[View], write: View, **given: object) -> View:
        parts = {"point": None, "extern": None, "attrs": (), "rows": (len(self.stages),), **given}
        self.stages.append(Stage(op=op, reads=tuple(reads), writes=(write,), **parts))  # type: ignore[arg-type]
        return write

    def point(self, op: str, *operands: View, into: View | None = None, dtype: str = F32) -> View:
        shape = operands[0].shape
        loads = tuple(spread(o, shape) for o in operands)
        step = PointStep(f"{op}_f32", tuple(range(len(loads))), dtype, None)
        program = PointProgram(shape=shape, operands=loads, steps=(step,), results=(len(loads),))
        write = self.arena(*shape, dtype=dtype) if into is None else into
        return self.emit(TileOp.POINTWISE, (), write, point=program)

    def gemm(self, a: View, n: int) -> View:
        k = int(str(a.shape[1]))
        layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=16)
        b = self.weight(packed_elements(layout))
        if a.shape[1] != 1 and a.strides[1] != 1:
            a = self.copy(a)
        attrs = (("k", k), ("n", n), ("nr", 16))
        return self.emit(TileOp.GEMM, (a, b), self.arena(a.shape[0], n), attrs=attrs)

    def pool(self, x: View, into: View | None = None) -> View:
        return self.emit(TileOp.POOL, (x,), self.arena(*x.shape) if into is None else into)

    def copy(self, x: View, into: View | None = None) -> View:
        return self.emit(TileOp.COPY, (x,), self.arena(*x.shape) if into is None else into)

    def lowered(self, *results: View) -> Lowered:
        outputs = []
        for result in results:
            out = self.buffer(BufferKind.OUTPUT, result.shape, result.dtype)
            self.copy(result, out)
            outputs.append(out.slot)
        slots = {
            kind: tuple(i for i, b in enumerate(self.buffers) if b.kind is kind)
            for kind in BufferKind
        }
        return Lowered(
            buffers=tuple(self.buffers),
            stages=tuple(self.stages),
            inputs=slots[BufferKind.INPUT],
            outputs=tuple(outputs),
            output_shapes=tuple(tuple(r.shape) for r in results),
            weights=slots[BufferKind.WEIGHT],
            layouts=(),
            weight_shapes=(),
        )


def spread(view: View, shape: Sequence[Extent]) -> View:
    """Broadcast a view from the right."""
    extra = len(shape) - len(view.shape)
    have = (1,) * extra + view.shape
    strides = (0,) * extra + view.strides
    steps = tuple(
        0 if h == 1 and w != 1 else s for h, w, s in zip(have, shape, strides, strict=True)
    )
    return View(view.slot, view.dtype, tuple(shape), steps, view.offset)


def turned(view: View, *order: int) -> View:
    return replace(
        view,
        shape=tuple(view.shape[i] for i in order),
        strides=tuple(view.strides[i] for i in order),
    )


def part(view: View, axis: int, first: int, extent: int) -> View:
    shape = (*view.shape[:axis], extent, *view.shape[axis + 1 :])
    return replace(view, shape=shape, offset=view.offset + view.strides[axis] * first)


def reshaped(view: View, *shape: Extent) -> View:
    seen = reshape_view(view, shape)
    assert seen is not None
    return seen


def interpret(
    lowered: Lowered, symbols: dict[str, int], *, native: bool = False
) -> list[np.ndarray]:
    """Run stages in order, those of programs and products through their kernels."""
    rng = np.random.default_rng(0)
    flat = []
    for b in lowered.buffers:
        n = value(b.elements, symbols)
        given = b.kind in (BufferKind.INPUT, BufferKind.WEIGHT)
        numbers = rng.integers(-4, 5, n) if given else np.full(n, 999)
        flat.append(numbers.astype(bool if b.dtype == "bool" else np.float32))
    memory = Memory(flat, symbols)
    for s in lowered.stages:
        if s.op in (TileOp.GEMM, TileOp.POINTWISE):
            if native:
                run_native(s, lowered.buffers, flat, symbols=symbols)
            else:
                run_reference(s, flat, symbols)
        else:
            factor = 3 if s.op is TileOp.POOL else 1
            memory.array(s.writes[0])[...] = memory.array(s.reads[0]) * np.float32(factor)
    return [flat[slot] for slot in lowered.outputs]


def orderly(lowered: Lowered) -> None:
    """Check that writers of a buffer come before its readers, and none is both."""
    read: set[int] = set()
    for s in lowered.stages:
        own = {v.slot for v in s.reads}
        own |= {v.slot for v in s.point.operands if v is not None} if s.point else set()
        writes = {w.slot for w in s.writes}
        assert not writes & own, s
        assert not writes & read, s
        read |= own
