"""Live bytes at cuts, what cuts cost, and the figures of a split."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fusec_testing.tiles import Step, chain

from fusec.ir.errors import VerifyError
from fusec.ir.extents import of
from fusec.ir.stage import Lowered, PointProgram
from fusec.passes.split import cut_costs, live_bytes, live_extents, report


def _chain(*steps: Step) -> Lowered:
    return chain(steps, [7]).lowered


def test_a_chain_keeps_what_the_next_stage_reads() -> None:
    lowered = _chain(Step(rows="s", columns=3), Step(columns=5, weight=0), Step(rows=2))
    assert live_extents(lowered) == (of("12*s"), 20)
    assert live_bytes(lowered, {"s": 10}) == (120, 20)


def test_a_buffer_lives_until_its_last_reader() -> None:
    lowered = _chain(Step(columns=3), Step(columns=5), Step(columns=2), Step())
    first, *middle, last = lowered.stages
    residual = replace(last, reads=(*last.reads, first.writes[0]))
    lowered = replace(lowered, stages=(first, *middle, residual))
    assert live_bytes(lowered, {}) == (12, 12 + 20, 12 + 8)


def test_an_epilogue_reads_too() -> None:
    lowered = _chain(Step(columns=3), Step(columns=5), Step())
    first, middle, last = lowered.stages
    point = PointProgram(shape=(1,), operands=(None, first.writes[0]), steps=(), results=(0,))
    lowered = replace(lowered, stages=(first, middle, replace(last, point=point)))
    assert live_bytes(lowered, {}) == (12, 12 + 20)


def test_two_writers_and_no_reader() -> None:
    lowered = _chain(Step(columns=3), Step(columns=5), Step())
    first, middle, last = lowered.stages
    lowered = replace(lowered, stages=(first, middle, replace(last, writes=first.writes)))
    assert live_bytes(lowered, {}) == (12, 12 + 20)


def test_inputs_outputs_and_weights_are_not_kept() -> None:
    lowered = _chain(Step(columns=3), Step())
    first, last = lowered.stages
    again = replace(last, reads=(*first.reads, *last.writes))
    assert live_bytes(replace(lowered, stages=(last, again, last)), {}) == (12, 12)
    assert live_bytes(replace(lowered, stages=(again, again)), {}) == (0,)
    assert live_bytes(replace(lowered, stages=()), {}) == ()


def test_a_cut_costs_its_live_bytes() -> None:
    costs = cut_costs([0, 100, 101, 30], bytes_per_ns=10.0, stop_ns=5, lost_ns=[0, 0, 0, 2.5])
    assert costs == (5, 15, 16, 11)
    assert cut_costs([64], bytes_per_ns=math.inf) == (0,)


def test_no_cut_inside_what_stays_whole() -> None:
    costs = cut_costs([0] * 6, bytes_per_ns=1.0, whole=[(1, 4), (5, 6)], forbidden=[5])
    assert costs == (0, None, None, 0, 0, None)


@pytest.mark.parametrize(("forbidden", "whole"), [([2], []), ([-1], []), ([], [(1, 4)])])
def test_cuts_that_are_not_there(forbidden: list[int], whole: list[tuple[int, int]]) -> None:
    with pytest.raises(VerifyError, match="of 2 that there are"):
        cut_costs([0, 0], bytes_per_ns=1.0, forbidden=forbidden, whole=whole)


def test_a_cut_that_costs_less_than_nothing() -> None:
    with pytest.raises(VerifyError, match="cut 1 costs -3"):
        cut_costs([0, 0], bytes_per_ns=1.0, lost_ns=[0, -3])


def test_figures_of_a_split() -> None:
    figures = report([90, 110, 100, 100], 380)
    assert figures.mean_ns == 100
    assert figures.deviation == pytest.approx(math.sqrt(50) / 100)
    assert figures.overhead == pytest.approx(20 / 380)
    assert figures.overhead_per_cut == pytest.approx(20 / 380 / 3)
    assert "deviation 7.1% of the mean, overhead +1.8% per cut" in str(figures)


def test_figures_of_one_block_and_of_nothing() -> None:
    assert report([50], 50).overhead_per_cut == 0
    assert report([0, 0], 0).deviation == 0
