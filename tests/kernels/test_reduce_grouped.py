"""Grouped reductions in Triton's interpreter: against float64, torch and any company."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import check_case, interpreter
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import TileOp

interpreter()

FLOATS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(-1),
    "amax": lambda x: x.amax(-1),
    "amin": lambda x: x.amin(-1),
    "prod": lambda x: x.prod(-1),
    "var": lambda x: x.var(-1),
    "std": lambda x: x.std(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "norm1": lambda x: x.norm(1, -1),
    "norm2": lambda x: x.norm(2, -1),
    "norminf": lambda x: x.norm(float("inf"), -1),
}
INTEGERS = {"sum", "prod", "amax", "amin", "any", "all"}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, dtype=np.float32)


def attrs(form: str, kind: str) -> dict[str, str | float]:
    return {"form": form, "kind": kind, "correction": 1.0}


def check(x: np.ndarray, kind: str, pad: int = 0) -> np.ndarray:
    form = "rows" if x.ndim == 3 else "columns"
    y = np.zeros((x.shape[0],) if x.ndim == 3 else (x.shape[0], x.shape[3]), x.dtype)
    case = KernelCase(TileOp.REDUCE, [strided(x, pad)], [y], attrs(form, kind))
    (got,), _ = check_case(case)
    tensor = torch.from_numpy(x)
    tensor = tensor.flatten(1) if x.ndim == 3 else tensor.movedim(3, 1).flatten(2)
    function = FLOATS[kind]
    assert_no_worse(got, function(tensor), function(tensor.double()))
    return got


@pytest.mark.parametrize("kind", sorted(FLOATS))
def test_rows_and_columns_are_as_near_to_float64_as_torch(kind: str) -> None:
    for shape in ((5, 1, 7), (18, 3, 29), (2, 1, 300), (2, 1, 9, 21), (1, 3, 40, 5), (1, 2, 2, 1)):
        check(normal(*shape), kind, pad=2)


@pytest.mark.parametrize("kind", ["mean", "amax", "norm2"])
def test_half_width(kind: str) -> None:
    check(normal(5, 1, 37).astype(np.float16), kind)


@pytest.mark.parametrize("kind", sorted(FLOATS))
@pytest.mark.parametrize("shape", [(6, 1, 40), (1, 1, 20, 30)])
def test_nans_and_infinities_stay_where_they_are(kind: str, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    if x.ndim == 3:
        x[1, 0, 33], x[2, 0, 5], x[3, 0, 6], x[4] = np.nan, np.inf, -np.inf, -np.inf
    else:
        x[0, 0, 7, 1], x[0, 0, 3, 2], x[0, 0, 2, 3] = np.nan, np.inf, -np.inf
        x[0, 0, :, 4] = -np.inf
    got = check(x, kind).reshape(-1)
    assert np.isnan(got[1])
    assert np.isfinite(got[[0, 5]]).all()


def test_nothing_is_summed_to_zero_and_averaged_to_nan() -> None:
    for kind, expected in (("sum", 0.0), ("prod", 1.0), ("mean", np.nan)):
        for shape in ((3, 1, 0), (1, 1, 0, 5)):
            y = np.zeros((3,) if len(shape) == 3 else (1, 5), np.float32)
            form = "rows" if len(shape) == 3 else "columns"
            x = np.zeros(shape, np.float32)
            (got,), _ = check_case(KernelCase(TileOp.REDUCE, [x], [y], attrs(form, kind)))
            np.testing.assert_array_equal(got, np.full_like(got, expected))


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("kind", ["argmax", "argmin", "max", "min"])
def test_the_first_extreme_is_found(kind: str, nan: bool) -> None:
    for rows, n in ((1, 1), (9, 5), (18, 71)):
        rng = np.random.default_rng([rows, n])
        x = rng.integers(0, 3, (rows, n)).astype(np.float32)
        if nan:
            x[rng.random((rows, n)) < 0.05] = np.nan
        at, y = np.zeros(rows, np.int64), np.zeros(rows, np.float32)
        writes = [at] if kind.startswith("arg") else [y, at]
        case = KernelCase(TileOp.REDUCE, [strided(x, 2)], writes, attrs("where", kind))
        for got, wanted in zip(*check_case(case), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
@pytest.mark.parametrize("kind", sorted(INTEGERS))
def test_integers_are_exact(kind: str, dtype: str) -> None:
    if kind in ("amax", "amin") and dtype != "int64":
        return
    x = np.random.default_rng(4).integers(-3, 4, (5, 43)).astype(dtype)
    y = np.zeros(5, bool if kind in ("any", "all") else np.int64)
    (got,), (wanted,) = check_case(KernelCase(TileOp.REDUCE, [x], [y], attrs("scalars", kind)))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3, 20, 1), (2, 7, 20), (1, 1, 1)])
def test_running_sums(dtype: str, shape: tuple[int, ...]) -> None:
    x = (normal(*shape) * 3).astype(dtype)
    tensor = torch.from_numpy(x)
    plain = tensor.cumsum(1)
    case = KernelCase(TileOp.REDUCE, [x], [np.zeros_like(plain.numpy())], attrs("scan", "sum"))
    (got,), _ = check_case(case)
    truth = tensor.double().cumsum(1) if dtype == "float32" else plain
    assert_no_worse(got, plain, truth)


@pytest.mark.parametrize("shape", [(40, 1, 30), (3, 2, 9, 50)])
def test_every_result_passes_the_epilogue_once(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    form = "rows" if x.ndim == 3 else "columns"
    y = np.zeros(shape[:1] if x.ndim == 3 else (shape[0], shape[3]), np.float32)
    case = KernelCase(TileOp.REDUCE, [x], [y], attrs(form, "mean"))
    (got,), (wanted,) = check_case(case.with_epilogue(np.random.default_rng(0)))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
