"""gather: the native kernels against NumPy; indices out of range are reported."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.kernel_case import KernelCase, strided
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import KernelError
from fusec.ir.stage import Layout, LayoutKind, TileOp
from fusec.kernels.gemm.pack import pack

DTYPES = ("float32", "int64", "bool", "float16", "float64")


def _indices(shape: tuple[int, ...], n: int, dtype: str, wrap: bool) -> np.ndarray:
    return np.random.default_rng(shape).integers(-n if wrap else 0, n, shape).astype(dtype)


def _values(dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 100, shape).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    index=st.sampled_from(["int64", "int32"]),
    o=st.integers(1, 4),
    n=st.integers(1, 9),
    i=st.one_of(st.integers(1, 40), st.just(300)),
    j=st.integers(1, 9),
    pad=st.integers(0, 3),
    wrap=st.booleans(),
)
def test_rows(dtype: str, index: str, o: int, n: int, i: int, j: int, pad: int, wrap: bool) -> None:
    x, at = _values(dtype, o, n, i), _indices((j,), n, index, wrap)
    y = strided(np.zeros((o, j, i), dtype), pad)
    case = KernelCase(TileOp.GATHER, [strided(x, pad), at], [y], {"form": "rows", "wrap": wrap})
    (got,) = case.check_cuts()
    np.testing.assert_array_equal(got, x[:, at])
    np.testing.assert_array_equal(got, case.reference()[0])


@settings(max_examples=40, deadline=None)
@given(
    index=st.sampled_from(["int64", "int32"]),
    n=st.integers(1, 100),
    k=st.integers(1, 40),
    nr=st.sampled_from([16, 48]),
    j=st.integers(1, 9),
)
def test_rows_of_panels(index: str, n: int, k: int, nr: int, j: int) -> None:
    w, at = _values("float32", n, k), _indices((j,), n, index, True)
    layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=nr)
    attrs = {"form": "panels", "wrap": True, "n": n, "k": k, "nr": nr}
    y = np.zeros((1, j, k), np.float32)
    case = KernelCase(TileOp.GATHER, [pack(layout, w).copy(), at], [y], attrs, weights=(0,))
    (got,) = case.check_cuts()
    assert case.encoded is not None and case.encoded.flat
    np.testing.assert_array_equal(got[0], w[at])
    np.testing.assert_array_equal(got, case.reference()[0])


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    o=st.integers(1, 4),
    n=st.integers(1, 9),
    i=st.integers(1, 9),
    j=st.integers(1, 9),
    pad=st.integers(0, 3),
)
def test_elements(dtype: str, o: int, n: int, i: int, j: int, pad: int) -> None:
    x, at = _values(dtype, o, n, i), _indices((o, j, i), n, "int64", False)
    attrs = {"form": "along", "wrap": False}
    y = np.zeros((o, j, i), dtype)
    case = KernelCase(TileOp.GATHER, [strided(x, pad), strided(at, pad)], [y], attrs)
    (got,) = case.check_cuts()
    np.testing.assert_array_equal(got, np.take_along_axis(x, at, 1))
    np.testing.assert_array_equal(got, case.reference()[0])


@pytest.mark.parametrize("form", ["rows", "panels", "along"])
@pytest.mark.parametrize(("index", "wrap"), [(5, True), (-6, True), (-1, False), (2**40, False)])
def test_an_index_out_of_range_is_reported(form: str, index: int, wrap: bool) -> None:
    attrs: dict[str, str | bool | int] = {"form": form, "wrap": wrap}
    at = np.array([0, index, 4])
    x, y = _values("float32", 1, 5, 8), np.zeros((1, 3, 8), np.float32)
    if form == "panels":
        attrs |= {"n": 5, "k": 8, "nr": 16}
        layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=8, n=5, nr=16)
        x = pack(layout, x[0]).copy()
    elif form == "along":
        at = np.ascontiguousarray(np.broadcast_to(at[None, :, None], y.shape))
    case = KernelCase(TileOp.GATHER, [x, at], [y], attrs, weights=(0,))
    with pytest.raises(KernelError, match="status 1"):
        case.run()
    with pytest.raises(KernelError, match="out of range"):
        case.reference()


def test_an_empty_table_is_not_read() -> None:
    x, y = np.zeros((1, 0, 8), np.float32), np.zeros((1, 1, 8), np.float32)
    case = KernelCase(TileOp.GATHER, [x, np.array([0])], [y], {"form": "rows", "wrap": True})
    with pytest.raises(KernelError):
        case.run()
