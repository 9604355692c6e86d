"""attention: the native kernel against float64 and plain torch; one result whatever the cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.kernel_case import KernelCase
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.stage import Attr, TileOp

sdpa = torch.nn.functional.scaled_dot_product_attention


class Case:
    """Queries, keys and values in the layout [b, s, h, d] that projections leave."""

    def __init__(
        self,
        b: int,
        h: int,
        s: int,
        t: int,
        d: int,
        e: int,
        *,
        mask: str = "none",
        causal: bool = False,
        group: int = 1,
    ) -> None:
        rng = np.random.default_rng([b, h, s, t, d, e])
        self.q = rng.standard_normal((b, s, h, d), dtype=np.float32).swapaxes(1, 2)
        self.k = rng.standard_normal((b, t, h // group, d), dtype=np.float32).swapaxes(1, 2)
        self.v = rng.standard_normal((b, t, h // group, e), dtype=np.float32).swapaxes(1, 2)
        self.y = np.zeros((b, s, h, e), np.float32).swapaxes(1, 2)
        self.mask = None
        if mask == "bool":
            self.mask = rng.random((b, 1, s, t)) < 0.7
        elif mask == "key":
            self.mask = rng.random((b, 1, 1, t)) < 0.7
        elif mask == "float":
            self.mask = rng.standard_normal((1, h, s, t), dtype=np.float32)
        self.causal, self.group = causal, group
        kind = "none" if self.mask is None else "float" if mask == "float" else "bool"
        self.attrs: dict[str, Attr] = {
            "scale": d**-0.5, "causal": causal, "mask": kind, "group": group,
        }  # fmt: skip

    def kernel(self) -> KernelCase:
        reads = [self.q, self.k, self.v]
        if self.mask is not None:
            b, h, s, _ = self.q.shape
            reads.append(np.broadcast_to(self.mask, (b, h, s, self.mask.shape[3])))
        return KernelCase(TileOp.ATTENTION, reads, [self.y], self.attrs)

    def torch(self, dtype: torch.dtype) -> torch.Tensor:
        q, k, v = (torch.from_numpy(np.ascontiguousarray(x)).to(dtype)
                   for x in (self.q, self.k, self.v))  # fmt: skip
        mask = None if self.mask is None else torch.from_numpy(self.mask)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(dtype)
        return sdpa(q, k, v, mask, is_causal=self.causal, enable_gqa=self.group > 1)


def _check(case: Case) -> np.ndarray:
    kernel = case.kernel()
    (got,) = kernel.check_cuts()
    assert_no_worse(got, case.torch(torch.float32), case.torch(torch.float64))
    np.testing.assert_allclose(got, kernel.reference()[0], rtol=1e-4, atol=1e-5)
    return got


@settings(max_examples=100, deadline=None)
@given(
    b=st.integers(1, 2),
    h=st.sampled_from([1, 2, 4]),
    s=st.integers(1, 40),
    t=st.one_of(st.integers(1, 70), st.sampled_from([96, 255, 256, 300])),
    d=st.one_of(st.integers(1, 70), st.sampled_from([257, 300])),
    e=st.integers(1, 70),
    mask=st.sampled_from(["none", "bool", "key", "float"]),
    causal=st.booleans(),
    grouped=st.booleans(),
)
def test_it_is_as_near_to_float64_as_torch(
    b: int, h: int, s: int, t: int, d: int, e: int, mask: str, causal: bool, grouped: bool
) -> None:
    mask = "none" if causal else mask
    group = 2 if grouped and h > 1 else 1
    _check(Case(b, h, s, t, d, e, mask=mask, causal=causal, group=group))


@pytest.mark.parametrize("causal", [False, True])
def test_many_tokens(causal: bool) -> None:
    _check(Case(1, 2, 200, 600, 64, 64, causal=causal))


def test_a_row_that_sees_nothing_is_zero() -> None:
    case = Case(1, 2, 11, 20, 8, 8, mask="bool")
    assert case.mask is not None
    case.mask[0, 0, 3] = False
    got = _check(case)
    assert (got[0, :, 3] == 0).all()
    case = Case(1, 2, 11, 20, 8, 8, mask="float")
    assert case.mask is not None
    case.mask[0, 1, 3] = -np.inf
    got = _check(case)
    assert (got[0, 1, 3] == 0).all()
    assert (got[0, 0, 3] != 0).any()


def test_a_nan_stays_in_its_row_or_head() -> None:
    case = Case(1, 3, 20, 20, 8, 8)
    case.q[0, 0, 5, 1] = np.nan
    case.k[0, 1, 7, 0] = np.nan
    (got,) = case.kernel().run()
    bad = np.isnan(got).all(axis=3)
    assert bad[0, 0, 5]
    assert bad[0, 1].all()
    assert bad.sum() == 21


def test_no_keys_give_zeros() -> None:
    (got,) = Case(1, 2, 5, 0, 8, 8).kernel().run()
    assert (got == 0).all()


def test_one_row_alone_has_the_bits_it_has_among_others() -> None:
    case = Case(1, 2, 32, 50, 32, 32)
    (whole,) = case.kernel().run()
    for row in (0, 7, 8, 31):
        one = Case(1, 2, 32, 50, 32, 32)
        one.q, one.y = one.q[:, :, row : row + 1], one.y[:, :, row : row + 1]
        (got,) = one.kernel().run()
        np.testing.assert_array_equal(got[:, :, 0], whole[:, :, row])
