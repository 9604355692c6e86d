"""Weights on a card: come in time, leave for others, come back; whatever the order of streams."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from fusec_testing.grouped import interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fusec
from fusec.runtime.cuda.library import OutOfDeviceMemory

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_runs import OnCard, head, on_card  # noqa: E402

X = np.zeros((1, 24), np.float32)
NAMES = [f"m{i}" for i in range(5)]
PLAN = fusec.compile({n: head(i) for i, n in enumerate(NAMES)}, examples={"*": X})
PAGE_BYTES = 4992
"""Of one member: it has a page of its own."""


def rows(seed: int, names: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((1, 24), dtype=np.float32) for name in names}


def test_weights_stay_and_are_there_once() -> None:
    world = on_card(PLAN, fake=ComputingCard(seed=1))
    for seed in range(3):
        world.check(rows(seed, NAMES))
    stats = world.executor.stats()
    assert (stats.uploads, stats.evictions) == (5, 0)
    assert stats.resident_bytes == stats.uploaded_bytes
    page = stats.resident_bytes // 5
    assert page <= PAGE_BYTES
    world.close()


def test_the_least_recently_used_leaves_and_comes_back() -> None:
    world = on_card(PLAN, fake=ComputingCard(seed=2), memory_budget=2 * PAGE_BYTES)
    for names in (["m0"], ["m1"], ["m0"], ["m2"]):
        world.check(rows(4, names))
    before = world.executor.stats()
    assert (before.uploads, before.evictions) == (3, 1)
    world.check(rows(5, ["m0"]))
    assert world.executor.stats().uploads == before.uploads
    world.check(rows(6, ["m1"]))
    assert world.executor.stats().evictions == 2
    assert world.executor.stats().resident_bytes <= 2 * PAGE_BYTES
    world.close()


class Deep(nn.Module):
    """Weights of each layer on a page of their own, if pages are small."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x + self.layers[0](x)


DEEP = fusec.compile(
    {f"d{i}": Deep(i).eval() for i in range(2)}, examples={"*": np.zeros((1, 16), np.float32)}
)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusec.runtime.cuda import pages, weights

    plain = pages.extended
    monkeypatch.setattr(weights, "extended", lambda table, uses: plain(table, uses, 1300))


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("seed", range(4))
def test_a_run_larger_than_the_budget_makes_room_behind_itself(seed: int) -> None:
    world = on_card(DEEP, fake=ComputingCard(seed=seed), memory_budget=5 * 1300)
    rng = np.random.default_rng(seed)
    for n in (1, 3, 1):
        world.check({f"d{i}": rng.standard_normal((n, 16), dtype=np.float32) for i in range(2)})
    stats = world.executor.stats()
    assert stats.evictions > 5
    assert stats.resident_bytes <= 5 * 1300
    # One member alone fits better; it is recorded once and for all.
    for _ in range(3):
        world.check({"d0": rng.standard_normal((1, 16), dtype=np.float32)})
    world.close()


@pytest.mark.usefixtures("small_pages")
@settings(max_examples=10)
@given(
    st.integers(0, 1 << 30),
    st.integers(2, 12),
    st.lists(
        st.tuples(st.sets(st.sampled_from(["d0", "d1"]), min_size=1), st.integers(0, 1)), max_size=5
    ),
)
def test_any_budget_and_order_of_streams_gives_the_same_bytes(
    seed: int, pages: int, calls: list[tuple[set[str], int]]
) -> None:
    from fusec.runtime.cuda import pages as module
    from fusec.runtime.cuda import weights

    assert weights.extended is not module.extended, "pages are small in this test"
    world = on_card(DEEP, fake=ComputingCard(seed=seed), memory_budget=pages * 1300)
    flights = []
    for n, (names, lane) in enumerate(calls):
        x = {name: np.full((1, 16), 0.1 * n, np.float32) for name in sorted(names)}
        prepared, inputs = world.prepare(x)
        flights.append((x, prepared.start(inputs, lane=lane)))
    for x, flight in reversed(flights):
        wanted = DEEP.run(x)
        for name, (got,) in zip(x, flight.answers(), strict=True):
            np.testing.assert_allclose(got, next(iter(wanted[name].values())), atol=1e-5)
    world.close()


