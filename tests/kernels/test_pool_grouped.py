"""Grouped pooling and resizing in Triton's interpreter: every mode, odd sizes, NaN, company."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import check_case, interpreter
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import Attr, TileOp

interpreter()


def check(
    shape: tuple[int, ...], out: tuple[int, int], dtype: str = "float32", *, pad: int = 0,
    nan: bool = False, **attrs: Attr,
) -> np.ndarray:  # fmt: skip
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape).astype(dtype)
    if nan:
        x[0, 1, 1, 0] = np.nan
    y = strided(np.zeros((shape[0], *out, shape[3]), dtype), pad)
    (got,), (wanted,) = check_case(KernelCase(TileOp.POOL, [strided(x, pad)], [y], attrs))
    room = 2e-3 if dtype == "float16" else 2e-6
    np.testing.assert_allclose(got, wanted, rtol=room, atol=room)
    return got


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_windows(mode: str, dtype: str) -> None:
    check(
        (2, 7, 5, 35), (4, 3), dtype, pad=1, mode=mode, kernel=(3, 2), stride=(2, 2), padding=(1, 1)
    )
    check((1, 9, 8, 3), (5, 8), dtype, mode=mode, kernel=(3, 1), stride=(1, 1), dilation=(2, 1))


def test_what_an_average_is_divided_by() -> None:
    given = {"mode": "avg", "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    for attrs in ({"include_pad": True}, {"divisor": 5}, {}):
        check((1, 6, 6, 4), (4, 4), **given, **attrs)


@pytest.mark.parametrize("mode", ["adaptive_max", "adaptive_avg"])
def test_adaptive(mode: str) -> None:
    check((2, 7, 5, 9), (3, 2), mode=mode)
    check((1, 2, 3, 17), (5, 7), mode=mode)
    check((1, 5, 6, 4), (1, 1), mode=mode)


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_a_nan_is_passed_on_to_its_windows_only(mode: str) -> None:
    got = check((1, 6, 6, 2), (3, 3), nan=True, mode=mode, kernel=(2, 2), stride=(2, 2))
    assert np.isnan(got).sum() == 1 and np.isnan(got[0, 0, 0, 0])


@pytest.mark.parametrize("mode", ["nearest", "nearest_exact", "bilinear"])
def test_resizing(mode: str) -> None:
    for out in ((9, 3), (4, 14), (1, 1)):
        check((1, 4, 7, 19), out, pad=1, mode=mode)
    check((1, 4, 7, 5), (8, 14), mode=mode, scales=(0.5, 0.5))


def test_corners_lie_on_corners() -> None:
    for out in ((9, 3), (1, 14)):
        check((1, 4, 7, 5), out, mode="bilinear", align_corners=True)
