"""The accuracy rule itself: it accepts what is as good as plain and rejects what is worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse


def test_twice_the_plain_error_passes_and_more_fails() -> None:
    truth = np.ones((2, 3))
    plain = np.full((2, 3), 1 + 1e-3, dtype=np.float32)
    assert_no_worse(np.full((2, 3), 1 - 1.9e-3, dtype=np.float32), plain, truth)
    ours = plain.copy()
    ours[1, 2] = 1 + 2.1e-3
    with pytest.raises(AssertionError, match=r"at \(1, 2\)"):
        assert_no_worse(ours, plain, truth)


def test_exact_plain_leaves_a_few_units_in_the_last_place() -> None:
    truth, plain = np.array([4.0]), np.array([4.0], dtype=np.float32)
    assert_no_worse(np.nextafter(plain, np.float32(5)), plain, truth)
    with pytest.raises(AssertionError, match="allowed"):
        assert_no_worse(plain + np.float32(8e-6), plain, truth)


@pytest.mark.parametrize("wrong", [0.0, np.inf, np.nan])
def test_kinds_of_not_finite_are_told_apart(wrong: float) -> None:
    truth = np.array([-np.inf, 1.0])
    plain = truth.astype(np.float32)
    assert_no_worse(plain, plain, truth)
    with pytest.raises(AssertionError, match="at"):
        assert_no_worse(np.array([wrong, 1.0], dtype=np.float32), plain, truth)


def test_a_nan_among_finite_values_fails() -> None:
    plain = np.ones(3, dtype=np.float32)
    with pytest.raises(AssertionError, match="nan"):
        assert_no_worse(np.array([1, np.nan, 1], dtype=np.float32), plain, np.ones(3))


def test_shape_and_dtype_are_part_of_the_answer() -> None:
    plain = torch.ones(3)
    with pytest.raises(AssertionError, match="shape"):
        assert_no_worse(torch.ones(1, 3), plain, torch.ones(3, dtype=torch.float64))
    with pytest.raises(AssertionError, match="dtype"):
        assert_no_worse(torch.ones(3).double(), plain, torch.ones(3, dtype=torch.float64))


def test_integers_are_compared_exactly() -> None:
    with pytest.raises(AssertionError, match="Mismatch"):
        assert_no_worse(np.array([1, 2]), np.array([1, 3]), np.array([1.0, 3.0]))
