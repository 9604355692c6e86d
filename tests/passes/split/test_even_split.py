"""Even splits against brute force: the largest block, the squares, the place of the cuts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import pstdev

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusec.ir.errors import VerifyError
from fusec.ir.split import Block, Split
from fusec.passes.split import even_split, most_blocks, split_at, split_for_latency

Case = tuple[list[int], list[int | None]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw costs of stages and of cuts: small numbers, so that there are ties."""
    stages = draw(st.lists(st.integers(0, draw(st.sampled_from([3, 100]))), min_size=1, max_size=9))
    most = draw(st.sampled_from([0, 4, 150]))
    cost = st.one_of(st.none(), st.integers(0, most), st.integers(0, most))
    cuts = draw(st.lists(cost, min_size=len(stages) - 1, max_size=len(stages) - 1))
    return stages, cuts


def every_split(case: Case, blocks: int) -> list[tuple[int, ...]]:
    """Give all legal ways to cut into so many blocks."""
    legal = [i + 1 for i, cost in enumerate(case[1]) if cost is not None]
    return list(itertools.combinations(legal, blocks - 1))


def block_costs(case: Case, cuts: Sequence[int]) -> list[int]:
    """Add up each block by hand."""
    stages, between = case
    edges = [0, *cuts, len(stages)]
    return [
        sum(stages[a:b]) + (between[a - 1] or 0 if a else 0) for a, b in itertools.pairwise(edges)
    ]


def rank(case: Case, cuts: Sequence[int]) -> tuple[int, int, tuple[int, ...]]:
    """Give what an even split minimises."""
    costs = block_costs(case, cuts)
    return max(costs), sum(c * c for c in costs), tuple(reversed(cuts))


@example(([0, 6, 9, 5, 6, 0, 4], [0, 0, 0, 2, 0, 0]), 3)  # fewer squares with a larger block
@example(([5, 6, 6, 1, 3, 5], [0, 2, 0, 9, 9]), 3)  # a smaller block behind a cut that costs more
@example(([1, 6, 9, 8, 9, 9], [9, 0, 2, 9, 0]), 2)  # a block just above the limit
@given(cases(), st.integers(1, 6))
def test_as_brute_force_finds_it(case: Case, blocks: int) -> None:
    k = min(blocks, most_blocks(case[1]))
    found = even_split(*case, blocks)
    assert found.cuts == min(every_split(case, k), key=lambda cuts: rank(case, cuts))
    assert [b.cost_ns for b in found.blocks] == block_costs(case, found.cuts)
    assert (found.note == "") == (k == blocks)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(1, 5))
def test_without_costs_of_cuts_the_deviation_is_least_among_the_least_largest(
    stages: list[int], blocks: int
) -> None:
    case: Case = (stages, [0] * (len(stages) - 1))
    found = even_split(*case, blocks)
    k = len(found.blocks)
    least = min((max(c), pstdev(c)) for c in (block_costs(case, s) for s in every_split(case, k)))
    costs = [b.cost_ns for b in found.blocks]
    assert max(costs) == least[0]
    assert pstdev(costs) == pytest.approx(least[1])


@given(cases(), st.integers(0, 120))
def test_as_few_blocks_as_the_latency_takes(case: Case, latency_ns: int) -> None:
    counts = range(1, most_blocks(case[1]) + 1)
    largest = [min(max(block_costs(case, s)) for s in every_split(case, k)) for k in counts]
    found = split_for_latency(*case, latency_ns)
    good = [k for k, cost in zip(counts, largest, strict=True) if cost <= latency_ns]
    if good:
        assert len(found.blocks) == good[0]
        assert found.note == ""
    else:
        assert found.largest_ns == min(largest)
        assert len(found.blocks) == 1 + largest.index(min(largest))
        assert str(latency_ns) in found.note
    assert found.cuts == even_split(*case, len(found.blocks)).cuts


def test_at_most_so_many_blocks() -> None:
    found = split_for_latency([10] * 8, [0] * 7, 10, most=3)
    assert [b.cost_ns for b in found.blocks] == [20, 30, 30]
    assert "3 blocks or fewer" in found.note


def test_a_cut_is_paid_by_the_block_that_begins_there() -> None:
    found = split_at([5, 4, 6, 3], [1, 2, 9], [2])
    assert found.blocks == (Block(0, 2, 9), Block(2, 4, 11))


def test_cuts_that_cost_are_not_made_for_evenness() -> None:
    """Both have a largest block of 10; 7 + 3 more would be more even."""
    assert even_split([10, 2, 5], [0, 3], 2).cuts == (1,)


@pytest.mark.parametrize(
    ("stages", "cuts", "text"),
    [
        ([], [], "0 stages"),
        ([1, 2], [], "2 stages with 0 cuts"),
        ([1, -2], [0], "less than nothing"),
        ([1, 2], [-1], "less than nothing"),
    ],
)
def test_what_cannot_be_is_refused(stages: list[int], cuts: list[int], text: str) -> None:
    with pytest.raises(VerifyError, match=text):
        even_split(stages, cuts, 2)


def test_no_block_is_refused() -> None:
    with pytest.raises(VerifyError, match="0 blocks"):
        even_split([1], [], 0)


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_a_cut_where_none_is_allowed_is_refused(cut: int) -> None:
    with pytest.raises(VerifyError, match=r"allowed are \[1\]"):
        split_at([1, 2, 3], [0, None], [cut])


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([Block(1, 2, 0)], "does not follow"),
        ([Block(0, 0, 0)], "empty"),
        ([Block(0, 1, -1)], "less than nothing"),
        ([Block(0, 1, 0), Block(2, 3, 0)], "does not follow"),
    ],
)
def test_blocks_that_do_not_cover_are_refused(blocks: list[Block], text: str) -> None:
    with pytest.raises(VerifyError, match=text):
        Split(blocks=tuple(blocks))
