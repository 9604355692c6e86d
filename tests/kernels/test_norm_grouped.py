"""Grouped norms in Triton's interpreter: against float64, torch and any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import check_case, interpreter
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import TileOp

interpreter()

EPS = 1e-5


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def attrs(kind: str, weight: bool, bias: bool) -> dict[str, str | float | bool]:
    return {"kind": kind, "eps": EPS, "weight": weight, "bias": bias}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(
    ("rows", "n", "pad", "weight", "bias"),
    [(1, 1, 0, True, True), (5, 7, 2, True, False), (17, 33, 1, False, True), (2, 270, 0, 1, 1)],
)
def test_rows_are_as_near_to_float64_as_torch(
    rows: int, n: int, pad: int, weight: bool, bias: bool, kind: str, dtype: str
) -> None:
    bias = bool(bias) and kind == "layer"
    rng = np.random.default_rng([rows, n, pad])
    x, w, b = ((normal(rng, *s) + 3).astype(dtype) for s in ((rows, n), (n,), (n,)))
    reads = [strided(x, pad), *([w] if weight else []), *([b] if bias else [])]
    y = strided(np.zeros_like(x), pad)
    case = KernelCase(TileOp.NORM, reads, [y], attrs(kind, bool(weight), bias), weights=(1, 2))
    (got,), _ = check_case(case)

    def plain(wide: bool) -> torch.Tensor:
        given = [torch.from_numpy(a) for a in (x, w, b)]
        tx, tw, tb = (t.double() if wide else t for t in given)
        scale, shift = tw if weight else None, tb if bias else None
        if kind == "rms":
            return F.rms_norm(tx, (n,), scale, EPS)
        return F.layer_norm(tx, (n,), scale, shift, EPS)

    assert_no_worse(got, plain(False), plain(True))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("samples", "groups", "each", "space"), [(1, 1, 1, 5), (2, 3, 5, 7), (1, 4, 2, 41)]
)
def test_groups_are_as_near_to_float64_as_torch(
    samples: int, groups: int, each: int, space: int, last: bool
) -> None:
    rng = np.random.default_rng([groups, each, space])
    channels = groups * each
    x, w, b = normal(rng, samples, channels, space), normal(rng, channels), normal(rng, channels)
    kind = "columns" if last else "group"
    if last:
        seen = strided(np.ascontiguousarray(x.swapaxes(1, 2)), 2)
    else:
        seen = strided(x, 2).reshape(samples, channels, space)
        seen = np.lib.stride_tricks.as_strided(
            seen,
            (samples, groups, each, space),
            (seen.strides[0], seen.strides[1] * each, seen.strides[1], seen.strides[2]),
        ).copy()
    case = KernelCase(
        TileOp.NORM,
        [seen, w, b],
        [strided(np.zeros(seen.shape, np.float32), 1)],
        attrs(kind, True, True) | ({"groups": groups} if last else {}),
        weights=(1, 2),
    )
    (got,), _ = check_case(case)
    got = got.swapaxes(1, 2) if last else got.reshape(x.shape)
    tensors = [torch.from_numpy(a) for a in (x, w, b)]
    plain = F.group_norm(tensors[0], groups, *tensors[1:], EPS)
    truth = F.group_norm(tensors[0].double(), groups, *(t.double() for t in tensors[1:]), EPS)
    assert_no_worse(got, plain, truth)


def test_epilogue_and_a_nan_that_stays_in_its_row() -> None:
    rng = np.random.default_rng(3)
    x = normal(rng, 9, 21)
    x[4, 3] = np.nan
    case = KernelCase(TileOp.NORM, [x], [np.zeros_like(x)], attrs("layer", False, False))
    (got,), (plain,) = check_case(case.with_epilogue(rng))
    np.testing.assert_allclose(got, plain, rtol=1e-5, atol=1e-5)
    assert np.isnan(got[4]).all() and np.isfinite(np.delete(got, 4, 0)).all()
