"""Grouped gathers in Triton's interpreter: rows, packed rows, single elements, bad indices."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import Instance, check_case, interpreter, run_grouped
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.errors import KernelError
from fusec.ir.stage import Layout, LayoutKind, TileOp
from fusec.kernels.gemm.pack import pack

interpreter()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
@pytest.mark.parametrize(
    ("outer", "n", "inner", "count"), [(1, 7, 33, 5), (3, 2, 1, 17), (1, 4, 40, 0)]
)
def test_rows(outer: int, n: int, inner: int, count: int, dtype: str) -> None:
    rng = np.random.default_rng([outer, n, inner])
    x = (rng.standard_normal((outer, n, inner)) * 9).astype(dtype)
    at = rng.integers(-n, n, count)
    y = strided(np.zeros((outer, count, inner), dtype), 2)
    attrs = {"form": "rows", "wrap": True}
    case = KernelCase(TileOp.GATHER, [strided(x, 3), at], [y], attrs, weights=(0,))
    (got,), (wanted,) = check_case(case)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("n", "k"), [(5, 3), (37, 70)])
def test_packed_rows(n: int, k: int) -> None:
    rng = np.random.default_rng([n, k])
    weight = rng.standard_normal((n, k), dtype=np.float32)
    layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=16)
    at = rng.integers(0, n, 19).astype(np.int32)
    attrs = {"form": "panels", "wrap": False, "n": n, "k": k, "nr": 16}
    y = np.zeros((1, 19, k), np.float32)
    case = KernelCase(TileOp.GATHER, [pack(layout, weight), at], [y], attrs, weights=(0,))
    (got,), _ = check_case(case)
    np.testing.assert_array_equal(got[0], weight[at])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_single_elements(dtype: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 5, 19)).astype(dtype)
    at = rng.integers(-5, 5, (2, 18, 19))
    y = np.zeros((2, 18, 19), dtype)
    case = KernelCase(TileOp.GATHER, [x, at], [y], {"form": "along", "wrap": True})
    (got,), (wanted,) = check_case(case)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("index", "wrap"), [(7, True), (-8, True), (-1, False), (2**40, True)])
@pytest.mark.parametrize("form", ["rows", "along"])
def test_an_index_out_of_range_is_told_and_reads_nothing(index: int, wrap: bool, form: str) -> None:
    x = np.ones((1, 7, 3), np.float32)
    at = np.zeros(4 if form == "rows" else (1, 4, 3), np.int64)
    at[..., -1] = index
    y = np.zeros((1, 4, 3), np.float32)
    case = KernelCase(TileOp.GATHER, [x, at], [y], {"form": form, "wrap": wrap})
    with pytest.raises(KernelError, match="status 1"):
        run_grouped(case.stage, case.buffers, [Instance(case.flats, {})])
