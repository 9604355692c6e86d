"""The fuse pass: one test per rule and per refusal, and equal results on random small graphs."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.stage_graphs import (
    F32,
    Graph,
    interpret,
    orderly,
    part,
    reshaped,
    spread,
    turned,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.extents import of
from fusec.ir.stage import (
    BufferKind,
    ExternCall,
    Lowered,
    TileOp,
    View,
    dense,
)
from fusec.ir.template import Row, TensorSpec
from fusec.passes.fuse import FuseReport, fuse
from fusec.passes.fuse.join import No, join
from fusec.passes.lower.builder import memory_order


def fused(g: Graph, *results: View) -> tuple[list[TileOp], Lowered, FuseReport]:
    before = g.lowered(*results)
    after, report = fuse(before)
    orderly(after)
    for was, now in zip(interpret(before, g.symbols), interpret(after, g.symbols), strict=True):
        np.testing.assert_array_equal(was, now)
    return [s.op for s in after.stages], after, report


def test_a_chain_becomes_one_program_that_writes_the_output() -> None:
    g = Graph()
    x = g.input(4, 6)
    ops, after, _ = fused(g, g.point("abs", g.point("relu", g.point("add", x, g.weight(6)))))
    assert ops == [TileOp.POINTWISE]
    assert after.stages[0].rows == (0, 1, 2)
    assert [b.kind for b in after.buffers] == [
        BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.OUTPUT,
    ]  # fmt: skip


def test_a_diamond_becomes_one_program() -> None:
    g = Graph()
    x = g.point("relu", g.input(5))
    ops, after, _ = fused(g, g.point("mul", x, g.point("abs", x)))
    assert ops == [TileOp.POINTWISE]
    assert after.stages[0].point is not None
    assert len(after.stages[0].point.operands) == 1


def test_a_result_that_others_read_stays_stored() -> None:
    g = Graph()
    x = g.point("relu", g.input(3, 4))
    y = g.point("abs", x)
    ops, after, _ = fused(g, y, g.pool(x))
    assert ops == [TileOp.POINTWISE, TileOp.POOL]
    assert len(after.stages[0].writes) == 2


def test_programs_join_across_a_reshape_either_way() -> None:
    g = Graph()
    x = g.point("relu", g.input(6, 4))
    split = reshaped(x, 2, 3, 4)
    assert fused(g, g.point("add", split, g.weight(2, 1, 4)))[0] == [TileOp.POINTWISE]
    g = Graph()
    x = g.point("add", g.input(2, 3, 4), g.weight(2, 1, 4))
    assert fused(g, g.point("relu", reshaped(x, 6, 4)))[0] == [TileOp.POINTWISE]


def test_programs_join_across_a_transpose() -> None:
    g = Graph()
    x = g.point("relu", g.input(3, 5))
    assert fused(g, g.point("add", turned(x, 1, 0), g.weight(5, 3)))[0] == [TileOp.POINTWISE]


def test_gemm_takes_bias_residual_and_activation() -> None:
    g = Graph({"s0": 5})
    x = g.input("s0", 4)
    y = g.gemm(x, 4)
    z = g.point("relu", g.point("add", g.point("add", y, g.weight(4)), x))
    ops, after, _ = fused(g, z)
    assert ops == [TileOp.GEMM]
    assert after.stages[0].point is not None
    assert after.stages[0].point.operands[0] is None
    assert after.stages[0].point.shape == after.stages[0].writes[0].shape


def test_epilogue_in_another_view_of_the_result() -> None:
    g = Graph()
    y = g.gemm(g.input(6, 4), 8)
    heads = turned(reshaped(y, 2, 3, 8), 0, 2, 1)
    result = turned(g.arena(2, 3, 8), 0, 2, 1)
    z = g.point("add", heads, g.weight(8, 1), into=result)
    ops, _, _ = fused(g, reshaped(turned(z, 0, 2, 1), 6, 8))
    assert ops == [TileOp.GEMM]


def test_raw_result_that_others_read_is_kept_beside() -> None:
    g = Graph()
    y = g.gemm(g.input(3, 4), 4)
    ops, after, _ = fused(g, g.point("relu", y), g.pool(y))
    assert ops == [TileOp.GEMM, TileOp.POOL]
    assert len(after.stages[0].writes) == 2


def test_producer_moves_to_its_consumer() -> None:
    g = Graph()
    x = g.input(3, 4)
    y = g.gemm(x, 4)
    p = g.pool(x)
    ops, _, _ = fused(g, g.point("mul", y, p))
    assert ops == [TileOp.POOL, TileOp.GEMM]


def test_a_scale_computed_from_the_result_is_not_joined() -> None:
    g = Graph()
    y = g.gemm(g.input(3, 4), 4)
    scale = g.pool(part(y, 0, 1, 1))
    ops, _, report = fused(g, g.point("mul", y, scale))
    assert ops == [TileOp.GEMM, TileOp.POOL, TileOp.POINTWISE]
    assert any("between" in r.reason for r in report.refused)


def test_a_part_of_the_result_is_not_joined() -> None:
    g = Graph()
    y = g.gemm(g.input(3, 4), 6)
    ops, _, report = fused(g, g.point("relu", part(y, 1, 0, 3)))
    assert ops == [TileOp.GEMM, TileOp.POINTWISE]
    assert "another shape" in report.refused[0].reason


def test_another_dtype_is_not_joined() -> None:
    g = Graph()
    y = g.gemm(g.input(3, 4), 4)
    ops, _, report = fused(g, g.point("gt", y, g.weight(4), dtype="bool"))
    assert ops == [TileOp.GEMM, TileOp.POINTWISE]
    assert "cannot write" in report.refused[0].reason


def test_a_result_that_turns_columns_is_not_joined() -> None:
    g = Graph()
    y = turned(g.gemm(g.input(3, 4), 5), 1, 0)
    ops, _, report = fused(g, g.point("relu", y))
    assert ops == [TileOp.GEMM, TileOp.POINTWISE]
    assert "cannot write" in report.refused[0].reason


def test_an_operand_that_turns_columns_is_not_joined() -> None:
    g = Graph()
    y = g.gemm(g.input(4, 4), 4)
    ops, _, report = fused(g, g.point("add", y, turned(g.input(4, 4), 1, 0)))
    assert ops == [TileOp.GEMM, TileOp.POINTWISE]
    assert "along columns" in report.refused[0].reason


def test_a_stage_without_epilogue_is_not_joined() -> None:
    g = Graph()
    ops, _, report = fused(g, g.point("relu", g.pool(g.input(3))))
    assert ops == [TileOp.POOL, TileOp.POINTWISE]
    assert "no epilogue" in report.refused[0].reason


def test_writers_of_one_buffer_keep_their_order() -> None:
    # The part is filled first and written over: it may not be written before it is filled.
    g = Graph()
    x = g.input(3, 4)
    whole = g.arena(3, 8)
    y = g.gemm(x, 4)
    g.pool(x, into=part(whole, 1, 2, 4))
    p = g.pool(y)
    g.copy(y, part(whole, 1, 4, 4))
    g.pool(x, into=part(whole, 1, 0, 4))
    ops, _, report = fused(g, whole, p)
    assert TileOp.COPY in ops
    assert any("between" in r.reason for r in report.refused)
    # The gemm writes a part that is written over later: it may not move behind that.
    g = Graph()
    x = g.input(3, 4)
    whole = g.arena(3, 8)
    y = g.gemm(x, 4)
    g.copy(y, part(whole, 1, 0, 4))
    g.pool(x, into=part(whole, 1, 2, 4))
    g.pool(x, into=part(whole, 1, 4, 4))
    ops, _, _ = fused(g, whole, g.point("relu", y))
    assert ops == [TileOp.GEMM, TileOp.POOL, TileOp.POOL]


def test_a_buffer_is_not_both_read_and_written() -> None:
    g = Graph()
    whole = g.arena(3, 8)
    y = g.gemm(g.input(3, 4), 4)
    g.point("add", y, part(whole, 1, 0, 4), into=part(whole, 1, 4, 4))
    outcome = join(g.stages[0], g.stages[1], lambda slot: False)
    assert isinstance(outcome, No)
    assert "reads the buffer" in outcome.reason


def test_programs_have_a_limit() -> None:
    g = Graph()
    x = g.input(4)
    for _ in range(40):
        x = g.point("add", x, g.weight(4))
    ops, _, report = fused(g, x)
    assert set(ops) == {TileOp.POINTWISE}
    assert 3 < len(ops) < 10
    assert any("more than" in r.reason for r in report.refused)


def test_a_pointwise_operand_joins_an_epilogue() -> None:
    g = Graph()
    x = g.input(3, 4)
    gate = g.point("abs", g.pool(x))
    ops, _, _ = fused(g, g.point("mul", g.gemm(x, 4), gate))
    assert ops == [TileOp.POOL, TileOp.GEMM]


def test_parts_of_a_cat_are_written_where_they_go() -> None:
    g = Graph()
    x = g.input(3, 4)
    whole = g.arena(3, 11)
    a = g.point("relu", g.gemm(x, 5))
    b = g.point("relu", g.gemm(x, 6))
    g.copy(a, part(whole, 1, 0, 5))
    g.copy(b, part(whole, 1, 5, 6))
    ops, after, _ = fused(g, whole)
    assert ops == [TileOp.GEMM, TileOp.GEMM]
    assert {s.writes[0].slot for s in after.stages} == set(after.outputs)


def test_a_part_that_others_read_is_written_twice() -> None:
    g = Graph()
    x = g.input(3, 4)
    whole = g.arena(3, 8)
    a = g.gemm(x, 4)
    b = g.gemm(a, 4)
    g.copy(a, part(whole, 1, 0, 4))
    g.copy(b, part(whole, 1, 4, 4))
    ops, after, _ = fused(g, whole)
    assert ops == [TileOp.GEMM, TileOp.GEMM]
    assert [len(s.writes) for s in after.stages] == [2, 1]


def test_a_copy_of_an_input_stays() -> None:
    g = Graph()
    assert fused(g, g.input(3, 4))[0] == [TileOp.COPY]
    g = Graph()
    assert fused(g, g.weight(3, 4))[0] == [TileOp.COPY]


def test_copies_of_copies_become_one() -> None:
    g = Graph()
    x = g.copy(turned(g.input(2, 3, 4), 2, 0, 1))
    ops, _, _ = fused(g, reshaped(x, 4, 6))
    assert ops == [TileOp.COPY]


def test_one_value_that_is_two_outputs_is_copied_once() -> None:
    g = Graph()
    y = g.pool(g.input(3))
    assert fused(g, y, y)[0] == [TileOp.POOL, TileOp.COPY]


def test_extern_writes_the_output_and_sees_renamed_buffers() -> None:
    g = Graph()
    spec = TensorSpec(dtype=F32, shape=(3,))
    row = Row(op="x", args=(), kwargs=(), out=spec)
    x = g.pool(g.input(3))
    call = ExternCall(row=row, operands=((1, x), (2, (7, x))))
    y = g.emit(TileOp.EXTERN, (x,), g.arena(3), extern=call)
    ops, after, _ = fused(g, y, x)
    assert ops == [TileOp.POOL, TileOp.EXTERN]
    extern = after.stages[1].extern
    assert extern is not None
    assert extern.operands[0][1] == extern.operands[1][1][1] == after.stages[0].writes[0]  # type: ignore[index]


def test_dead_stages_and_their_buffers_go() -> None:
    g = Graph()
    x = g.input(3)
    g.pool(g.pool(x))
    ops, after, report = fused(g, g.pool(x))
    assert ops == [TileOp.POOL]
    assert len(after.buffers) == 2
    assert report.dead == 2


def test_one_row_steps_to_the_next_instance() -> None:
    g = Graph()
    x = reshaped(g.input(1, 2, 3), 1, 6)
    y = g.gemm(x, 5)
    _, after, _ = fused(g, g.point("add", y, g.weight(1, 5)))
    (gemm,) = after.stages
    assert (gemm.reads[0].strides[0], gemm.writes[0].strides[0]) == (6, 5)
    assert gemm.point is not None
    assert gemm.point.operands[1] is not None
    assert gemm.point.operands[1].strides[0] == 0


def test_symbols_join_where_extents_agree() -> None:
    g = Graph({"s0": 3})
    y = g.gemm(reshaped(g.input("s0", 2, 4), of("2*s0"), 4), 6)
    ops, _, _ = fused(g, g.point("add", reshaped(y, of("s0"), 2, 6), g.weight(2, 6)))
    assert ops == [TileOp.GEMM, TileOp.POINTWISE]
    g = Graph({"s0": 3})
    y = g.gemm(reshaped(g.input("s0", 2, 4), of("2*s0"), 4), 6)
    ops, _, _ = fused(g, g.point("add", reshaped(y, of("s0"), 2, 6), g.input("s0", 2, 6)))
    assert ops == [TileOp.GEMM]


def test_memory_order_of_views() -> None:
    image = dense(0, F32, (2, 5, "s0", 8))
    assert memory_order(turned(image, 0, 3, 1, 2)) == (0, 2, 3, 1)
    assert memory_order(part(turned(image, 0, 3, 1, 2), 1, 0, 4)) == (0, 2, 3, 1)
    assert memory_order(image) == (0, 1, 2, 3)
    assert memory_order(dense(0, F32, (1, 3, 1))) == (0, 1, 2)
    assert memory_order(spread(dense(0, F32, (8,)), (3, 8))) is None


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[View]]:
    g = Graph()
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    values = [g.input(rows, columns), g.input(rows, columns)]
    for _ in range(draw(st.integers(1, 9))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["add", "mul", "relu", "gemm", "pool", "copy", "t", "cat"]))
        width = int(str(x.shape[1]))
        if kind in ("add", "mul"):
            other = y if x.shape == y.shape and draw(st.booleans()) else g.weight(width)
            values.append(g.point(kind, x, other))
        elif kind == "relu":
            values.append(g.point(kind, x))
        elif kind == "gemm":
            values.append(g.gemm(x, draw(st.integers(1, 4))))
        elif kind == "pool":
            values.append(g.pool(x))
        elif kind == "copy":
            values.append(g.copy(x))
        elif kind == "t":
            values.append(turned(g.copy(turned(x, 1, 0)), 1, 0))
        elif x.shape[0] == y.shape[0]:
            whole = g.arena(x.shape[0], width + int(str(y.shape[1])))
            g.copy(x, part(whole, 1, 0, width))
            g.copy(y, part(whole, 1, width, int(str(y.shape[1]))))
            values.append(whole)
    results = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return g, results


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_random_graphs_give_the_same_numbers(case: tuple[Graph, list[View]]) -> None:
    g, results = case
    ops, after, report = fused(g, *results)
    assert report.after == len(ops) <= report.before
    again, _ = fuse(after)
    assert len(again.stages) <= len(after.stages)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_graphs_give_the_same_numbers_natively(case: tuple[Graph, list[View]]) -> None:
    g, results = case
    before = g.lowered(*results)
    after, _ = fuse(before)
    plain, ours = interpret(before, {}, native=True), interpret(after, {}, native=True)
    for was, now in zip(plain, ours, strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("kind", [BufferKind.INPUT, BufferKind.WEIGHT, BufferKind.OUTPUT])
def test_order_of_inputs_weights_and_outputs_is_kept(kind: BufferKind) -> None:
    g = Graph()
    a, b = g.input(3), g.input(2)
    g.pool(g.weight(4))
    w = g.weight(2)
    before = g.lowered(g.pool(a), g.point("add", b, w))
    after, _ = fuse(before)
    old = [b for b in before.buffers if b.kind is kind]
    assert [b for b in after.buffers if b.kind is kind] == old
    slots = {
        BufferKind.INPUT: after.inputs,
        BufferKind.WEIGHT: after.weights,
        BufferKind.OUTPUT: after.outputs,
    }[kind]
    assert [after.buffers[i].index for i in slots] == list(range(len(old)))
