"""The genetic search: its fitness, its operators, and that it never beats the exact split."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.passes.split import Settings, even_split, fitness, genetic_split, most_blocks


def test_fitness_is_the_published_one() -> None:
    """At its soft targets, 8 % overhead per block and 3 % deviation, both terms are 1."""
    assert fitness([58, 58], 100) == pytest.approx(1 + math.exp(-1))
    assert fitness([61, 55], 100) == pytest.approx(2)
    assert fitness([50, 50], 100) == pytest.approx(math.exp(-3) + math.exp(-1))
    assert fitness([10**9, 0], 1) > 1e300


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], list[int | None]]:
    stages = draw(st.lists(st.integers(1, 100), min_size=1, max_size=14))
    cost = st.one_of(st.none(), st.integers(0, 10))
    cuts = draw(st.lists(cost, min_size=len(stages) - 1, max_size=len(stages) - 1))
    return stages, cuts


@settings(max_examples=50)
@given(cases(), st.integers(1, 5), st.integers(0, 3))
def test_never_better_than_the_exact_split(
    case: tuple[list[int], list[int | None]], blocks: int, seed: int
) -> None:
    found, exact = genetic_split(*case, blocks, seed=seed), even_split(*case, blocks)
    assert len(found.blocks) == len(exact.blocks) == min(blocks, most_blocks(case[1]))
    for cut in found.cuts:
        assert case[1][cut - 1] is not None
    squares = [sum(b.cost_ns**2 for b in s.blocks) for s in (exact, found)]
    assert (exact.largest_ns, squares[0]) <= (found.largest_ns, squares[1])


def test_same_seed_same_split() -> None:
    drawn = random.Random(5)
    stages = [drawn.randint(1, 1000) for _ in range(60)]
    cuts = [drawn.randint(0, 50) for _ in range(59)]
    splits = [genetic_split(stages, cuts, 6, seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1


def test_comes_near_the_exact_split() -> None:
    """A search that does not move stays as uneven as its first 20 guesses."""
    drawn = random.Random(7)
    stages = [drawn.randint(50, 100) for _ in range(100)]
    cuts = [0] * 99
    raw = sum(stages)
    found = genetic_split(stages, cuts, 4, settings=Settings(stall=30))
    exact = even_split(stages, cuts, 4)
    still = genetic_split(stages, cuts, 4, settings=Settings(generations=0))
    costs = [fitness([b.cost_ns for b in s.blocks], raw) for s in (exact, found, still)]
    assert costs[0] <= costs[1] < 0.8 * costs[2]


@pytest.mark.parametrize("heavy", [slice(0, 20), slice(20, 40)])
def test_mutations_reach_up_as_well_as_down(heavy: slice) -> None:
    """With one guess and nothing to mix it with, only mutations find the middle."""
    alone = Settings(population=1, generations=100, stall=100, mutation=1.0)
    stages = [1] * 40
    stages[heavy] = [100] * 20
    (middle,) = even_split(stages, [0] * 39, 2).cuts
    for seed in range(6):
        (cut,) = genetic_split(stages, [0] * 39, 2, seed=seed, settings=alone).cuts
        assert abs(cut - middle) <= 1
