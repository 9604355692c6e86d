"""Model k answers k, for a moment: what `bench/serve_clients.py` does for a minute."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Import the bench as it imports itself, with its folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    for name in ("serve_clients", "figures", "where"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import serve_clients

    return serve_clients


def test_not_one_answer_is_wrong_and_nothing_is_left(bench) -> None:  # type: ignore[no-untyped-def]
    found = bench.run(8, 2.0, 2, lanes=2, seed=3, each=2)
    assert not found.wrong
    assert set(found.left.values()) == {0}
    assert found.ends["answered"] and found.ends["cancelled"] and found.changes
    told = bench.figures(found, 8, 2.0, 2)
    assert [row.p50 for row in told if row.asked == "0"] == [0, 0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([[7, 3], [7, 4]], "answered"),
        ([[7, 3], [7, 3]], "m: asked with [3.0, 4.0], echoes [3.0, 3.0]"),
        ([[7, 4], [7, 3]], "m: asked with [3.0, 4.0], echoes [4.0, 3.0]"),
        ([[8, 3], [8, 4]], "m: is 7 to 7, answers [8.0, 8.0]"),
        ([[7, 3], [4103, 4]], "m: is 7 to 7, answers [7.0, 4103.0]"),
        ([[7, 3]], "m: answers (1, 2) to 2 rows"),
    ],
)
def test_each_mix_up_is_seen(bench, answer: list[list[float]], told: str) -> None:  # type: ignore[no-untyped-def]
    given = np.array([[3, 0], [4, 0]], dtype=np.float32)
    assert bench._judged("m", np.array(answer, dtype=np.float32), given, (7, 7)) == told


def test_a_model_answers_its_number_and_the_one_it_is_asked_with(bench) -> None:  # type: ignore[no-untyped-def]
    plan, numbers = bench.make_plan(1, 2)
    x = np.array([[5, 0.5, 0.5, 0.5], [900, 0.1, 0.2, 0.3]], dtype=np.float32)
    for name in plan.members:
        (answer,) = plan.run({name: x})[name].values()
        assert answer.tolist() == [[numbers.least[name], 5], [numbers.least[name], 900]]
