"""matmul: the native kernel against float64 and plain torch, any strides; one result per cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.fences import fenced
from fusec_testing.stages import Cut, run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import Buffer, BufferKind, Stage, TileOp, View, dense


class Case:
    """A product of two arrays whose axes lie in memory in any order."""

    def __init__(
        self,
        batch: tuple[int, ...],
        m: int,
        k: int,
        n: int,
        *,
        b_order: str = "kn",
        bias: bool = False,
        dtype: str = "float32",
        repeat: bool = False,
        slack: int = 0,
    ) -> None:
        rng = np.random.default_rng([*batch, m, k, n])
        self.shape = (*batch, m, n)
        self.dtype = dtype
        self.a = rng.standard_normal((*batch, m, k)).astype(dtype)
        b = rng.standard_normal((*batch, k, n)).astype(dtype)
        size = b.itemsize
        if b_order == "kn":
            stored = np.zeros((*batch, k, n + slack), dtype)
            self.b = stored[..., :n]
        elif b_order == "nk":
            stored = np.zeros((*batch, n, k + slack), dtype)
            self.b = stored[..., :k].swapaxes(-1, -2)
        else:
            stored = np.zeros((*batch, k, n, 2), dtype)
            self.b = stored[..., 1]
        self.b[...] = b
        strides = [s // size for s in self.b.strides]
        if repeat and batch:
            strides[0] = 0
            self.b[...] = self.b[:1]
        self.bias = rng.standard_normal(n).astype(dtype)
        self.flats = [
            self.a.reshape(-1),
            stored.reshape(-1),
            np.full(int(np.prod(self.shape)) + 1, np.nan, dtype),
            self.bias,
        ]
        kinds = [BufferKind.INPUT, BufferKind.INPUT, BufferKind.ARENA, BufferKind.WEIGHT]
        self.buffers = [
            Buffer(kind=kind, dtype=dtype, elements=flat.size - (i == 2), index=0)
            for i, (kind, flat) in enumerate(zip(kinds, self.flats, strict=True))
        ]
        offset = 1 if b_order == "strided" else 0
        reads = [
            dense(0, dtype, (*batch, m, k)),
            View(1, dtype, (*batch, k, n), tuple(strides), offset),
            View(3, dtype, (n,), (1,), 0),
        ]
        self.with_bias = bias
        self.stage = Stage(
            op=TileOp.MATMUL,
            reads=tuple(reads[: 3 if bias else 2]),
            writes=(dense(2, dtype, self.shape),),
            attrs=(),
            point=None,
            extern=None,
            rows=(0,),
        )

    def run(self, cuts: list[Cut] | None = None) -> np.ndarray:
        self.flats[2][:] = np.nan
        run_native(self.stage, self.buffers, self.flats, cuts)
        assert np.isnan(self.flats[2][-1]), "wrote behind the last row"
        return self.flats[2][:-1].reshape(self.shape).copy()

    def check(self, got: np.ndarray) -> None:
        a, b = torch.from_numpy(self.a), torch.from_numpy(np.ascontiguousarray(self.b))
        bias = torch.from_numpy(self.bias) if self.with_bias else 0
        plain = (a @ b + bias).numpy()
        truth = self.a.astype(np.longdouble) @ self.b.astype(np.longdouble)
        if self.with_bias:
            truth = truth + self.bias
        assert_no_worse(got, plain, truth.astype(np.float64))


@settings(max_examples=80, deadline=None)
@given(
    batch=st.sampled_from([(), (3,), (2, 3), (1, 2)]),
    m=st.integers(1, 20),
    k=st.sampled_from([1, 3, 16, 17, 64, 257, 530]),
    n=st.sampled_from([1, 5, 16, 31, 48, 50, 96, 100]),
    b_order=st.sampled_from(["kn", "nk", "strided"]),
    bias=st.booleans(),
    repeat=st.booleans(),
    slack=st.integers(0, 2),
    dtype=st.sampled_from(["float32", "float32", "float64"]),
)
def test_it_is_as_near_to_float64_as_torch(
    batch: tuple[int, ...],
    m: int,
    k: int,
    n: int,
    b_order: str,
    bias: bool,
    repeat: bool,
    slack: int,
    dtype: str,
) -> None:
    case = Case(batch, m, k, n, b_order=b_order, bias=bias, repeat=repeat, slack=slack, dtype=dtype)
    case.check(case.run())


@pytest.mark.parametrize(("batch", "m", "k", "n"), [((2,), 150, 1100, 100), ((), 97, 20, 49)])
@pytest.mark.parametrize("b_order", ["kn", "nk"])
def test_many_rows_and_long_sums(
    batch: tuple[int, ...], m: int, k: int, n: int, b_order: str
) -> None:
    case = Case(batch, m, k, n, b_order=b_order)
    case.check(case.run())


@pytest.mark.parametrize("b_order", ["kn", "nk", "strided"])
def test_cuts_leave_the_bits_alone(b_order: str) -> None:
    case = Case((2, 2), 13, 600, 100, b_order=b_order)
    expected = case.run()
    rng = np.random.default_rng(0)
    for _ in range(5):
        marks = [0, *sorted(rng.choice(51, 6, replace=False) + 1), 52]
        cuts = [(int(lo), int(hi), p, q) for lo, hi in pairwise(marks) for p, q in ((0, 1), (1, 3))]
        np.testing.assert_array_equal(case.run(cuts), expected)


def test_bits_do_not_depend_on_how_b_lies() -> None:
    bits = [Case((2,), 12, 300, 70, b_order=order).run() for order in ("kn", "nk", "strided")]
    np.testing.assert_array_equal(bits[0], bits[1])
    np.testing.assert_array_equal(bits[0], bits[2])


def test_what_is_not_finite_stays_where_it_is() -> None:
    case = Case((2,), 9, 300, 50)
    clean = case.run()
    case.a[0, 3, 7] = np.nan
    case.b[1, 5, 20] = np.inf
    dirty = case.run()
    touched = np.zeros(clean.shape, bool)
    touched[0, 3] = True
    touched[1, :, 20] = True
    np.testing.assert_array_equal(dirty[~touched], clean[~touched])
    assert not np.isfinite(dirty[touched]).any()


@pytest.mark.parametrize("b_order", ["kn", "nk", "strided"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (9, 259, 33), (17, 30, 96), (3, 5, 50)])
def test_nothing_behind_the_operands_is_touched(m: int, k: int, n: int, b_order: str) -> None:
    case = Case((2,), m, k, n, b_order=b_order, bias=True)
    expected = case.run()
    case.flats = [*map(fenced, case.flats[:2]), fenced(case.flats[2][:-1]), fenced(case.bias)]
    run_native(case.stage, case.buffers, case.flats)
    np.testing.assert_array_equal(case.flats[2].reshape(case.shape), expected)


def test_a_sum_over_nothing_is_zero() -> None:
    assert (Case((2,), 3, 0, 20).run() == 0).all()


def test_rows_of_following_instances_meet_the_same_weight() -> None:
    one, many = Case((), 2, 64, 50, bias=True), Case((), 10, 64, 50, bias=True)
    for case in (one, many):
        case.buffers[1] = Buffer(kind=BufferKind.WEIGHT, dtype="float32", elements=3200, index=0)
    many.flats[1], many.flats[3] = one.flats[1], one.flats[3]
    expected = many.run()
    one.flats[0], one.flats[2] = many.flats[0], np.empty_like(many.flats[2])
    encoded = run_native(one.stage, one.buffers, one.flats, [(0, 10, 0, 2)])
    assert encoded.flat
    np.testing.assert_array_equal(one.flats[2][:-1].reshape(10, 50), expected)


def test_products_of_activations_are_never_appended() -> None:
    for batch in ((), (2,)):
        case = Case(batch, 4, 8, 8)
        assert not run_native(case.stage, case.buffers, case.flats).flat


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_reference_agrees(dtype: str) -> None:
    case = Case((2, 3), 5, 70, 33, b_order="nk", bias=True, dtype=dtype)
    native = case.run()
    run_reference(case.stage, case.flats)
    plain = case.flats[2][:-1].reshape(case.shape)
    case.check(plain)
    np.testing.assert_allclose(plain, native, rtol=1e-4, atol=1e-4)
