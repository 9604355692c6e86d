"""Runs on their way: several at once, lanes, graphs that leave for others, failures."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fusec_testing.grouped import interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

import fusec
from fusec.ir.errors import ConfigError, KernelError

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_runs import head, on_card  # noqa: E402

X = np.zeros((1, 24), np.float32)
NAMES = [f"m{i}" for i in range(4)]
PLAN = fusec.compile({n: head(i) for i, n in enumerate(NAMES)}, examples={"*": X})


def rows(seed: int, n: int = 1, names: list[str] = NAMES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((n, 24), dtype=np.float32) for name in names}


def agree(x: dict[str, np.ndarray], answers: list[tuple[np.ndarray, ...]]) -> None:
    wanted = PLAN.run(x)
    for name, (got,) in zip(x, answers, strict=True):
        np.testing.assert_allclose(got, wanted[name]["output"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_thread_has_more_runs_on_their_way_than_lanes(lanes: int, seed: int) -> None:
    world = on_card(PLAN, fake=ComputingCard(seed=seed), lanes=lanes)
    flights = []
    for n in range(5):
        x = rows(n, 1 + n % 2)
        prepared, inputs = world.prepare({name: given.copy() for name, given in x.items()})
        flights.append((x, prepared.start(inputs)))
        for array in inputs:
            array[0][:] = np.nan  # they were read
    for x, flight in reversed(flights):
        agree(x, flight.answers())
        assert flight.done()
        assert flight.answers() is flight.answers()
    world.close()


def test_many_threads_have_their_own_answers() -> None:
    world = on_card(PLAN, fake=ComputingCard(seed=5), lanes=2)
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(3):
                x = rows(10 * seed + n, 1 + n)
                prepared, inputs = world.prepare(x)
                agree(x, prepared.run(inputs))
        except BaseException as e:  # noqa: BLE001  (told below)
            problems.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    world.close()


def test_lanes_are_chosen_and_have_urgencies() -> None:
    world = on_card(PLAN, fake=ComputingCard(), lanes=2, urgencies=(0, 3))
    prepared, inputs = world.prepare(rows(0))
    flight = prepared.start(inputs, lane=1)
    with pytest.raises(ConfigError, match="no lane 2: this plan has 2"):
        prepared.start(inputs, lane=2)
    agree(rows(0), flight.answers())
    agree(rows(0), prepared.start(inputs, lane=1).answers())
    assert world.executor.stats().captures == 1
    world.close()


def test_graphs_leave_for_others() -> None:
    models = {f"w{width}": head(0, width) for width in (20, 24, 32)}
    examples = {f"w{width}": np.zeros((1, width), np.float32) for width in (20, 24, 32)}
    plan = fusec.compile(models, examples=examples)
    world = on_card(plan, fake=ComputingCard(), lanes=1, most_graphs=2)
    for _ in range(2):
        for name, x in examples.items():
            for _ in range(2):
                world.check({name: x + 1})
    stats = world.executor.stats()
    assert stats.graphs == 2
    assert stats.captures == 6
    world.close()


def test_a_run_that_is_much_smaller_has_a_graph_of_its_own() -> None:
    world = on_card(PLAN, fake=ComputingCard(), lanes=1)
    for _ in range(2):
        world.check(rows(0, 300))
    world.check(rows(0, 100))
    assert world.executor.stats().captures == 1
    for _ in range(2):
        world.check(rows(0, 1, ["m0"]))
    assert world.executor.stats().captures == 2
    world.close()


CALLS = [
    *("cuLaunchKernel", "cuGraphLaunch", "cuGraphInstantiateWithFlags", "cuStreamBeginCapture_v2"),
    *("cuStreamEndCapture", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async"),
    *("cuMemAllocAsync", "cuMemHostAlloc", "cuEventRecord", "cuEventCreate", "cuStreamWaitEvent"),
    *("cuEventSynchronize", "cuModuleLoadData", "cuModuleGetFunction"),
]


@settings(max_examples=25)
@given(st.sampled_from(CALLS), st.integers(0, 8), st.integers(0, 3))
def test_whatever_fails_the_next_run_is_right_and_nothing_is_left(
    call: str, good: int, seed: int
) -> None:
    fake = ComputingCard(seed=seed)
    world = on_card(PLAN, fake=fake, lanes=2)
    fake.failing_call = (call, good)
    failures = 0
    for n in range(4):
        try:
            world.check(rows(n, 1 + n % 2, NAMES[: 2 + n % 2]))
        except KernelError as e:
            failures += 1
            assert call in str(e) or "card" in str(e)
    assert failures <= 1
    fake.failing_call = None
    world.check(rows(7))
    world.close()


def test_errors_of_a_run_that_was_enqueued_come_with_its_answers() -> None:
    fake = ComputingCard()
    world = on_card(PLAN, fake=fake, lanes=1)
    prepared, inputs = world.prepare(rows(0))
    flight = prepared.start(inputs)
    fake.failing_call = ("cuEventSynchronize", 0)
    for _ in range(2):
        with pytest.raises(KernelError, match="cuEventSynchronize"):
            flight.answers()
    agree(rows(0), prepared.run(inputs))
    world.close()


def test_a_closed_card_opens_again() -> None:
    world = on_card(PLAN, fake=ComputingCard(), lanes=1)
    prepared, inputs = world.prepare(rows(0))
    flight = prepared.start(inputs)
    world.executor.close()
    agree(rows(0), flight.answers())
    agree(rows(0), prepared.run(inputs))
    world.check(rows(1))
    world.close()


def test_launches_overlap_where_kernels_wait_themselves() -> None:
    for capability, wanted in (((9, 0), [[], [6]]), ((8, 0), [[], []])):
        fake = ComputingCard(capability=capability)
        world = on_card(PLAN, fake=fake, lanes=1, graphs=False, overlapping=True)
        world.check(rows(0))
        fake.launches.clear()
        world.check(rows(1))
        assert [launch["attributes"] for launch in fake.launches] == wanted
        world.close()
