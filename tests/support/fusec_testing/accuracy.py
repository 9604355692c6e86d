"""The one tolerance of the tests: no further from float64 than twice the plain implementation."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_no_worse(ours: Any, reference: Any, truth: Any, *, where: str = "") -> None:
    """Fail unless ``err(ours) <= 2 * err(reference) + floor``, both against `truth`.

    The error is the largest absolute difference; the floor is eight units in the last place of the
    largest true value, in the dtype of `ours`: two orders of one sum of some hundred terms are that
    far apart, and on a small sample the plain implementation may be right by luck. Where `truth` is
    not finite, or the plain implementation overflows, `ours` must be of the same kind (NaN, +inf,
    -inf) as one of the two.

    Args:
        ours: what is tested, an array or a tensor.
        reference: same dtype, by the plain implementation.
        truth: the same computed in float64.
        where: put in front of the message.
    """
    got, plain, exact = (_array(value) for value in (ours, reference, truth))
    assert got.shape == exact.shape, f"{where} shape {got.shape}, wanted {exact.shape}"
    assert got.dtype == plain.dtype, f"{where} dtype {got.dtype}, wanted {plain.dtype}"
    if got.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, plain, err_msg=where)
        return
    unit = float(np.finfo(got.dtype).eps)
    got, plain = got.astype(exact.dtype), plain.astype(exact.dtype)
    ordinary = np.isfinite(exact) & np.isfinite(plain)
    same = (_kind(got) == _kind(exact)) | (_kind(got) == _kind(plain))
    wrong = np.argwhere(~ordinary & ~same)
    assert not len(wrong), f"{where} at {tuple(wrong[0])}: got {got[tuple(wrong[0])]}"
    if not ordinary.any():
        return
    error = np.where(ordinary, np.abs(got - np.where(ordinary, exact, 0)), 0.0)
    allowed = np.abs(plain[ordinary] - exact[ordinary]).max()
    bound = 2 * allowed + 8 * unit * np.abs(exact[ordinary]).max()
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    assert error[worst] <= bound, (
        f"{where} at {tuple(map(int, worst))}: got {got[worst]!r}, truth {exact[worst]!r}; "
        f"error {error[worst]:.3g}, the plain implementation's is {allowed:.3g}, "
        f"allowed {bound:.3g}"
    )


def _array(value: Any) -> np.ndarray:
    """Return a NumPy array of a tensor or array; bfloat16 and float8 tensors become float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.bfloat16",) or "float8" in str(value.dtype):
            value = value.float()
        value = value.numpy()
    return np.asarray(value)


def _kind(values: np.ndarray) -> np.ndarray:
    """Return 0 for finite, 1 for +inf, -1 for -inf, 2 for NaN."""
    kinds = np.zeros(values.shape, dtype=np.int8)
    if values.dtype.kind == "c":
        kinds[~np.isfinite(values)] = 2
        return kinds
    kinds[np.isposinf(values)] = 1
    kinds[np.isneginf(values)] = -1
    kinds[np.isnan(values)] = 2
    return kinds
