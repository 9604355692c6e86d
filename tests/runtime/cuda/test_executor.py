"""Plans on a card: answers, any subset and order, ragged rows, other templates, isolation.

Every test runs on a card that a test has made up, and on a real one where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fusec_testing.grouped import interpreter
from torch import nn

import fusec
from fusec.ir.errors import ConfigError, KernelError

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_runs import OnCard, check_accuracy, head, on_card  # noqa: E402

X = np.zeros((1, 24), np.float32)
NAMES = [f"m{i}" for i in range(6)]


@pytest.fixture(params=["made up", pytest.param("real", marks=pytest.mark.gpu)])
def fake(request: pytest.FixtureRequest) -> ComputingCard | None:
    return ComputingCard(seed=3) if request.param == "made up" else None


@pytest.fixture
def heads(fake: ComputingCard | None) -> Iterator[OnCard]:
    plan = fusec.compile({n: head(i) for i, n in enumerate(NAMES)}, examples={"*": X})
    world = on_card(plan, fake=fake)
    yield world
    world.close()


def rows(rng: np.random.Generator, n: int, width: int = 24) -> np.ndarray:
    return rng.standard_normal((n, width), dtype=np.float32)


def test_answers_are_no_worse_than_torch(heads: OnCard, rng: np.random.Generator) -> None:
    given = {name: rows(rng, n) for name, n in zip(NAMES, (1, 3, 1, 17, 2, 1), strict=True)}
    for _ in range(3):
        answers = heads.check(given)
    for i, name in enumerate(NAMES):
        check_accuracy(head(i), given[name], answers[name][0])


def test_another_subset_or_order_needs_nothing_new(heads: OnCard, rng: np.random.Generator) -> None:
    everybody = {name: rows(rng, 2) for name in NAMES}
    lane = 0
    for _ in range(2):
        prepared, inputs = heads.prepare(everybody)
        prepared.start(inputs, lane=lane).answers()
    before = heads.executor.stats()
    assert (before.captures, before.uploads) == (1, len(NAMES))
    for names in (NAMES[::-1], NAMES[1:3], ["m4"], ["m0", "m5", "m2"]):
        prepared, inputs = heads.prepare({name: everybody[name] for name in names})
        answers = prepared.start(inputs, lane=lane).answers()
        alone = heads.plan.run({name: everybody[name] for name in names})
        for name, (got,) in zip(names, answers, strict=True):
            np.testing.assert_allclose(got, alone[name]["output"], rtol=2e-5, atol=2e-5)
    after = heads.executor.stats()
    assert after.captures == before.captures
    assert after.compiles == before.compiles
    assert after.uploads == before.uploads
    assert after.kernel_launches == before.kernel_launches
    assert after.graph_launches == before.graph_launches + 4


def test_a_list_that_runs_again_has_its_tables_there(
    heads: OnCard, rng: np.random.Generator
) -> None:
    given = {name: rows(rng, 1) for name in NAMES}
    prepared, inputs = heads.prepare(given)
    first = prepared.start(inputs, lane=1).answers()
    before = heads.executor.stats()
    again = prepared.start(inputs, lane=1).answers()
    assert heads.executor.stats().table_bytes == before.table_bytes
    assert [a[0].tobytes() for a in first] == [a[0].tobytes() for a in again]


def test_company_changes_no_byte(heads: OnCard, rng: np.random.Generator) -> None:
    given = {name: rows(rng, 3) for name in NAMES}
    alone = {name: heads.run({name: given[name]})[name][0].tobytes() for name in NAMES}
    one_by_one = [heads.run({"m3": given["m3"][i : i + 1]})["m3"][0] for i in range(3)]
    assert np.concatenate(one_by_one).tobytes() == alone["m3"]
    given["m1"] = np.full((40, 24), np.nan, np.float32)
    given["m4"] = np.full((3, 24), np.inf, np.float32)
    for order in (NAMES, NAMES[::-1]):
        together = heads.run({name: given[name] for name in order})
        for name in {*NAMES} - {"m1", "m4"}:
            assert together[name][0].tobytes() == alone[name]


def test_without_graphs_the_bytes_are_the_same(
    heads: OnCard, fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    given = {name: rows(rng, 2) for name in NAMES}
    plain = on_card(heads.plan, fake=None if fake is None else ComputingCard(), graphs=False)
    for _ in range(2):
        got, wanted = plain.run(given), heads.run(given)
    for name in NAMES:
        assert got[name][0].tobytes() == wanted[name][0].tobytes()
    assert plain.executor.stats().captures == 0
    plain.close()


class Encoder(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.layer(self.embed(ids)).mean(dim=1)
        return x


def encoders(n: int) -> fusec.Plan:
    return fusec.compile(
        {f"e{i}": Encoder(i).eval() for i in range(n)},
        examples={"*": np.zeros((1, 5), np.int64)},
        symbols={"*": {"ids": {1: ("tokens", 1, 64)}}},
    )


def test_ragged_lengths_are_one_launch_for_each_stage(
    fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    plan = encoders(2)
    world = on_card(plan, fake=fake, graphs=False)
    one = {"e0": rng.integers(0, 50, (1, 4))}
    world.check(one)
    launches = world.executor.stats().kernel_launches
    ragged = {f"e{i}": rng.integers(0, 50, (i + 1, n)) for i, n in enumerate((3, 9))}
    answers = world.check(ragged)
    assert world.executor.stats().kernel_launches == 2 * launches
    for name, given in ragged.items():
        assert world.run({name: given})[name][0].tobytes() == answers[name][0].tobytes()
    world.close()


def test_a_bad_index_is_told_and_harms_nobody_later(
    fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    world = on_card(encoders(2), fake=fake)
    good = {"e0": rng.integers(0, 50, (1, 4))}
    wanted = world.check(good)
    with pytest.raises(KernelError, match="index is out of range"):
        world.run({"e0": good["e0"], "e1": np.array([[1, 2, 99]])})
    assert world.run(good)["e0"][0].tobytes() == wanted["e0"][0].tobytes()
    world.close()


def test_templates_share_launches_where_kernels_are_equal(
    fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    deep = nn.Sequential(head(7), nn.ReLU(), nn.Linear(10, 10)).eval()
    models = {"a": head(0), "b": head(1, width=24, hidden=20), "deep": deep, "wide": head(2, 40)}
    examples = {"*": X, "wide": np.zeros((1, 40), np.float32)}
    world = on_card(fusec.compile(models, examples=examples), fake=fake, graphs=False)
    given = {n: rows(rng, i + 1, 40 if n == "wide" else 24) for i, n in enumerate(models)}
    answers = world.check(given)
    for name in models:
        before = world.executor.stats().kernel_launches
        assert world.run({name: given[name]})[name][0].tobytes() == answers[name][0].tobytes()
        alone = world.executor.stats().kernel_launches - before
        assert alone == (3 if name == "deep" else 2)
    before = world.executor.stats().kernel_launches
    world.run(given)
    # The first product of all, the second of heads, and the others of the deep one.
    assert world.executor.stats().kernel_launches - before == 4
    world.close()


class Sorted(nn.Module):
    """Between two products two operators that no kernel of a card has."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.a(x)
        x, order = torch.sort(x, dim=-1)
        x = torch.logcumsumexp(x, dim=-1)
        return self.b(x), order


