"""Memory of models that are gone is given back, once for many."""

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from torch import nn

import fusec
from fusec.server import tidying
from fusec.server.tidying import Tidying, give_back


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


class Cycle:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_only_cycles_hold_is_freed() -> None:
    gc.disable()
    try:
        ref = weakref.ref(Cycle())
        assert ref() is not None
        give_back()
        assert ref() is None
    finally:
        gc.enable()


def test_many_that_go_together_are_tidied_up_after_once() -> None:
    done: list[int] = []

    async def main() -> None:
        tidying = Tidying(lambda: done.append(1), 0.001)
        for wanted in (1, 2):
            for _ in range(50):
                tidying.soon()
            async with asyncio.timeout(10):
                while len(done) < wanted:
                    await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(done) == 2


def test_libraries_are_looked_through_once_and_what_comes_later_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tidying, "_MANY", len(gc.get_objects()) // 2)
    give_back()
    frozen = gc.get_freeze_count()
    assert frozen > tidying._MANY > len(gc.get_objects())
    ref = weakref.ref(Cycle())
    give_back()
    assert ref() is None
    assert gc.get_freeze_count() <= frozen  # what few objects came is not worth it


def test_what_was_frozen_goes_with_whoever_holds_it_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are there at the start hold no cycles, and nobody else holds them."""
    monkeypatch.setattr(tidying, "_MANY", 0)
    models = {name: nn.Linear(6, 3) for name in ("cat", "dog")}
    x = np.ones((1, 6), np.float32)
    plan = fusec.compile(models, examples={"*": x}, threads=1)
    with fusec.Runtime(plan, measure_s=0.01) as runtime:
        runtime.submit("cat", x).result(30)
        runtime.submit("dog", x).result(30)
        registry, _, _ = plan.inside()
        (choice,) = registry.target("dog").choices
        held = weakref.ref(choice)  # and it holds the weights
        del choice
        give_back()
        assert gc.get_freeze_count()
        gc.disable()
        try:
            plan.remove("dog")
            end = time.monotonic() + 10
            while held() is not None and time.monotonic() < end:
                time.sleep(0.001)
            assert held() is None
        finally:
            gc.enable()
