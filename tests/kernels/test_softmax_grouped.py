"""The grouped softmax in Triton's interpreter: against float64, torch and any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import check_case, interpreter
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import TileOp

interpreter()

INFINITY = np.float32(np.inf)


def run(x: np.ndarray, log: bool, pad: int = 0) -> np.ndarray:
    case = KernelCase(
        TileOp.SOFTMAX, [strided(x, pad)], [strided(np.zeros_like(x), pad)], {"log": log}
    )
    (got,), (plain,) = check_case(case)
    tensor = torch.from_numpy(x)
    function = torch.log_softmax if log else torch.softmax
    assert_no_worse(got, function(tensor, -1), function(tensor.double(), -1))
    np.testing.assert_allclose(got, plain, rtol=1e-2, atol=1e-3)
    return got


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("rows", "n", "pad"), [(1, 1, 0), (5, 7, 3), (17, 33, 1), (3, 260, 0)])
def test_it_is_as_near_to_float64_as_torch(
    rows: int, n: int, pad: int, log: bool, dtype: str
) -> None:
    rng = np.random.default_rng([rows, n, pad])
    for spread in (0.1, 20):
        run((rng.standard_normal((rows, n)) * spread).astype(dtype), log, pad)


@pytest.mark.parametrize("log", [False, True])
def test_infinities_and_nans_do_what_torch_does(log: bool) -> None:
    x = np.random.default_rng(0).standard_normal((8, 37), dtype=np.float32)
    x[0] = -INFINITY
    x[1, 5:] = -INFINITY
    x[2, 36] = np.nan
    x[3, 0] = INFINITY
    x[4] = np.nan
    x[5, 3], x[5, 4] = -INFINITY, np.nan
    got = run(x, log)
    assert np.isnan(got[[0, 2, 3, 4, 5]]).any(axis=1).all()
    assert np.isfinite(got[[6, 7]]).all(), "a NaN stays in its row"


def test_no_rows_and_no_columns() -> None:
    for shape in ((0, 5), (3, 0)):
        x = np.zeros(shape, np.float32)
        check_case(KernelCase(TileOp.SOFTMAX, [x], [np.zeros_like(x)], {"log": False}))
