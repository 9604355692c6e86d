"""reduce: the native kernels against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.kernel_case import KernelCase, strided
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import TileOp

Function = Callable[[torch.Tensor], torch.Tensor]

FLOATS: dict[str, Function] = {
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(-1),
    "amax": lambda x: x.amax(-1),
    "amin": lambda x: x.amin(-1),
    "prod": lambda x: x.prod(-1),
    "var": lambda x: x.var(-1, correction=1),
    "std": lambda x: x.std(-1, correction=1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "norm1": lambda x: torch.linalg.vector_norm(x, 1, -1),
    "norm2": lambda x: torch.linalg.vector_norm(x, 2, -1),
    "norminf": lambda x: torch.linalg.vector_norm(x, torch.inf, -1),
}
INTEGERS: dict[str, Function] = {
    "sum": lambda x: x.sum(-1),
    "prod": lambda x: x.prod(-1),
    "amax": lambda x: x.amax(-1),
    "amin": lambda x: x.amin(-1),
    "any": lambda x: x.any(-1),
    "all": lambda x: x.all(-1),
}


def _normal(*shape: int, centre: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(shape)
    return rng.standard_normal(shape, dtype=np.float32) + np.float32(centre)


def _attrs(form: str, kind: str) -> dict[str, str | float]:
    return {"form": form, "kind": kind, "correction": 1.0 if kind in ("var", "std") else 0.0}


def _rows(x: np.ndarray) -> torch.Tensor:
    """Bring what each result is made of to the last axis."""
    turned = x.reshape(x.shape[0], -1) if x.ndim == 3 else np.moveaxis(x, 3, 1)
    return torch.from_numpy(np.ascontiguousarray(turned.reshape(*turned.shape[: x.ndim - 2], -1)))


def _check(x: np.ndarray, kind: str, pad: int = 0) -> np.ndarray:
    form = "rows" if x.ndim == 3 else "columns"
    y = np.zeros((x.shape[0],) if x.ndim == 3 else (x.shape[0], x.shape[3]), np.float32)
    case = KernelCase(TileOp.REDUCE, [strided(x, pad)], [y], _attrs(form, kind))
    (got,) = case.check_cuts()
    rows, function = _rows(x), FLOATS[kind]
    assert_no_worse(got, function(rows), function(rows.double()))
    np.testing.assert_allclose(got, case.reference()[0], rtol=1e-4, atol=1e-4)
    return got


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(sorted(FLOATS)),
    o=st.integers(1, 9),
    r1=st.integers(1, 5),
    r2=st.one_of(st.integers(1, 150), st.sampled_from([1000, 16500])),
    pad=st.integers(0, 3),
    centre=st.sampled_from([0.0, 10.0]),
)
def test_rows_are_as_near_to_float64_as_torch(
    kind: str, o: int, r1: int, r2: int, pad: int, centre: float
) -> None:
    if kind in ("var", "std"):
        r2 += 1
    _check(_normal(o, r1, r2, centre=0.0 if kind == "prod" else centre), kind, pad)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(sorted(FLOATS)),
    o=st.integers(1, 4),
    r1=st.integers(1, 5),
    r2=st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 1030])),
    i=st.integers(1, 70),
    pad=st.integers(0, 3),
    centre=st.sampled_from([0.0, 10.0]),
)
def test_columns_are_as_near_to_float64_as_torch(
    kind: str, o: int, r1: int, r2: int, i: int, pad: int, centre: float
) -> None:
    if kind in ("var", "std"):
        r2 += 1
    _check(_normal(o, r1, r2, i, centre=0.0 if kind == "prod" else centre), kind, pad)


@pytest.mark.parametrize("kind", sorted(FLOATS))
@pytest.mark.parametrize("shape", [(6, 1, 40), (1, 1, 20, 30)])
def test_nans_and_infinities_stay_where_they_are(kind: str, shape: tuple[int, ...]) -> None:
    x = _normal(*shape)
    if x.ndim == 3:
        x[1, 0, 33], x[2, 0, 5], x[3, 0, 6], x[4] = np.nan, np.inf, -np.inf, -np.inf
    else:
        x[0, 0, 7, 1], x[0, 0, 3, 2], x[0, 0, 2, 3], x[0, 0, :, 4] = (
            np.nan,
            np.inf,
            -np.inf,
            -np.inf,
        )
    got = _check(x, kind).reshape(-1)
    assert np.isnan(got[1])
    assert np.isfinite(got[[0, 5]]).all()


def test_nothing_is_summed_to_zero_and_averaged_to_nan() -> None:
    for kind, expected in (("sum", 0.0), ("prod", 1.0), ("mean", np.nan)):
        for shape in ((3, 1, 0), (1, 1, 0, 5)):
            y = np.zeros((3,) if len(shape) == 3 else (1, 5), np.float32)
            form = "rows" if len(shape) == 3 else "columns"
            x = np.zeros(shape, np.float32)
            (got,) = KernelCase(TileOp.REDUCE, [x], [y], _attrs(form, kind)).run()
            np.testing.assert_array_equal(got, np.full_like(got, expected))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["argmax", "argmin", "max", "min"]),
    rows=st.integers(1, 9),
    n=st.integers(1, 80),
    pad=st.integers(0, 3),
    values=st.sampled_from([3, 1000]),
    nan=st.booleans(),
)
def test_the_first_extreme_is_found(
    kind: str, rows: int, n: int, pad: int, values: int, nan: bool
) -> None:
    rng = np.random.default_rng([rows, n])
    x = rng.integers(0, values, (rows, n)).astype(np.float32)
    if nan:
        x[rng.random((rows, n)) < 0.05] = np.nan
    at, y = np.zeros(rows, np.int64), np.zeros(rows, np.float32)
    writes = [at] if kind.startswith("arg") else [y, at]
    case = KernelCase(TileOp.REDUCE, [strided(x, pad)], writes, _attrs("where", kind))
    got = case.check_cuts()
    first = x.argmax(1) if kind.endswith("max") else x.argmin(1)
    np.testing.assert_array_equal(got[-1], first)
    tensor = torch.from_numpy(x)
    expected = (tensor.argmax if kind.endswith("max") else tensor.argmin)(1)
    np.testing.assert_array_equal(got[-1], expected.numpy())
    if len(got) == 2:
        np.testing.assert_array_equal(got[0], x[np.arange(rows), first])
    for ours, reference in zip(got, case.reference(), strict=True):
        np.testing.assert_array_equal(ours, reference)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(INTEGERS)),
    dtype=st.sampled_from(["int64", "int32", "bool"]),
    rows=st.integers(1, 5),
    n=st.integers(1, 30),
)
def test_integers_are_exact(kind: str, dtype: str, rows: int, n: int) -> None:
    x = np.random.default_rng([rows, n]).integers(-3, 4, (rows, n)).astype(dtype)
    if kind in ("amax", "amin") and dtype != "int64":
        return
    expected = INTEGERS[kind](torch.from_numpy(x)).numpy()
    case = KernelCase(TileOp.REDUCE, [x], [np.zeros_like(expected)], _attrs("scalars", kind))
    (got,) = case.check_cuts()
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got, case.reference()[0])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3, 40, 1), (2, 7, 20), (1, 1, 1)])
def test_running_sums(dtype: str, shape: tuple[int, ...]) -> None:
    x = (_normal(*shape) * 3).astype(dtype)
    tensor = torch.from_numpy(x)
    plain = tensor.cumsum(1)
    case = KernelCase(TileOp.REDUCE, [x], [np.zeros_like(plain.numpy())], _attrs("scan", "sum"))
    (got,) = case.check_cuts()
    truth = tensor.double().cumsum(1) if dtype == "float32" else plain
    assert_no_worse(got, plain, truth)


@pytest.mark.parametrize("shape", [(40, 1, 30), (3, 2, 9, 50)])
def test_every_result_passes_the_epilogue_once(shape: tuple[int, ...]) -> None:
    x = _normal(*shape)
    form = "rows" if x.ndim == 3 else "columns"
    y = np.zeros(shape[:1] if x.ndim == 3 else (shape[0], shape[3]), np.float32)
    case = KernelCase(TileOp.REDUCE, [x], [y], _attrs(form, "mean"))
    (got,) = case.with_epilogue(np.random.default_rng(0)).check_cuts()
    assert (got >= 0).any()
    plain = case.run()[0]
    joined = case.with_epilogue(np.random.default_rng(0))
    np.testing.assert_allclose(got, joined.reference()[0], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(got, plain)
