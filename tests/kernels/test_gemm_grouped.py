"""The grouped gemm in Triton's interpreter: against float64, ragged rows, company, fences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.fences import fenced
from fusec_testing.grouped import Instance, interpreter, run_grouped

from fusec.ir.extents import of
from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    PointProgram,
    PointStep,
    Stage,
    TileOp,
    View,
    packed_elements,
)
from fusec.kernels.gemm.pack import from_bfloat16, pack, to_bfloat16

interpreter()

FIRST, LAST = 2, 3
"""Columns before and behind those of A and C, never to be touched."""


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    return to_bfloat16(x) if dtype == "bfloat16" else x.astype(dtype)


def floats(x: np.ndarray, dtype: str) -> np.ndarray:
    return from_bfloat16(x) if dtype == "bfloat16" else x.astype(np.float32)


class Layer:
    """A linear layer of several members, each with rows of its own."""

    def __init__(
        self, k: int, n: int, nr: int, dtype: str = "float32", *, b: str = "", point: bool = False
    ) -> None:
        self.k, self.n, self.dtype, self.b = k, n, dtype, b or dtype
        self.layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=nr)
        m = of("rows")
        lda, ldc = k + FIRST + LAST, n + FIRST + LAST
        kinds = [BufferKind.ARENA, BufferKind.WEIGHT, BufferKind.ARENA, BufferKind.WEIGHT]
        sizes = [m * lda, packed_elements(self.layout), m * ldc, n]
        self.buffers = [
            Buffer(kind=kind, dtype=self.b if i == 1 else dtype, elements=size, index=0)
            for i, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
        ]
        result = View(2, dtype, (m, n), (ldc, 1), FIRST)
        program = PointProgram(
            shape=(m, n),
            operands=(None, View(3, dtype, (m, n), (0, 1), 0)),
            steps=(
                PointStep("relu_f32", (0,), "float32", None),
                PointStep("mul_f32", (2, 1), "float32", None),
                PointStep("add_f32", (3,), "float32", 0.5),
            ),
            results=(4,),
        )
        self.stage = Stage(
            op=TileOp.GEMM,
            reads=(
                View(0, dtype, (m, k), (lda, 1), FIRST),
                View(1, self.b, (sizes[1],), (1,), 0),
                View(3, dtype, (n,), (1,), 0),
            ),
            writes=(result,),
            attrs=(("k", k), ("n", n), ("nr", nr)),
            point=program if point else None,
            extern=None,
            rows=(0,),
        )

    def member(self, seed: int, rows: int) -> Instance:
        """Make a member's weights and rows; what lies between rows is NaN."""
        rng = np.random.default_rng([seed, self.k, self.n])
        weight = stored(rng.standard_normal((self.n, self.k), np.float32), self.b)
        x = np.full((rows, self.k + FIRST + LAST), np.nan, np.float32)
        x[:, FIRST:-LAST] = rng.standard_normal((rows, self.k))
        c = np.full(rows * (self.n + FIRST + LAST), np.nan, np.float32)
        bias = rng.standard_normal(self.n, np.float32)
        flats = [stored(x.reshape(-1), self.dtype), pack(self.layout, weight)]
        flats += [stored(c, self.dtype), stored(bias, self.dtype)]
        self_weight = {"rows": rows}
        made = Instance([fenced(f) for f in flats], self_weight)
        made.weight = floats(weight, self.b)  # type: ignore[attr-defined]
        return made

    def result(self, instance: Instance) -> np.ndarray:
        flat = instance.flats[2].copy()
        grid = flat.reshape(-1, self.n + FIRST + LAST)
        edge = floats(np.concatenate([grid[:, :FIRST], grid[:, -LAST:]], axis=1), self.dtype)
        assert np.isnan(edge).all(), "wrote outside of its rows"
        return grid[:, FIRST:-LAST]

    def check(self, instance: Instance) -> None:
        x = floats(instance.flats[0], self.dtype).reshape(-1, self.k + FIRST + LAST)
        x = torch.from_numpy(x[:, FIRST:-LAST].copy())
        w, bias = (
            torch.from_numpy(instance.weight),
            torch.from_numpy(  # type: ignore[attr-defined]
                floats(instance.flats[3], self.dtype)
            ),
        )
        kind = getattr(torch, self.dtype)
        plain = torch.nn.functional.linear(x.to(kind), w.to(kind), bias.to(kind))
        truth = torch.nn.functional.linear(x.double(), w.double(), bias.double())
        if self.stage.point is not None:
            plain, truth = (t.relu() * bias.to(t.dtype) + 0.5 for t in (plain, truth))
        got = self.result(instance)
        if self.dtype == "bfloat16":
            ours = torch.from_numpy(got.copy().view(np.int16)).view(torch.bfloat16)
            assert torch.allclose(ours.double(), truth, rtol=2**-7, atol=2**-5)
        else:
            assert_no_worse(got, plain, truth)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("k", "n", "nr"), [(1, 1, 16), (7, 17, 32), (67, 53, 48), (300, 16, 16), (31, 40, 64)]
)
def test_ragged_members_are_as_near_to_float64_as_torch(
    dtype: str, k: int, n: int, nr: int
) -> None:
    layer = Layer(k, n, nr, dtype)
    members = [layer.member(seed, rows) for seed, rows in enumerate([5, 1, 0, 17, 33])]
    run_grouped(layer.stage, layer.buffers, members)
    for member in members:
        layer.check(member)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_epilogue(dtype: str) -> None:
    layer = Layer(23, 37, 48, dtype, point=True)
    members = [layer.member(seed, 9) for seed in range(2)]
    run_grouped(layer.stage, layer.buffers, members)
    for member in members:
        layer.check(member)


def test_float32_rows_meet_bfloat16_weights() -> None:
    layer = Layer(45, 33, 48, b="bfloat16")
    member = layer.member(1, 7)
    run_grouped(layer.stage, layer.buffers, [member])
    layer.check(member)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_company_changes_no_bit(dtype: str) -> None:
    layer = Layer(53, 43, 48, dtype)
    alone = layer.member(3, 21)
    run_grouped(layer.stage, layer.buffers, [alone], programs=1)
    wanted = layer.result(alone).copy()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        company = [layer.member(int(s), int(rng.integers(0, 40))) for s in rng.integers(9, 99, 4)]
        for neighbour in company:  # their numbers are no numbers
            for flat in neighbour.flats:
                flat.view(np.uint8)[:] = 0xFF
        again = layer.member(3, 21)
        company.insert(int(rng.integers(0, 5)), again)
        run_grouped(layer.stage, layer.buffers, company, programs=4, order=rng)
        np.testing.assert_array_equal(layer.result(again).view(np.uint8), wanted.view(np.uint8))


def test_instances_that_lie_as_one_give_the_same_bits() -> None:
    layer = Layer(53, 43, 48)
    together = layer.member(3, 20)
    run_grouped(layer.stage, layer.buffers, [together])
    joined = layer.member(3, 20)
    joined.symbols, joined.count = {"rows": 5}, 4
    run_grouped(layer.stage, layer.buffers, [joined])
    np.testing.assert_array_equal(layer.result(joined), layer.result(together))


def test_one_packed_copy_serves_any_width_of_panels() -> None:
    results = []
    for nr in (16, 48, 64, 208):
        layer = Layer(37, 200, nr)
        member = layer.member(3, 6)
        run_grouped(layer.stage, layer.buffers, [member])
        results.append(layer.result(member))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
