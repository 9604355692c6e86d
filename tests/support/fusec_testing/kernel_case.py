"""One stage over arrays, run natively in any cut: memory fenced, the same bits in every cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from fusec_testing.fences import fenced
from fusec_testing.stages import Cut, run_native, run_reference

from fusec.ir.stage import Attr, Buffer, BufferKind, PointProgram, PointStep, Stage, TileOp, View
from fusec.kernels.encoded import Encoded

__all__ = ["KernelCase", "strided"]


class KernelCase:
    """A stage, its operands and results."""

    def __init__(
        self,
        op: TileOp,
        reads: Sequence[np.ndarray],
        writes: Sequence[np.ndarray],
        attrs: dict[str, Attr],
        *,
        weights: Sequence[int] = (),
    ) -> None:
        """Make a stage over arrays, which may be slices of others.

        Args:
            op: what it does.
            reads: operands.
            writes: results; their shapes, strides and dtypes count.
            attrs: of the stage.
            weights: numbers of operands that are weights.
        """
        views, self.flats, self.buffers = [], list[np.ndarray](), list[Buffer]()
        for number, array in enumerate((*reads, *writes)):
            whole = array if array.base is None else array.base
            assert isinstance(whole, np.ndarray)
            view = _view(number, array, whole)
            kind = BufferKind.WEIGHT if number in weights else BufferKind.ARENA
            self.flats.append(fenced(whole.reshape(-1)))
            self.buffers.append(
                Buffer(kind=kind, dtype=view.dtype, elements=whole.size, index=number)
            )
            views.append(view)
        self.n_reads = len(reads)
        self.stage = Stage(
            op=op,
            reads=tuple(views[: len(reads)]),
            writes=tuple(views[len(reads) :]),
            attrs=tuple(sorted(attrs.items())),
            point=None,
            extern=None,
            rows=(0,),
        )
        self.encoded: Encoded | None = None

    def results(self) -> list[np.ndarray]:
        """Give copies of what was written."""
        return [_seen(self.flats[view.slot], view).copy() for view in self.stage.writes]

    def run(self, cuts: Sequence[Cut] | None = None) -> list[np.ndarray]:
        """Run natively; what is not written stays all ones."""
        before = [flat.copy() for flat in self.flats[: self.n_reads]]
        for view in self.stage.writes:
            self.flats[view.slot].view(np.uint8)[:] = 0xFF
        self.encoded = run_native(self.stage, self.buffers, self.flats, cuts)
        for was, now in zip(before, self.flats, strict=False):
            np.testing.assert_array_equal(was.view(np.uint8), now.view(np.uint8))
        for view in self.stage.writes:
            self.check_gaps(view)
        return self.results()

    def reference(self) -> list[np.ndarray]:
        """Run the reference."""
        run_reference(self.stage, self.flats)
        return self.results()

    def check_cuts(self, seed: int = 0) -> list[np.ndarray]:
        """Run whole, in single grains and in random cuts: always the same bits; give them."""
        whole = self.run()
        assert self.encoded is not None
        encoded, rng = self.encoded, np.random.default_rng(seed)
        assert isinstance(encoded.items, int) and isinstance(encoded.items2, int)
        for chance in (1.0, 0.5):
            rows = _pieces(encoded.items, encoded.grain, chance, rng)
            columns = _pieces(encoded.items2, encoded.grain2, chance, rng)
            cuts = [(*r, *c) for r in rows for c in columns]
            rng.shuffle(cuts)
            for was, now in zip(whole, self.run([tuple(map(int, c)) for c in cuts]), strict=True):  # type: ignore[misc]
                np.testing.assert_array_equal(_bits(was), _bits(now))
        return whole

    def with_epilogue(self, rng: np.random.Generator) -> KernelCase:
        """Put relu(x) * residual behind the stage, a residual of the result's shape."""
        made = object.__new__(KernelCase)
        made.__dict__.update(self.__dict__)
        (write,) = self.stage.writes
        slot = len(self.flats)
        residual = rng.standard_normal(self.buffers[write.slot].elements).astype(np.float32)
        made.flats = [*self.flats, fenced(residual)]
        made.buffers = [*self.buffers, replace(self.buffers[write.slot], index=slot)]
        program = PointProgram(
            shape=write.shape,
            operands=(None, replace(write, slot=slot)),
            steps=(
                PointStep("relu_f32", (0,), "float32", None),
                PointStep("mul_f32", (2, 1), "float32", None),
            ),
            results=(3,),
        )
        made.stage = replace(self.stage, point=program)
        return made

    def check_gaps(self, view: View) -> None:
        """Find what a kernel wrote between its rows."""
        flat = self.flats[view.slot].copy()
        _seen(flat, view)[...] = 1
        untouched = np.ones(flat.size, bool)
        _seen(untouched, view)[...] = False
        assert (flat[untouched].view(np.uint8) == 0xFF).all(), "wrote outside of its view"


def strided(array: np.ndarray, pad: int) -> np.ndarray:
    """Copy into rows that are `pad` elements longer, behind `pad` elements."""
    room = np.zeros((*array.shape[:-1], array.shape[-1] + pad), array.dtype)
    room[..., pad:] = array
    return room[..., pad:]


def _view(slot: int, array: np.ndarray, whole: np.ndarray) -> View:
    size = array.itemsize
    return View(
        slot,
        str(array.dtype),
        array.shape,
        tuple(s // size for s in array.strides),
        (array.ctypes.data - whole.ctypes.data) // size,
    )


def _seen(flat: np.ndarray, view: View) -> np.ndarray:
    from numpy.lib.stride_tricks import as_strided

    assert isinstance(view.offset, int)
    strides = [int(str(s)) * flat.itemsize for s in view.strides]
    return as_strided(flat[view.offset :], [int(str(e)) for e in view.shape], strides)


def _pieces(n: int, grain: int, chance: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    edges = [e for e in range(grain, n, grain) if rng.random() <= chance]
    return list(zip([0, *edges], [*edges, n], strict=True))


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
