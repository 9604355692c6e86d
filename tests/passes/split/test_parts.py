"""Cuts inside stages: parts add up to their stages, and splits of parts read as ones of stages."""

from __future__ import annotations

import itertools

import pytest
from fusec_testing.tiles import Step, chain
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import VerifyError
from fusec.ir.split import Block, Split
from fusec.passes.split import even_split, in_stages, live_inside, parted


def test_parts_of_stages() -> None:
    found = parted([10, 3, 9, 7], [1, None, 2], [5, 6, None, 8], 4)
    assert found.part_ns == (3, 3, 4, 3, 9, 3, 4)
    assert found.cut_ns == (5, 5, 1, None, 2, 8)
    assert found.parts == (3, 1, 1, 2)


def test_no_more_than_64_parts() -> None:
    found = parted([1000, 0], [0], [0, 0], 1)
    assert found.parts == (64, 1)
    assert sum(found.part_ns) == 1000


def test_no_more_parts_than_can_be() -> None:
    assert parted([100, 100, 100], [0, 0], [0, 0, 0], 10, most=[3, 1, 90]).parts == (3, 1, 10)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(1, 6))
def test_a_split_of_parts_reads_as_one_of_stages(stages: list[int], blocks: int) -> None:
    n = len(stages)
    cut = parted(stages, [0] * (n - 1), [0] * n, 20)
    found = even_split(cut.part_ns, cut.cut_ns, blocks)
    split = in_stages(found, cut.parts)
    whole = even_split(stages, [0] * (n - 1), blocks)
    assert found.largest_ns <= whole.largest_ns
    assert split.stops(n) == tuple(b.stop_stage for b in found.blocks)
    assert split.note == found.note
    ends = list(itertools.accumulate(stages, initial=0))
    for block in split.blocks:
        stop = block.stop_stage
        least = ends[stop] - ends[block.first_stage + bool(block.first_part)]
        assert block.cost_ns >= least
        assert block.cost_ns <= ends[min(n, stop + 1)] - ends[block.first_stage]


def test_stops_of_a_split_without_parts() -> None:
    split = Split(blocks=(Block(0, 2, 0), Block(2, 5, 0)))
    assert split.stops(5) == (2, 5)
    assert split.cuts == (2,)
    for stages in (4, 6):
        with pytest.raises(VerifyError, match=f"of {stages} stages"):
            split.stops(stages)


def test_a_stage_of_no_parts() -> None:
    with pytest.raises(VerifyError, match="of 2 stages"):
        Split(blocks=(Block(0, 2, 0),), parts=(0, 3)).stops(2)


@pytest.mark.parametrize(("part", "parts"), [(2, (1, 2)), (1, ()), (-1, (2, 2))])
def test_parts_that_a_stage_has_not(part: int, parts: tuple[int, ...]) -> None:
    with pytest.raises(VerifyError, match="places"):
        Split(blocks=(Block(0, 1, 0, 0, part), Block(1, 2, 0, part, 0)), parts=parts)


@pytest.mark.parametrize(("cuts", "inside", "part_ns"), [(0, 2, 5), (1, 1, 5), (1, 2, 0)])
def test_lengths_that_do_not_fit(cuts: int, inside: int, part_ns: int) -> None:
    with pytest.raises(VerifyError, match="2 stages"):
        parted([1, 2], [0] * cuts, [0] * inside, part_ns)


def test_live_inside_is_what_a_stage_reads_and_writes() -> None:
    lowered = chain([Step(rows="s", columns=3), Step(columns=5), Step()]).lowered
    assert live_inside(lowered, {"s": 2}) == (24, 24 + 20, 20)
