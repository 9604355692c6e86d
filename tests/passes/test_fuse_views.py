"""A consumer that sees its producer's result in more than one way: the result stays stored."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.stage_graphs import Graph, interpret, orderly, part, spread, turned

from fusec.ir.stage import Lowered, View
from fusec.passes.fuse import fuse


def _fused(g: Graph, *results: View) -> Lowered:
    before = g.lowered(*results)
    after, _ = fuse(before)
    orderly(after)
    for was, now in zip(interpret(before, g.symbols), interpret(after, g.symbols), strict=True):
        np.testing.assert_array_equal(was, now)
    return after


def test_a_result_and_one_column_of_it() -> None:
    g = Graph()
    y = g.point("relu", g.input(3, 4))
    first = spread(part(y, 1, 0, 1), (3, 4))
    assert len(_fused(g, g.point("mul", y, first)).stages) == 2


def test_a_result_and_its_transpose() -> None:
    g = Graph()
    y = g.point("relu", g.input(4, 4))
    assert len(_fused(g, g.point("add", y, turned(y, 1, 0))).stages) == 2


@pytest.mark.parametrize("kept", [True, False])
def test_an_operand_of_the_epilogue_that_the_operation_reads_too(kept: bool) -> None:
    g = Graph()
    y = g.point("relu", g.input(4, 4))
    z = g.point("add", g.gemm(y, 4), y)
    _fused(g, z, *([y] if kept else []))
