"""Arena planning: what lives at the same time never shares bytes."""

from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.tile.arena import ALIGN_BYTES, plan_arena
from fusec.runtime.tile.code import Lifetime
from fusec.runtime.tile.memory import ArenaPool, aligned


@st.composite
def _buffers(draw: st.DrawFn) -> tuple[list[Lifetime], list[int]]:
    n = draw(st.integers(0, 12))
    lives = []
    for slot in range(n):
        first = draw(st.integers(0, 9))
        lives.append(Lifetime(slot, first, draw(st.integers(first, 10))))
    sizes = draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n))
    return lives, sizes


@given(_buffers())
def test_buffers_that_live_together_lie_apart(case: tuple[list[Lifetime], list[int]]) -> None:
    lives, sizes = case
    offsets, total = plan_arena(lives, sizes)
    assert offsets.keys() == {life.slot for life in lives}
    for a in lives:
        assert offsets[a.slot] % ALIGN_BYTES == 0
        assert offsets[a.slot] + sizes[a.slot] <= total
        for b in lives:
            together = a.first <= b.last and b.first <= a.last
            if a.slot < b.slot and together and sizes[a.slot] and sizes[b.slot]:
                apart = (
                    offsets[a.slot] + sizes[a.slot] <= offsets[b.slot]
                    or offsets[b.slot] + sizes[b.slot] <= offsets[a.slot]
                )
                assert apart


@given(_buffers())
def test_no_more_memory_than_all_buffers_side_by_side(
    case: tuple[list[Lifetime], list[int]],
) -> None:
    lives, sizes = case
    assert plan_arena(lives, sizes)[1] <= sum(map(aligned, sizes))


def test_a_chain_of_equal_buffers_needs_two() -> None:
    lives = [Lifetime(i, i, i + 1) for i in range(10)]
    assert plan_arena(lives, [64] * 10)[1] == 128


def test_regions_are_lent_once_and_grow() -> None:
    pool = ArenaPool()
    first = pool.take(100)
    second = pool.take(100)
    assert first is not second
    pool.give(first)
    assert pool.take(90) is first
    pool.give(first)
    larger = pool.take(1000)
    assert larger.n_bytes >= 1000
    assert larger.address % ALIGN_BYTES == 0
