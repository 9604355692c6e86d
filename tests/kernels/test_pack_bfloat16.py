"""Panels stored as bfloat16: rounded as torch rounds, NaN kept, widened exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.stage import Layout, LayoutKind, packed_elements
from fusec.kernels.gemm.pack import from_bfloat16, pack, to_bfloat16, unpack

EDGES = [
    0x0000_0000, 0x8000_0000,  # zeros
    0x0000_0001, 0x807F_FFFF, 0x0080_0000,  # denormals, the least normal
    0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0x3F80_7FFF,  # ties to even, and next to a tie
    0x7F7F_7FFF, 0x7F7F_8000, 0x7F7F_FFFF, 0xFF7F_FFFF,  # the largest: half of them overflow
    0x7F80_0000, 0xFF80_0000,  # infinities
]  # fmt: skip
NANS = [0x7F80_0001, 0xFF80_0001, 0x7FC0_0000, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7F80_8000]

near_ties = st.builds(
    lambda upper, lower: upper << 16 | lower,
    st.integers(0, 0xFFFF),
    st.sampled_from([0x8000, 0x7FFF, 0x8001]),
)
bits_of_floats = st.lists(
    st.integers(0, 2**32 - 1) | st.sampled_from(EDGES + NANS) | near_ties, min_size=1, max_size=60
)


def _floats(bits: list[int]) -> np.ndarray:
    return np.array(bits, dtype=np.uint32).view(np.float32)


@given(bits_of_floats)
def test_it_rounds_as_torch_does_and_keeps_nan(bits: list[int]) -> None:
    x = _floats(bits)
    wanted = torch.from_numpy(x).bfloat16()
    got = to_bfloat16(x)
    assert got.dtype == np.uint16
    nan = np.isnan(x)
    np.testing.assert_array_equal(got[~nan], wanted.view(torch.int16).numpy().view(np.uint16)[~nan])
    wide = from_bfloat16(got)
    np.testing.assert_array_equal(np.isnan(wide), nan)
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(x))
    np.testing.assert_array_equal(to_bfloat16(wide), got)


def test_every_bfloat16_comes_back() -> None:
    """A signalling NaN becomes the quiet one of its sign and payload."""
    halves = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    back = to_bfloat16(from_bfloat16(halves))
    signalling = np.isnan(from_bfloat16(halves)) & (halves & 0x40 == 0)
    np.testing.assert_array_equal(back, np.where(signalling, halves | 0x40, halves))


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
@pytest.mark.parametrize(("k", "n", "nr"), [(5, 7, 16), (3, 48, 48), (1, 1, 32), (9, 130, 64)])
def test_panels_hold_the_rounded_weight(k: int, n: int, nr: int, order: tuple[int, int]) -> None:
    wide = Layout(kind=LayoutKind.PANELS, order=order, groups=1, k=k, n=n, nr=nr)
    layout = replace(wide, stored="bfloat16")
    matrix = np.random.default_rng(0).standard_normal((k, n), dtype=np.float32)
    array = matrix.T if order == (1, 0) else matrix
    flat = pack(layout, array)
    assert flat.dtype == np.uint16
    assert flat.size == packed_elements(layout)
    rounded = torch.from_numpy(array.copy()).bfloat16().float().numpy()
    np.testing.assert_array_equal(unpack(layout, array.shape, flat), rounded)
    np.testing.assert_array_equal(from_bfloat16(flat), pack(wide, rounded))
    np.testing.assert_array_equal(pack(layout, unpack(layout, array.shape, flat)), flat)
    assert unpack(layout, array.shape, flat).dtype == np.float32


def test_groups_of_a_weight_with_strides_are_packed_one_after_another() -> None:
    layout = Layout(
        kind=LayoutKind.PANELS, order=(2, 1, 0), groups=3, k=10, n=4, nr=16, stored="bfloat16"
    )
    array = np.random.default_rng(0).standard_normal((3, 10, 8), dtype=np.float32)[:, :, ::2].T
    flat = pack(layout, array)
    rounded = torch.from_numpy(array.copy()).bfloat16().float().numpy()
    np.testing.assert_array_equal(unpack(layout, array.shape, flat), rounded)


def test_no_elements() -> None:
    layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=0, n=5, nr=16)
    layout = replace(layout, stored="bfloat16")
    flat = pack(layout, np.zeros((5, 0), np.float32))
    assert unpack(layout, (5, 0), flat).shape == (5, 0)
