"""softmax: the native kernel against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.kernel_case import KernelCase, strided
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import TileOp

INFINITY = np.float32(np.inf)


def _run(x: np.ndarray, log: bool, pad: int = 0) -> np.ndarray:
    case = KernelCase(
        TileOp.SOFTMAX, [strided(x, pad)], [strided(np.zeros_like(x), pad)], {"log": log}
    )
    (got,) = case.check_cuts()
    tensor = torch.from_numpy(x)
    function = torch.log_softmax if log else torch.softmax
    assert_no_worse(got, function(tensor, -1), function(tensor.double(), -1))
    assert_no_worse(got, function(tensor, -1), case.reference()[0].astype(np.float64))
    return got


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    n=st.one_of(st.integers(1, 200), st.sampled_from([1000, 16390])),
    pad=st.integers(0, 3),
    spread=st.sampled_from([0.1, 1.0, 30.0]),
    log=st.booleans(),
)
def test_it_is_as_near_to_float64_as_torch(
    rows: int, n: int, pad: int, spread: float, log: bool
) -> None:
    rng = np.random.default_rng([rows, n, pad])
    _run(rng.standard_normal((rows, n), dtype=np.float32) * np.float32(spread), log, pad)


@pytest.mark.parametrize("log", [False, True])
def test_infinities_and_nans_do_what_torch_does(log: bool) -> None:
    x = np.random.default_rng(0).standard_normal((8, 37), dtype=np.float32)
    x[0] = -INFINITY
    x[1, 5:] = -INFINITY
    x[2, 36] = np.nan
    x[3, 0] = INFINITY
    x[4] = np.nan
    x[5, 3], x[5, 4] = -INFINITY, np.nan
    got = _run(x, log)
    assert np.isnan(got[[0, 2, 3, 4, 5]]).any(axis=1).all()
    assert np.isfinite(got[[6, 7]]).all(), "a NaN stays in its row"
    if not log:
        assert (got[1, 5:] == 0).all()


def test_equal_numbers_share_alike() -> None:
    for n in (1, 2, 3, 17, 48):
        assert (
            _run(np.full((1, n), 7.5, np.float32), False) == np.float32(1) / np.float32(n)
        ).all()


def test_far_numbers_weigh_nothing() -> None:
    x = np.array([[0.0, -87.0, -88.0, -90.0, -104.0, -3e38]], np.float32)
    got = _run(x, False)
    assert got[0, 0] == 1
    assert (got[0, 3:] == 0).all()
