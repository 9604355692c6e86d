"""Lowering of matrix products: each spelling against torch, through both machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.stages import run_lowered

from fusec.ir.stage import Lowered, TileOp
from fusec.ir.template import Arg, Body, Ref, Row, RowsKind, Symbol, Template, TensorSpec
from fusec.passes.fuse import fuse
from fusec.passes.lower import lower

Shape = tuple[int | str, ...]
Function = Callable[..., torch.Tensor]


def template(
    inputs: Sequence[Shape],
    weights: Sequence[Shape],
    rows: Sequence[Row],
    dtype: str = "float32",
) -> Template:
    arguments = tuple(TensorSpec(dtype, shape) for shape in (*inputs, *weights))
    symbols = sorted({d for shape in inputs for d in shape if isinstance(d, str)})
    return Template(
        n_inputs=len(inputs),
        body=Body(arguments, tuple(rows), (Ref(len(arguments) + len(rows) - 1),)),
        symbols=tuple(Symbol(s, 1, None) for s in symbols),
        constraints=(),
        input_axes=(None,) * len(inputs),
        output_axes=(None,),
        rows=RowsKind.WHOLE_REQUEST,
        bound=(),
    )


def call(op: str, args: Sequence[Arg], out: Shape, dtype: str = "float32", **kwargs: Arg) -> Row:
    return Row(f"aten.{op}", tuple(args), tuple(kwargs.items()), TensorSpec(dtype, out))


def ops(lowered: Lowered) -> list[TileOp]:
    return [stage.op for stage in lowered.stages if stage.op is not TileOp.COPY]


def check(made: Template, function: Function, symbols: dict[str, int] | None = None) -> Lowered:
    """Run a template on random numbers; compare with a function of its arguments."""
    symbols = symbols or {}
    dtype = made.body.arguments[0].dtype  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal([symbols.get(d, d) for d in spec.shape]).astype(dtype)  # type: ignore[union-attr,arg-type]
        for spec in made.body.arguments
    ]
    tensors = [torch.from_numpy(a) for a in arrays]
    plain, truth = function(*tensors), function(*(t.double() for t in tensors))
    lowered = lower(made)
    fused, _ = fuse(lowered)
    assert TileOp.EXTERN not in ops(lowered)
    inputs, weights = arrays[: made.n_inputs], arrays[made.n_inputs :]
    for stages in (lowered, fused):
        for native in (False, True):
            (got,) = run_lowered(stages, inputs, weights, symbols, native=native)
            assert_no_worse(got, plain, truth, where=f"native={native}")
    return lowered


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (1, 4, 2)])
def test_linear_is_a_gemm_over_its_leading_extents(lead: tuple[int, ...], bias: bool) -> None:
    row = call("linear.default", [Ref(0), Ref(1), *([Ref(2)] if bias else [])], (*lead, 20))
    weights: list[Shape] = [(20, 30), *([(20,)] if bias else [])]
    lowered = check(template([(*lead, 30)], weights, [row]), torch.nn.functional.linear)
    assert ops(lowered) == [TileOp.GEMM]


def test_rows_may_be_a_symbol() -> None:
    row = call("linear.default", [Ref(0), Ref(1), Ref(2)], (1, "s0", 7))
    made = template([(1, "s0", 50)], [(7, 50), (7,)], [row])
    for length in (1, 9):
        lowered = check(made, torch.nn.functional.linear, {"s0": length})
    assert ops(lowered) == [TileOp.GEMM]


def test_rows_that_lie_as_columns_are_copied() -> None:
    rows = [
        call("permute.default", [Ref(0), (0, 2, 1)], (1, 6, 10)),
        call("linear.default", [Ref(2), Ref(1)], (1, 6, 3)),
    ]
    made = template([(1, 10, 6)], [(3, 10)], rows)
    lowered = check(made, lambda x, w: x.transpose(1, 2) @ w.T)
    assert [stage.op for stage in lowered.stages][:2] == [TileOp.COPY, TileOp.GEMM]


def test_a_slice_of_rows_is_read_where_it_lies() -> None:
    rows = [
        call("slice.Tensor", [Ref(0), 1, 2, 8], (4, 6)),
        call("linear.default", [Ref(2), Ref(1)], (4, 3)),
    ]
    lowered = check(template([(4, 9)], [(3, 6)], rows), lambda x, w: x[:, 2:8] @ w.T)
    assert lowered.stages[0].op is TileOp.GEMM


def test_a_weight_that_another_operator_reads_stays_plain() -> None:
    rows = [
        call("linear.default", [Ref(0), Ref(1)], (4, 5)),
        call("matmul.default", [Ref(2), Ref(1)], (4, 6)),
    ]
    lowered = check(template([(4, 6)], [(5, 6)], rows), lambda x, w: x @ w.T @ w)
    assert ops(lowered) == [TileOp.MATMUL] * 2


def test_a_computed_weight_is_a_matmul() -> None:
    row = call("linear.default", [Ref(0), Ref(1), Ref(2)], (4, 5))
    made = template([(4, 6), (5, 6), (5,)], [], [row])
    assert ops(check(made, torch.nn.functional.linear)) == [TileOp.MATMUL]


@pytest.mark.parametrize(
    ("op", "a", "b", "out"),
    [
        ("mm.default", (3, 4), (4, 5), (3, 5)),
        ("bmm.default", (2, 3, 4), (2, 4, 5), (2, 3, 5)),
        ("matmul.default", (4,), (4,), ()),
        ("matmul.default", (4,), (4, 5), (5,)),
        ("matmul.default", (3, 4), (4,), (3,)),
        ("matmul.default", (2, 3, 4), (4,), (2, 3)),
        ("matmul.default", (4,), (2, 4, 5), (2, 5)),
        ("matmul.default", (2, 3, 4), (4, 5), (2, 3, 5)),
        ("matmul.default", (3, 4), (2, 4, 5), (2, 3, 5)),
        ("matmul.default", (2, 1, 3, 4), (6, 4, 5), (2, 6, 3, 5)),
        ("matmul.default", (2, 1, 2, 3, 4), (3, 1, 4, 5), (2, 3, 2, 3, 5)),
        ("mv.default", (3, 4), (4,), (3,)),
        ("dot.default", (4,), (4,), ()),
    ],
)
def test_products_broadcast_as_torch_does(op: str, a: Shape, b: Shape, out: Shape) -> None:
    made = template([a, b], [], [call(op, [Ref(0), Ref(1)], out)])
    assert ops(check(made, torch.matmul)) == [TileOp.MATMUL]


def test_turned_operands_need_no_copy_on_the_right() -> None:
    rows = [
        call("permute.default", [Ref(1), (0, 1, 3, 2)], (1, 2, 8, "s0")),
        call("matmul.default", [Ref(0), Ref(2)], (1, 2, "s0", "s0")),
    ]
    made = template([(1, 2, "s0", 8), (1, 2, "s0", 8)], [], rows)
    lowered = check(made, lambda q, k: q @ k.transpose(2, 3), {"s0": 60})
    assert [stage.op for stage in lowered.stages] == [TileOp.MATMUL, TileOp.COPY]


def test_turned_operands_are_copied_on_the_left() -> None:
    rows = [
        call("permute.default", [Ref(0), (1, 0)], (6, 4)),
        call("mm.default", [Ref(2), Ref(1)], (6, 5)),
    ]
    check(template([(4, 6), (4, 5)], [], rows), lambda a, b: a.T @ b)


def test_one_column_may_have_any_step() -> None:
    rows = [
        call("slice.Tensor", [Ref(0), 1, 1, 2], (4, 1)),
        call("matmul.default", [Ref(2), Ref(1)], (4, 5)),
    ]
    check(template([(4, 3), (1, 5)], [], rows), lambda a, b: a[:, 1:2] @ b)


def test_double_precision() -> None:
    row = call("linear.default", [Ref(0), Ref(1), Ref(2)], (4, 5), "float64")
    made = template([(4, 300)], [(5, 300), (5,)], [row], "float64")
    assert ops(check(made, torch.nn.functional.linear)) == [TileOp.MATMUL]


@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5}, {"beta": -2.0, "alpha": 3.0}, {"beta": 0}])
@pytest.mark.parametrize("c", [(3, 5), (5,), (1, 5), (3, 1)])
def test_addmm(c: Shape, factors: dict[str, float]) -> None:
    row = call("addmm.default", [Ref(0), Ref(1), Ref(2)], (3, 5), **factors)
    made = template([c, (3, 4), (4, 5)], [], [row])
    lowered = check(made, lambda c, a, b: torch.addmm(c, a, b, **factors))
    if not factors and c == (5,):
        assert ops(lowered) == [TileOp.MATMUL]


def test_what_is_multiplied_by_no_beta_may_be_nan() -> None:
    row = call("addmm.default", [Ref(0), Ref(1), Ref(2)], (3, 5), beta=0)
    lowered = lower(template([(3, 5), (3, 4), (4, 5)], [], [row]))
    a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    (got,) = run_lowered(lowered, [np.full((3, 5), np.nan, np.float32), a, b], native=True)
    assert (got == 4).all()


def test_baddbmm_and_addmv() -> None:
    row = call("baddbmm.default", [Ref(0), Ref(1), Ref(2)], (2, 3, 5), alpha=0.25)
    made = template([(2, 1, 5), (2, 3, 4), (2, 4, 5)], [], [row])
    check(made, lambda c, a, b: torch.baddbmm(c, a, b, alpha=0.25))
    row = call("addmv.default", [Ref(0), Ref(1), Ref(2)], (3,))
    check(template([(3,), (3, 4), (4,)], [], [row]), torch.addmv)


@pytest.mark.parametrize(
    ("equation", "a", "b", "out"),
    [
        ("bhid,bhjd->bhij", (1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 3, 5)),
        ("bihd,bjhd->bhij", (1, 3, 2, 4), (1, 5, 2, 4), (1, 2, 3, 5)),
        ("bhij,bjhd->bihd", (1, 2, 3, 5), (1, 5, 2, 4), (1, 3, 2, 4)),
        ("ik,kj->ji", (3, 4), (4, 5), (5, 3)),
        ("i,j->ij", (3,), (4,), (3, 4)),
        ("ij,ij->", (3, 4), (3, 4), ()),
        ("bij,bj->bi", (2, 3, 4), (2, 4), (2, 3)),
        ("nkctv,kvw->nctw", (1, 3, 2, 5, 4), (3, 4, 4), (1, 2, 5, 4)),
    ],
)
def test_einsum_of_two(equation: str, a: Shape, b: Shape, out: Shape) -> None:
    made = template([a, b], [], [call("einsum.default", [equation, (Ref(0), Ref(1))], out)])
    lowered = check(made, lambda x, y: torch.einsum(equation, x, y))
    assert ops(lowered) == [TileOp.MATMUL]


@pytest.mark.parametrize(
    "row",
    [
        call("einsum.default", ["ij,jk->i", (Ref(0), Ref(0))], (4,)),
        call("einsum.default", ["ii,ij->ij", (Ref(0), Ref(0))], (4, 4)),
        call("einsum.default", ["ij,jk,kl->il", (Ref(0), Ref(0), Ref(0))], (4, 4)),
        call("einsum.default", ["...j,jk->...k", (Ref(0), Ref(0))], (4, 4)),
    ],
)
def test_what_is_no_single_product_is_left_to_torch(row: Row) -> None:
    assert ops(lower(template([(4, 4)], [], [row]))) == [TileOp.EXTERN]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64"])
@pytest.mark.parametrize("op", ["linear.default", "mm.default", "addmm.default"])
def test_other_dtypes_are_left_to_torch(op: str, dtype: str) -> None:
    operands = [Ref(0), Ref(0), Ref(0)] if op.startswith("addmm") else [Ref(0), Ref(0)]
    made = template([(4, 4)], [], [call(op, operands, (4, 4), dtype)], dtype)
    assert ops(lower(made)) == [TileOp.EXTERN]
