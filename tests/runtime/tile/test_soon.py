"""What tasks fetch ahead: a chain's weights, each once, not too many at a time."""

from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.tile.soon import soon_words

KIB = 1024


def lists(weights: list[list[int]], sizes: list[int]) -> list[tuple[list, list]]:  # type: ignore[type-arg]
    words, starts = soon_words(weights, sizes)
    found = []
    for start in starts:
        own, later = (int(n) for n in words[start : start + 2])
        pairs = words[start + 2 : start + 2 + 2 * (own + later)].reshape(-1, 2).tolist()
        found.append((pairs[:own], pairs[own:]))
    return found


def test_small_weights_of_the_stages_behind() -> None:
    """Slot 0 is an input; a large layer, its norm, a small layer."""
    found = lists([[1], [2, 3], [4]], [64, 192 * KIB, 128, 130, 2 * KIB])
    assert found[0] == ([[1, 64]], [[2, 2], [3, 3], [4, 32]])
    assert found[1] == ([[2, 2], [3, 3]], [])
    assert found[2] == ([[4, 32]], [])


def test_large_weights_are_asked_for_one_stage_ahead() -> None:
    found = lists([[n] for n in range(6)], [1 << 20] * 6)
    assert [later for _, later in found] == [
        [[1, 64], [2, 64], [3, 64]],
        [[4, 64]],
        [[5, 64]],
        [],
        [],
        [],
    ]


def test_stages_without_weights() -> None:
    assert lists([[], [1], []], [8, 64, 8]) == [([], [[1, 1]]), ([[1, 1]], []), ([], [])]
    assert lists([], []) == []


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), max_size=12), st.data())
def test_each_weight_is_asked_for_once_before_its_stage(
    weights: list[list[int]], data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(st.integers(0, 40 * KIB), min_size=10, max_size=10))
    found = lists(weights, sizes)
    asked = [pair for _, later in found for pair in later]
    assert asked == [pair for own, _ in found[1:] for pair in own]
    seen = 0
    for stage, (_, later) in enumerate(found):
        seen += len(later)
        due = sum(len(own) for own, _ in found[1 : stage + 2])
        assert seen >= due
    assert all(0 < lines <= 64 for pairs in found for part in pairs for _, lines in part)
