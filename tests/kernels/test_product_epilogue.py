"""Epilogues of gemm and matmul: the pointwise machine over tiles, in every cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.stages import Cut, run_native, run_reference

from fusec.ir.extents import product
from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    PointProgram,
    PointStep,
    Stage,
    TileOp,
    View,
    dense,
    packed_elements,
)
from fusec.kernels.gemm.pack import pack

F32 = "float32"


def with_epilogue(stage: Stage, residual: View, scale: View) -> Stage:
    """Put relu(x) * scale + residual behind a stage."""
    program = PointProgram(
        shape=stage.writes[0].shape,
        operands=(None, residual, scale),
        steps=(
            PointStep("relu_f32", (0,), F32, None),
            PointStep("mul_f32", (3, 2), F32, None),
            PointStep("add_f32", (4, 1), F32, None),
        ),
        results=(5,),
    )
    return replace(stage, point=program)


class Case:
    """A product with a residual of the result's shape and a factor per column."""

    def __init__(self, op: TileOp, batch: tuple[int, ...], m: int, k: int, n: int) -> None:
        rng = np.random.default_rng([m, k, n])
        shape = (*batch, m, n)
        a = rng.standard_normal((*batch, m, k), dtype=np.float32)
        b = rng.standard_normal((*batch, k, n), dtype=np.float32)
        residual = rng.standard_normal(shape, dtype=np.float32)
        scale = rng.standard_normal(n, dtype=np.float32)
        layout = Layout(kind=LayoutKind.PANELS, order=(0, 1), groups=1, k=k, n=n, nr=48)
        gemm = op is TileOp.GEMM
        packed = pack(layout, b) if gemm else b.reshape(-1)
        view_b = dense(1, F32, (packed_elements(layout),) if gemm else b.shape)
        self.flats = [
            a.reshape(-1),
            packed,
            np.full(residual.size, np.nan, np.float32),
            residual.reshape(-1),
            scale,
        ]
        kinds = [BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.ARENA]
        self.buffers = [
            Buffer(kind=kind, dtype=F32, elements=flat.size, index=0)
            for kind, flat in zip(
                [*kinds, BufferKind.INPUT, BufferKind.WEIGHT], self.flats, strict=True
            )
        ]
        plain = Stage(
            op=op,
            reads=(dense(0, F32, a.shape), view_b),
            writes=(dense(2, F32, shape),),
            attrs=(("k", k), ("n", n), ("nr", 48)) if gemm else (),
            point=None,
            extern=None,
            rows=(0,),
        )
        self.stage = with_epilogue(
            plain,
            dense(3, F32, shape),
            View(4, F32, shape, (*[0] * (len(shape) - 1), 1), 0),
        )
        self.rows = int(str(product(shape[:-1])))
        self.panels = -(-n // 48)
        truth = np.maximum(a.astype(np.float64) @ b, 0) * scale + residual
        self.truth = truth.reshape(-1)

    def run(self, cuts: list[Cut] | None = None) -> np.ndarray:
        self.flats[2][:] = np.nan
        run_native(self.stage, self.buffers, self.flats, cuts)
        return self.flats[2].copy()


CASES = [
    (TileOp.GEMM, (), 1, 300, 20),
    (TileOp.GEMM, (), 21, 40, 100),
    (TileOp.GEMM, (), 130, 16, 500),
    (TileOp.MATMUL, (), 21, 40, 100),
    (TileOp.MATMUL, (3,), 7, 40, 70),
    (TileOp.MATMUL, (2, 3), 7, 40, 70),
]


@pytest.mark.parametrize(("op", "batch", "m", "k", "n"), CASES)
def test_every_element_passes_the_epilogue_once(
    op: TileOp, batch: tuple[int, ...], m: int, k: int, n: int
) -> None:
    case = Case(op, batch, m, k, n)
    got = case.run()
    np.testing.assert_allclose(got, case.truth, rtol=1e-4, atol=1e-4)
    run_reference(case.stage, case.flats)
    np.testing.assert_allclose(got, case.flats[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("op", "batch", "m", "k", "n"), CASES)
def test_cuts_leave_the_bits_alone(
    op: TileOp, batch: tuple[int, ...], m: int, k: int, n: int
) -> None:
    case = Case(op, batch, m, k, n)
    expected = case.run()
    middle, half = case.rows // 3, case.panels // 2
    cuts = [
        (lo, hi, lo2, hi2)
        for lo, hi in ((0, middle), (middle, case.rows))
        for lo2, hi2 in ((0, half), (half, case.panels))
        if lo < hi and lo2 < hi2
    ]
    np.testing.assert_array_equal(case.run(cuts), expected)


def test_rows_of_following_instances_pass_it_too() -> None:
    many = Case(TileOp.GEMM, (), 12, 40, 100)
    expected = many.run()
    one = Case(TileOp.GEMM, (), 3, 40, 100)
    one.flats = many.flats
    one.flats[2][:] = np.nan
    encoded = run_native(one.stage, one.buffers, one.flats, [(0, 12, 0, 3)])
    assert encoded.flat
    np.testing.assert_array_equal(one.flats[2], expected)


def test_a_factor_per_instance_keeps_rows_apart() -> None:
    case = Case(TileOp.GEMM, (), 3, 40, 100)
    case.buffers[4] = replace(case.buffers[4], kind=BufferKind.INPUT)
    assert not run_native(case.stage, case.buffers, case.flats).flat
