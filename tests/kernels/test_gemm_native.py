"""gemm: the native kernel against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.fences import fenced
from fusec_testing.stages import Cut, run_native, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    Stage,
    TileOp,
    View,
    packed_elements,
)
from fusec.kernels.gemm.micro import CHUNK
from fusec.kernels.gemm.pack import pack, unpack


def _layout(k: int, n: int, nr: int) -> Layout:
    return Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=nr)


class Case:
    """A linear layer: x [M, K] in rows of `lda` floats, w [N, K], a bias; C in rows of `ldc`."""

    def __init__(
        self,
        m: int,
        k: int,
        n: int,
        nr: int,
        *,
        bias: bool = True,
        pad: int = 0,
        half: bool = False,
    ) -> None:
        rng = np.random.default_rng([m, k, n, nr])
        self.m, self.k, self.n, self.pad = m, k, n, pad
        self.x = rng.standard_normal((m, k + pad), dtype=np.float32)
        self.w = rng.standard_normal((n, k), dtype=np.float32)
        self.b = rng.standard_normal(n, dtype=np.float32)
        layout = _layout(k, n, nr)
        stored = self.w
        dtype = "float32"
        if half:
            stored = (self.w.view(np.uint32) >> 16).astype(np.uint16)
            self.w = (stored.astype(np.uint32) << 16).view(np.float32)
            dtype = "bfloat16"
        packed = pack(layout, stored)
        self.flats = [
            self.x.reshape(-1),
            packed if packed.size else np.zeros(1, packed.dtype),
            np.full(m * (n + pad) + 1, np.nan, np.float32),
            self.b,
        ]
        sizes = [m * (k + pad), packed_elements(layout), m * (n + pad), n]
        kinds = [BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.ARENA, BufferKind.WEIGHT]
        self.buffers = [
            Buffer(kind=kind, dtype=dtype if i == 1 else "float32", elements=size, index=0)
            for i, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
        ]
        reads = [
            View(0, "float32", (m, k), (k + pad, 1), 0),
            View(1, dtype, (sizes[1],), (1,), 0),
            View(3, "float32", (n,), (1,), 0),
        ]
        self.stage = Stage(
            op=TileOp.GEMM,
            reads=tuple(reads[: 3 if bias else 2]),
            writes=(View(2, "float32", (m, n), (n + pad, 1), 0),),
            attrs=(("k", k), ("n", n), ("nr", nr)),
            point=None,
            extern=None,
            rows=(0,),
        )

    def run(self, cuts: list[Cut] | None = None) -> np.ndarray:
        self.flats[2][:] = np.nan
        run_native(self.stage, self.buffers, self.flats, cuts)
        return self.result()

    def result(self) -> np.ndarray:
        grid = self.flats[2][:-1].reshape(self.m, self.n + self.pad)
        assert np.isnan(grid[:, self.n :]).all(), "wrote between the rows"
        assert np.isnan(self.flats[2][-1]), "wrote behind the last row"
        return grid[:, : self.n].copy()

    def check(self, got: np.ndarray, bias: bool) -> None:
        x = torch.from_numpy(self.x[:, : self.k].copy())
        w, b = torch.from_numpy(self.w), torch.from_numpy(self.b)
        plain = torch.nn.functional.linear(x, w, b if bias else None)
        truth = torch.nn.functional.linear(x.double(), w.double(), b.double() if bias else None)
        assert_no_worse(got, plain, truth)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 40),
    k=st.sampled_from([1, 2, 7, 64, 255, 256, 257, 300, 700, 1030]),
    n=st.integers(1, 150),
    nr=st.sampled_from([16, 32, 48, 64]),
    bias=st.booleans(),
    pad=st.integers(0, 3),
)
def test_it_is_as_near_to_float64_as_torch(
    m: int, k: int, n: int, nr: int, bias: bool, pad: int
) -> None:
    case = Case(m, k, n, nr, bias=bias, pad=pad)
    case.check(case.run(), bias)


@pytest.mark.parametrize(("m", "k", "n"), [(200, 520, 70), (97, 40, 16), (1, 2300, 200)])
def test_many_rows_and_long_sums(m: int, k: int, n: int) -> None:
    case = Case(m, k, n, 48)
    case.check(case.run(), bias=True)


@pytest.mark.parametrize("nr", [16, 32, 48, 64])
def test_a_row_alone_has_the_bits_it_has_among_others(nr: int) -> None:
    case = Case(27, 700, 100, nr)
    together = case.run()
    panels = -(-100 // nr)
    for lo in range(27):
        for width in (1, 3, 6, 8):
            case.flats[2][:] = np.nan
            hi = min(27, lo + width)
            run_native(case.stage, case.buffers, case.flats, [(lo, hi, 0, panels)])
            got = case.result()
            np.testing.assert_array_equal(got[lo:hi], together[lo:hi])
            assert np.isnan(got[:lo]).all()
            assert np.isnan(got[hi:]).all()


def test_panel_widths_and_column_cuts_leave_the_bits_alone() -> None:
    wide = Case(13, 600, 100, 48)
    expected = wide.run()
    for nr in (16, 32, 64):
        narrow = Case(13, 600, 100, 48)
        other = Case(13, 600, 100, nr)
        other.flats[0], other.flats[3] = narrow.flats[0], narrow.flats[3]
        other.flats[1] = pack(_layout(600, 100, nr), narrow.w)
        np.testing.assert_array_equal(other.run(), expected)
    cuts = [(5, 13, 0, 1), (0, 5, 1, 3), (5, 13, 1, 2), (0, 5, 0, 1), (5, 13, 2, 3)]
    np.testing.assert_array_equal(wide.run(cuts), expected)


def test_sums_are_chunks_of_256_added_in_order() -> None:
    case = Case(3, 700, 5, 16, bias=False)
    got = case.run()
    for i in range(3):
        for j in range(5):
            total = None
            for k0 in range(0, 700, CHUNK):
                chain = np.float64(0)
                for k in range(k0, min(700, k0 + CHUNK)):
                    # A product of floats is exact in float64; rounding the sum to float32 after
                    # rounding it to float64 differs from one rounding in no case seen here.
                    product = np.float64(case.x[i, k]) * np.float64(case.w[j, k])
                    chain = np.float64(np.float32(chain + product))
                total = (
                    np.float32(chain) if total is None else np.float32(total + np.float32(chain))
                )
            assert got[i, j] == total


def test_what_is_not_finite_stays_in_its_row() -> None:
    case = Case(9, 300, 20, 48)
    clean = case.run()
    case.x[4, 7] = np.nan
    case.x[5, 0] = np.inf
    dirty = case.run()
    others = [0, 1, 2, 3, 6, 7, 8]
    np.testing.assert_array_equal(dirty[others], clean[others])
    assert np.isnan(dirty[4]).all()
    assert np.isinf(dirty[5]).all()


@pytest.mark.parametrize("nr", [16, 48])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (9, 259, 33), (17, 30, 96)])
def test_nothing_behind_the_operands_is_touched(m: int, k: int, n: int, nr: int) -> None:
    case = Case(m, k, n, nr)
    expected = case.run()
    case.flats = [*map(fenced, case.flats[:2]), fenced(case.flats[2][:-1]), fenced(case.b)]
    run_native(case.stage, case.buffers, case.flats)
    np.testing.assert_array_equal(case.flats[2].reshape(m, n), expected)


def test_a_sum_over_nothing_is_the_bias() -> None:
    case = Case(3, 0, 20, 16)
    np.testing.assert_array_equal(case.run(), np.broadcast_to(case.b, (3, 20)))


def test_rows_of_following_instances_are_appended() -> None:
    one, many = Case(2, 64, 48, 48), Case(10, 64, 48, 48)
    many.flats[1], many.flats[3] = one.flats[1], one.flats[3]
    expected = many.run()
    # The stage says two rows; its buffers hold five instances.
    one.flats[0], one.flats[2] = many.flats[0], np.empty_like(many.flats[2])
    encoded = run_native(one.stage, one.buffers, one.flats, [(0, 10, 0, 1)])
    assert encoded.flat
    np.testing.assert_array_equal(one.flats[2][:-1].reshape(10, 48), expected)


def test_strided_rows_are_not_flat_when_the_buffer_is_longer() -> None:
    case = Case(2, 64, 48, 48)
    longer = [*case.buffers]
    longer[0] = Buffer(kind=BufferKind.INPUT, dtype="float32", elements=2 * 64 + 1, index=0)
    assert not run_native(case.stage, longer, case.flats).flat


def test_half_width_weights_are_computed_in_float32() -> None:
    case = Case(11, 300, 70, 48, half=True)
    case.check(case.run(), bias=True)


def test_the_reference_agrees() -> None:
    for half in (False, True):
        case = Case(11, 300, 70, 48, half=half)
        native = case.run()
        case.flats[2][:] = np.nan
        run_reference(case.stage, case.flats)
        case.check(case.result(), bias=True)
        np.testing.assert_allclose(case.result(), native, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
@pytest.mark.parametrize(("k", "n", "nr"), [(5, 7, 16), (3, 48, 48), (1, 1, 32), (9, 130, 64)])
def test_packing_is_undone_exactly(k: int, n: int, nr: int, order: tuple[int, int]) -> None:
    layout = Layout(kind=LayoutKind.PANELS, order=order, groups=1, k=k, n=n, nr=nr)
    matrix = np.random.default_rng(0).standard_normal((k, n), dtype=np.float32)
    array = matrix.T if order == (1, 0) else matrix
    flat = pack(layout, array)
    assert flat.size == packed_elements(layout)
    np.testing.assert_array_equal(unpack(layout, array.shape, flat), array)
    panels = flat.reshape(-1, k, nr)
    np.testing.assert_array_equal(panels[0, :, : min(n, nr)], matrix[:, :nr])
    if n % nr:
        assert (panels[-1, :, n % nr :] == 0).all()


def test_groups_are_packed_one_after_another() -> None:
    layout = Layout(kind=LayoutKind.PANELS, order=(2, 1, 0), groups=3, k=10, n=4, nr=16)
    array = np.random.default_rng(0).standard_normal((4, 10, 3), dtype=np.float32)
    flat = pack(layout, array)
    np.testing.assert_array_equal(unpack(layout, array.shape, flat), array)
    panels = flat.reshape(3, 10, 16)
    np.testing.assert_array_equal(panels[1, :, :4], array[:, :, 1].T)
