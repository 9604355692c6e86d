"""Grouped attention in Triton's interpreter: ragged lengths, masks, shared heads, company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.fences import fenced
from fusec_testing.grouped import Instance, check_case, interpreter, run_grouped
from fusec_testing.kernel_case import KernelCase

from fusec.ir.extents import of
from fusec.ir.stage import Buffer, BufferKind, Stage, TileOp, View

interpreter()

BLOCKS = {"BLOCK_M": 16, "BLOCK_T": 16}
sdpa = torch.nn.functional.scaled_dot_product_attention


def check(
    b: int, h: int, s: int, t: int, d: int, e: int, *, mask: str = "none", causal: bool = False,
    group: int = 1, blind: bool = False, dtype: str = "float32",
) -> np.ndarray:  # fmt: skip
    rng = np.random.default_rng([b, h, s, t, d, e])

    def made(rows: int, heads: int, columns: int) -> np.ndarray:
        x = rng.standard_normal((b, rows, heads, columns), dtype=np.float32)
        return x.astype(dtype).swapaxes(1, 2)

    q, k, v = made(s, h, d), made(t, h // group, d), made(t, h // group, e)
    reads, seen = [q, k, v], None
    if mask != "none":
        seen = rng.random((b, 1, s, t)) < 0.7
        seen[0, 0, min(3, s - 1)] &= not blind
        if mask == "float":
            seen = np.where(seen, rng.standard_normal((b, 1, s, t)), -np.inf).astype(dtype)
        reads.append(np.broadcast_to(seen, (b, h, s, t)))
    y = np.zeros((b, s, h, e), dtype).swapaxes(1, 2)
    attrs = {"scale": d**-0.5, "causal": causal, "mask": mask, "group": group}
    (got,), _ = check_case(KernelCase(TileOp.ATTENTION, reads, [y], attrs), BLOCKS)

    def plain(kind: torch.dtype) -> torch.Tensor:
        given = [torch.from_numpy(np.ascontiguousarray(x)).to(kind) for x in (q, k, v)]
        look = None if seen is None else torch.from_numpy(seen)
        if look is not None and look.dtype != torch.bool:
            look = look.to(kind)
        return sdpa(*given, look, is_causal=causal, enable_gqa=group > 1)

    assert_no_worse(got, plain(getattr(torch, dtype)), plain(torch.float64))
    return got


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_plain(dtype: str) -> None:
    check(2, 2, 17, 33, 7, 19, dtype=dtype)
    check(1, 1, 1, 1, 1, 1, dtype=dtype)


@pytest.mark.parametrize("mask", ["bool", "float"])
def test_masks_and_a_row_that_sees_nothing(mask: str) -> None:
    got = check(1, 2, 11, 20, 8, 8, mask=mask, blind=True)
    assert (got[0, :, 3] == 0).all()


def test_causal_and_shared_heads() -> None:
    check(1, 4, 35, 35, 16, 5, causal=True, group=2)
    check(1, 2, 5, 40, 16, 5, causal=True)


def test_no_keys_give_zeros() -> None:
    x = np.zeros((1, 2, 3, 4), np.float32)
    none = np.zeros((1, 2, 0, 4), np.float32)
    attrs = {"scale": 1.0, "causal": False, "mask": "none", "group": 1}
    (got,), _ = check_case(KernelCase(TileOp.ATTENTION, [x, none, none], [x.copy()], attrs), BLOCKS)
    assert (got == 0).all()


def test_heads_too_wide_have_no_grouped_kernel() -> None:
    from fusec.kernels.triton_table import grouped

    x = np.zeros((1, 1, 3, 300), np.float32)
    attrs = {"scale": 1.0, "causal": False, "mask": "none", "group": 1}
    case = KernelCase(TileOp.ATTENTION, [x, x.copy(), x.copy()], [x.copy()], attrs)
    assert grouped(case.stage, case.buffers) is None


def test_ragged_lengths_in_one_launch_give_the_bytes_that_each_gives_alone() -> None:
    h, d = 2, 8
    s = of("s")
    shape, strides = (1, h, s, d), (s * h * d, d, h * d, 1)
    views = [View(i, "float32", shape, strides, 0) for i in range(4)]
    buffers = [
        Buffer(kind=BufferKind.ARENA, dtype="float32", elements=s * h * d, index=-1) for _ in views
    ]
    attrs = (("causal", False), ("group", 1), ("mask", "none"), ("scale", 0.3))
    stage = Stage(
        op=TileOp.ATTENTION, reads=tuple(views[:3]), writes=(views[3],), attrs=attrs,
        point=None, extern=None, rows=(0,),
    )  # fmt: skip

    def member(length: int) -> Instance:
        rng = np.random.default_rng(length)
        flats = [rng.standard_normal(length * h * d, np.float32) for _ in views]
        return Instance([fenced(flat) for flat in flats], {"s": length})

    lengths = [5, 33, 0, 1, 18]
    together = [member(length) for length in lengths]
    run_grouped(stage, buffers, together, BLOCKS)
    for length, one in zip(lengths, together, strict=True):
        alone = member(length)
        run_grouped(stage, buffers, [alone], BLOCKS, programs=1)
        assert alone.flats[3].tobytes() == one.flats[3].tobytes()
        q, k, v = (torch.from_numpy(f.reshape(1, length, h, d).copy()) for f in one.flats[:3])
        truth = sdpa(*(x.transpose(1, 2).double() for x in (q, k, v)), scale=0.3)
        got = torch.from_numpy(one.flats[3].reshape(1, length, h, d).copy()).transpose(1, 2)
        assert torch.allclose(got.double(), truth, rtol=1e-5, atol=1e-5)