def test_stages_without_a_kernel_run_on_the_host(
    fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    models = {f"s{i}": Sorted(i).eval() for i in range(3)} | {"head": head(0, 6, 7)}
    plan = fusec.compile(models, examples={"*": np.zeros((1, 6), np.float32)})
    world = on_card(plan, fake=fake)
    given = {name: rows(rng, 2, 6) for name in models}
    for _ in range(2):
        answers = world.check(given)
    assert world.executor.stats().host_stages >= 4
    for name in models:
        assert world.run({name: given[name]})[name][0].tobytes() == answers[name][0].tobytes()
    world.close()


class Turned(nn.Module):
    """A batch axis that is not the first, an output that needs no input, and one of no elements."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.a(x) + torch.relu(self.b(y)), self.b.bias * 2, y[..., :0]


def test_other_axes_and_empty_outputs(fake: ComputingCard | None, rng: np.random.Generator) -> None:
    models = {f"t{i}": Turned().eval() for i in range(2)}
    x, y = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 3), np.float32)
    axes = {"*": {"x": 1, "y": 1}}
    plan = fusec.compile(models, examples={"*": (x, y)}, batch_axes=axes)
    world = on_card(plan, fake=fake)
    world.check(
        {
            f"t{i}": (
                rng.standard_normal((1, n, 4), np.float32),
                rng.standard_normal((1, n, 3), np.float32),
            )
            for i, n in enumerate((3, 1))
        }
    )
    world.close()


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x).repeat(1, 2500)


def test_large_answers_are_each_ones_own(
    fake: ComputingCard | None, rng: np.random.Generator
) -> None:
    models = {f"w{i}": Wide().eval() for i in range(2)}
    plan = fusec.compile(models, examples={"*": np.zeros((1, 3), np.float32)})
    world = on_card(plan, fake=fake)
    answers = world.check({name: rows(rng, i + 1, 3) for i, name in enumerate(models)})
    world.run({name: rows(rng, i + 1, 3) for i, name in enumerate(models)})
    assert answers["w0"][0].base is not answers["w1"][0].base
    world.close()


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"lanes": 0}, "lanes is 0"),
        ({"card": -1}, "card is -1"),
        ({"most_graphs": True}, "most_graphs is True"),
        ({"memory_budget": 0.5}, "memory_budget is 0.5"),
        ({"urgencies": (1,)}, "1 numbers for 2 lanes"),
        ({"lanes": 65}, "64 at most"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        on_card(fusec.compile({"a": head(0)}, examples={"*": X}), fake=ComputingCard(), **settings)
