"""reduce, form "sort": the native kernel against NumPy's stable sort, in every cut."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.kernel_case import KernelCase
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.stage import TileOp

DTYPES = ("float32", "float64", "int64", "int32", "bool")


def _values(dtype: str, shape: tuple[int, ...], many: bool) -> np.ndarray:
    """Give values with ties, signed zeros, infinities and NaNs."""
    rng = np.random.default_rng(shape)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if not dtype.startswith("float"):
        return rng.integers(-3, 4, shape).astype(dtype) if many else rng.permutation(
            int(np.prod(shape))).reshape(shape).astype(dtype)  # fmt: skip
    x = rng.standard_normal(shape).astype(dtype)
    if many:
        x = rng.choice(np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan], dtype), shape)
    return x


def _check(x: np.ndarray, k: int, largest: bool) -> None:
    shape = (x.shape[0], k, x.shape[2])
    writes = [np.zeros(shape, x.dtype), np.zeros(shape, np.int64)]
    attrs = {"form": "sort", "kind": "sort", "largest": largest}
    case = KernelCase(TileOp.REDUCE, [x], writes, attrs)
    values, places = case.check_cuts()
    wanted, at = case.reference()
    np.testing.assert_array_equal(places, at)
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(np.take_along_axis(x, places, 1), values)


@given(
    dtype=st.sampled_from(DTYPES),
    o=st.integers(1, 3),
    n=st.one_of(st.integers(1, 40), st.sampled_from([64, 65, 127, 200])),
    i=st.integers(1, 3),
    part=st.floats(0, 1),
    largest=st.booleans(),
    many=st.booleans(),
)
def test_sorts_as_numpy_does(
    dtype: str, o: int, n: int, i: int, part: float, largest: bool, many: bool
) -> None:
    _check(_values(dtype, (o, n, i), many), max(1, round(part * n)), largest)


@pytest.mark.parametrize("n", [70, 1000])
def test_extremes_of_integers_are_told_apart(n: int) -> None:
    x = np.full((1, n, 1), 2**62, np.int64)
    x[0, ::3, 0], x[0, 5, 0], x[0, 7, 0] = -(2**63), 2**63 - 1, 2**53 + 1
    for largest in (False, True):
        for k in (1, n):
            _check(x, k, largest)


def test_any_strides() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 90)).astype(np.float32)
    _check(x.transpose(1, 2, 0), 90, True)
    _check(x.transpose(1, 0, 2), 2, False)
