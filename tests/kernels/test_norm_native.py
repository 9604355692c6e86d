"""norm: the native kernels against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.kernel_case import KernelCase, strided
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import TileOp

EPS = 1e-5


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _attrs(kind: str, weight: bool, bias: bool) -> dict[str, str | float | bool]:
    return {"kind": kind, "eps": EPS, "weight": weight, "bias": bias}


def _double(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    return [None if t is None else t.double() for t in tensors]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["layer", "rms"]),
    rows=st.integers(1, 9),
    n=st.one_of(st.integers(1, 200), st.sampled_from([384, 1000, 16384, 20011])),
    pad=st.integers(0, 3),
    weight=st.booleans(),
    bias=st.booleans(),
    centre=st.sampled_from([0.0, 50.0]),
)
def test_rows_are_as_near_to_float64_as_torch(
    kind: str, rows: int, n: int, pad: int, weight: bool, bias: bool, centre: float
) -> None:
    bias = bias and kind == "layer"
    rng = np.random.default_rng([rows, n, pad])
    x, w, b = _normal(rng, rows, n) + np.float32(centre), _normal(rng, n), _normal(rng, n)
    reads = [strided(x, pad), *([w] if weight else []), *([b] if bias else [])]
    y = strided(np.zeros_like(x), pad)
    case = KernelCase(TileOp.NORM, reads, [y], _attrs(kind, weight, bias), weights=(1, 2))
    (got,) = case.check_cuts()
    given_w = torch.from_numpy(w) if weight else None
    given_b = torch.from_numpy(b) if bias else None

    def plain(x: torch.Tensor, w: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor:
        if kind == "rms":
            return F.rms_norm(x, (n,), w, EPS)
        return F.layer_norm(x, (n,), w, b, EPS)

    operands = torch.from_numpy(x), given_w, given_b
    assert_no_worse(got, plain(*operands), plain(*_double(*operands)))
    assert_no_worse(got, plain(*operands), case.reference()[0].astype(np.float64))


@settings(max_examples=60, deadline=None)
@given(
    last=st.booleans(),
    samples=st.integers(1, 2),
    groups=st.integers(1, 9),
    each=st.integers(1, 24),
    space=st.one_of(st.integers(1, 70), st.sampled_from([257, 600])),
    pad=st.integers(0, 2),
    weight=st.booleans(),
    bias=st.booleans(),
)
def test_groups_are_as_near_to_float64_as_torch(
    last: bool, samples: int, groups: int, each: int, space: int, pad: int, weight: bool, bias: bool
) -> None:
    rng = np.random.default_rng([groups, each, space])
    channels = groups * each
    x, w, b = _normal(rng, samples, channels, space), _normal(rng, channels), _normal(rng, channels)
    operands = [*([w] if weight else []), *([b] if bias else [])]
    attrs: dict[str, str | float | bool] = _attrs("columns" if last else "group", weight, bias)
    if last:
        attrs["groups"] = groups
        seen = strided(np.ascontiguousarray(x.transpose(0, 2, 1)), pad)
        y = strided(np.zeros((samples, space, channels), np.float32), pad)
    else:
        split = x.reshape(samples, groups, each, space)
        seen, y = strided(split, pad), strided(np.zeros_like(split), pad)
    case = KernelCase(TileOp.NORM, [seen, *operands], [y], attrs, weights=(1, 2))
    (got,) = case.check_cuts()
    got = got.transpose(0, 2, 1) if last else got.reshape(x.shape)
    tensors = (
        torch.from_numpy(x),
        *(torch.from_numpy(a) if there else None for a, there in ((w, weight), (b, bias))),
    )

    def plain(x: torch.Tensor, w: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor:
        return F.group_norm(x, groups, w, b, EPS)

    if each * space > 1:
        assert_no_worse(got, plain(*tensors), plain(*_double(*tensors)))
    case.run()
    (reference,) = case.reference()
    reference = reference.transpose(0, 2, 1) if last else reference.reshape(x.shape)
    np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_nan_stays_in_its_row(kind: str) -> None:
    x = _normal(np.random.default_rng(0), 5, 40)
    x[2, 17] = np.nan
    x[4, 3] = np.inf
    case = KernelCase(TileOp.NORM, [x], [np.zeros_like(x)], _attrs(kind, False, False))
    (got,) = case.run()
    assert np.isnan(got[2]).all()
    assert np.isnan(got[4]).any()
    assert np.isfinite(got[[0, 1, 3]]).all()


@pytest.mark.parametrize(
    ("kind", "shape"), [("layer", (7, 33)), ("rms", (40, 300)), ("group", (2, 3, 5, 20)),
                        ("columns", (2, 30, 24))],
)  # fmt: skip
def test_every_element_passes_the_epilogue_once(kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = _normal(rng, *shape)
    attrs: dict[str, str | float | bool] = _attrs(kind, False, False)
    if kind == "columns":
        attrs["groups"] = 3
    case = KernelCase(TileOp.NORM, [x], [np.zeros_like(x)], attrs).with_epilogue(rng)
    (got,) = case.check_cuts()
    np.testing.assert_allclose(got, case.reference()[0], rtol=1e-4, atol=1e-5)


def test_rows_of_following_instances_go_on() -> None:
    rng = np.random.default_rng(2)
    x = _normal(rng, 6, 50)
    many = KernelCase(TileOp.NORM, [x], [np.zeros_like(x)], _attrs("layer", False, False))
    one = KernelCase(TileOp.NORM, [x[:1].copy()], [np.zeros((1, 50), np.float32)],
                     _attrs("layer", False, False))  # fmt: skip
    (expected,) = many.run()
    one.run()
    assert one.encoded is not None and one.encoded.flat
    buffers = one.buffers
    one.flats, one.buffers = many.flats, buffers
    from fusec_testing.stages import run_native

    many.flats[1][:] = np.nan
    run_native(one.stage, buffers, many.flats, [(0, 4, 0, 1), (4, 6, 0, 1)])
    np.testing.assert_array_equal(many.results()[0], expected)