def test_a_stage_that_does_not_fit_is_told_and_harms_nobody() -> None:
    world = on_card(PLAN, fake=ComputingCard(), memory_budget=2 * PAGE_BYTES)
    with pytest.raises(OutOfDeviceMemory, match=r"weights of one stage take.*memory_budget"):
        world.run(rows(0, NAMES))
    world.check(rows(1, NAMES[:2]))
    world.close()


def test_a_card_that_has_less_than_the_budget_evicts() -> None:
    fake = ComputingCard(memory_bytes=24_000)
    world = on_card(PLAN, fake=fake, memory_budget=1 << 20, lanes=1)
    for n in range(5):
        world.check(rows(n, [NAMES[n]]))
    assert world.executor.stats().evictions
    with pytest.raises(OutOfDeviceMemory):
        world.run(rows(1, NAMES))
    world.check(rows(9, ["m0"]))
    world.close()


def test_no_memory_for_a_run_is_told_with_what_it_takes() -> None:
    world = on_card(PLAN, fake=ComputingCard(memory_bytes=40_000), lanes=1)
    with pytest.raises(OutOfDeviceMemory, match=r"takes [\d,]+ bytes on the card for inputs"):
        world.run({"m0": np.zeros((300, 24), np.float32)})
    world.check(rows(0, ["m1"]))
    world.close()


def heads() -> fusec.Plan:
    return fusec.compile({n: head(i) for i, n in enumerate(NAMES)}, examples={"*": X})


def forgotten(world: OnCard, name: str) -> None:
    """Let go of a member as a plan does."""
    gone = world.plan.inside()[0].target(name)
    world.plan.remove(name)
    world.executor.forget(gone.choices)


def test_weights_of_members_that_are_gone_leave_card_and_host() -> None:
    plan = heads()
    fake = ComputingCard()
    world = on_card(plan, fake=fake)
    world.check(rows(0, NAMES))
    full = world.executor.stats().resident_bytes
    pinned = fake.kinds().count("host")
    forgotten(world, "m4")
    gc.collect()
    world.check(rows(1, ["m0"]))
    assert world.executor.stats().resident_bytes < full - 4000
    assert fake.kinds().count("host") == pinned - 1
    plan.add("m4", head(4), like=None, example=X)
    world.check(rows(2, ["m4", "m0"]))
    assert world.executor.stats().resident_bytes == full
    world.close()


def test_a_replaced_member_has_its_new_weights_at_once() -> None:
    plan = heads()
    world = on_card(plan, fake=ComputingCard())
    world.check(rows(0, NAMES))
    old = world.prepare(rows(0, ["m2"]))
    wanted = plan.run(rows(0, ["m2"]))["m2"]["output"]
    plan.replace("m2", head(99), example=X)
    world.check(rows(0, NAMES))
    # Who began before goes on with what it had.
    ((got,),) = old[0].run(old[1])
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)
    world.close()


class Shared(nn.Module):
    """A backbone that all have, and a head of one's own."""

    def __init__(self, backbone: nn.Module, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone, self.head = backbone, nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(torch.relu(self.backbone(x)))
        return y


def test_shared_weights_are_there_once_and_their_rows_are_one() -> None:
    backbone = nn.Linear(24, 20)
    models = {f"s{i}": Shared(backbone, i).eval() for i in range(4)}
    world = on_card(fusec.compile(models, examples={"*": X}), fake=ComputingCard(), lanes=1)
    answers = world.check(rows(0, list(models)))
    assert world.executor.stats().uploads == 5
    assert world.run(rows(0, ["s2"]))["s2"][0].shape == answers["s2"][0].shape
    together = rows(0, list(models))
    alone = world.run({"s2": together["s2"]})
    assert alone["s2"][0].tobytes() == answers["s2"][0].tobytes()
    world.close()
