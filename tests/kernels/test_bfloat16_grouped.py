"""Grouped kernels on bfloat16: what float32 gives for the same numbers, rounded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.fences import fenced
from fusec_testing.grouped import Instance, interpreter, run_grouped
from fusec_testing.kernel_case import KernelCase

from fusec.ir.stage import Attr, Stage, TileOp, View
from fusec.kernels.gemm.pack import from_bfloat16, to_bfloat16

interpreter()


def normal(*shape: int) -> np.ndarray:
    x = np.random.default_rng(shape).standard_normal(shape, dtype=np.float32)
    return from_bfloat16(to_bfloat16(x)).copy()


AFFINE = {"kind": "layer", "eps": 1e-5, "weight": True, "bias": True}
LOOK = {"scale": 0.3, "causal": True, "mask": "none", "group": 1}
WINDOW = {"mode": "avg", "kernel": (2, 3), "stride": (1, 2), "padding": (1, 1)}
ROWS = {"form": "rows", "kind": "mean", "correction": 1.0}
CASES: list[tuple[TileOp, list[np.ndarray], tuple[int, ...], dict[str, Attr]]] = [
    (TileOp.SOFTMAX, [normal(5, 37)], (5, 37), {"log": False}),
    (TileOp.NORM, [normal(5, 37), normal(37), normal(37)], (5, 37), dict(AFFINE)),
    (TileOp.REDUCE, [normal(5, 1, 37)], (5,), dict(ROWS)),
    (TileOp.MATMUL, [normal(2, 5, 37), normal(2, 37, 19)], (2, 5, 19), {}),
    (TileOp.ATTENTION, [normal(1, 2, 7, 5) for _ in range(3)], (1, 2, 7, 5), dict(LOOK)),
    (TileOp.POOL, [normal(1, 6, 7, 5)], (1, 7, 4, 5), dict(WINDOW)),
]


@pytest.mark.parametrize(("op", "reads", "shape", "attrs"), CASES)
def test_it_is_float32_rounded_once(
    op: TileOp, reads: list[np.ndarray], shape: tuple[int, ...], attrs: dict[str, Attr]
) -> None:
    case = KernelCase(op, reads, [np.zeros(shape, np.float32)], attrs, weights=(1, 2))
    wide = [fenced(flat) for flat in case.flats]
    run_grouped(case.stage, case.buffers, [Instance(wide, {})])
    narrow = [fenced(to_bfloat16(flat)) for flat in case.flats]
    buffers = [replace(buffer, dtype="bfloat16") for buffer in case.buffers]
    run_grouped(_narrowed(case.stage), buffers, [Instance(narrow, {})])
    np.testing.assert_array_equal(narrow[-1], to_bfloat16(wide[-1]))


def _narrowed(stage: Stage) -> Stage:
    def views(given: tuple[View, ...]) -> tuple[View, ...]:
        return tuple(replace(view, dtype="bfloat16") for view in given)

    return replace(stage, reads=views(stage.reads), writes=views(stage.writes))
