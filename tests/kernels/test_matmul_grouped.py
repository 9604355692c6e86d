"""The grouped matmul in Triton's interpreter: any strides, batches, dtypes, company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.grouped import check_case, interpreter
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import TileOp

interpreter()


def operands(
    batch: tuple[int, ...], m: int, k: int, n: int, order: str, dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([*batch, m, k, n])
    a = strided(rng.standard_normal((*batch, m, k)).astype(dtype), 1)
    b = rng.standard_normal((*batch, k, n)).astype(dtype)
    if order == "nk":
        b = strided(np.ascontiguousarray(b.swapaxes(-1, -2)), 2).swapaxes(-1, -2)
    elif order == "apart":
        room = np.zeros((*b.shape, 2), dtype)
        room[..., 1] = b
        b = room[..., 1]
    return a, b, rng.standard_normal(n).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(
    ("batch", "m", "k", "n", "order", "bias"),
    [
        ((), 1, 1, 1, "kn", True),
        ((), 17, 33, 35, "nk", False),
        ((3,), 5, 70, 9, "apart", True),
        ((2, 3), 18, 7, 33, "kn", False),
        ((2,), 3, 300, 2, "nk", True),
    ],
)
def test_it_is_as_near_to_float64_as_torch(
    batch: tuple[int, ...], m: int, k: int, n: int, order: str, bias: bool, dtype: str
) -> None:
    a, b, extra = operands(batch, m, k, n, order, dtype)
    y = strided(np.zeros((*batch, m, n), dtype), 1)
    case = KernelCase(TileOp.MATMUL, [a, b, *([extra] if bias else [])], [y], {}, weights=(2,))
    (got,), _ = check_case(case)
    tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in (a, b, extra)]

    def plain(wide: bool) -> torch.Tensor:
        x, w, c = (t.double() if wide else t for t in tensors)
        return x @ w + c if bias else x @ w

    assert_no_worse(got, plain(False), plain(True))


@pytest.mark.parametrize("batch", [(), (3,)])
def test_nothing_to_add_up_or_to_write(batch: tuple[int, ...]) -> None:
    for m, k, n in ((3, 0, 4), (0, 3, 4)):
        a, b, _ = operands(batch, m, k, n, "kn", "float32")
        y = np.zeros((*batch, m, n), np.float32)
        (got,), _ = check_case(KernelCase(TileOp.MATMUL, [a, b], [y], {}))
        assert (got == 0).all()


def test_epilogue() -> None:
    a, b, _ = operands((2,), 9, 21, 34, "kn", "float32")
    case = KernelCase(TileOp.MATMUL, [a, b], [np.zeros((2, 9, 34), np.float32)], {})
    (got,), (wanted,) = check_case(case.with_epilogue(np.random.default_rng(0)))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
