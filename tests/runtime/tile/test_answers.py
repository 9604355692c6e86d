"""Inputs and outputs of a class of requests: where rows meet instances."""

import numpy as np
import pytest

import fusec
from fusec.runtime.tile.answers import input_rows


@pytest.mark.parametrize(
    ("axis", "count", "wanted"),
    [
        (0, 2, [[0, 1, 2], [3, 4, 5]]),
        (1, 3, [[0, 3], [1, 4], [2, 5]]),
        (None, 2, [[[0, 1, 2], [3, 4, 5]]] * 2),
    ],
)
def test_rows_of_inputs_lie_one_after_another(
    axis: int | None, count: int, wanted: list[object]
) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows = input_rows(array, axis, count)
    assert rows.flags.c_contiguous
    assert rows.reshape(np.shape(wanted)).tolist() == wanted


def test_inputs_that_lie_well_are_not_copied() -> None:
    array = np.zeros((4, 3), dtype=np.float32)
    assert input_rows(array, 0, 4) is array
    assert input_rows(array, 1, 1) is array


def _copies(elements: int, rows: dict[str, int]) -> dict[str, np.ndarray]:
    import torch

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    plan = fusec.compile(
        {n: Twice() for n in rows}, examples={"*": torch.zeros(1, elements)}, executor="cpu"
    )
    given = {n: np.full((k, elements), k, dtype=np.float32) for n, k in rows.items()}
    answers = plan.run(given)
    for name, k in rows.items():
        assert (answers[name]["output"] == 2 * given[name]).all()
        assert answers[name]["output"].shape == (k, elements)
    return {n: a["output"] for n, a in answers.items()}


def test_small_answers_share_a_block_and_large_ones_do_not() -> None:
    small = _copies(4, {"a": 1, "b": 3})
    assert small["a"].base is not None
    large = _copies(1 << 15, {"a": 1, "b": 3})
    assert not np.shares_memory(large["a"], large["b"])
    root = large["a"]
    while root.base is not None:
        root = root.base
    assert root.nbytes == large["a"].nbytes


def _root(array: np.ndarray) -> np.ndarray:
    while array.base is not None:
        array = array.base
    return array


def test_only_requests_of_one_group_get_memory_together() -> None:
    """Two members with the same large weights run as one range of rows, the third on its own."""
    import torch

    torch.manual_seed(0)
    one, other = (torch.nn.Linear(300, 1 << 15).eval() for _ in range(2))
    members = {"a": one, "b": one, "c": other}
    plan = fusec.compile(members, examples={"*": torch.zeros(1, 300)}, executor="cpu", threads=1)
    rows = {n: np.random.default_rng(i).random((1, 300)) for i, n in enumerate(members)}
    given = {n: x.astype(np.float32) for n, x in rows.items()}
    alone = {n: plan.run({n: x})[n]["output"] for n, x in given.items()}
    for _ in range(3):  # planned, remembered, remembered
        answers = {n: out["output"] for n, out in plan.run(given).items()}
        assert {n: x.tobytes() for n, x in answers.items()} == {
            n: x.tobytes() for n, x in alone.items()
        }
        assert _root(answers["a"]) is _root(answers["b"])
        assert _root(answers["a"]) is not _root(answers["c"])
