"""Segments of which some leave: what is for them alone is not computed any more."""

from __future__ import annotations

from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec.lowering import Stages
from fusec.runtime.extern import run_extern
from fusec.runtime.pool import pool
from fusec.runtime.request import Request, read_request
from fusec.runtime.serving.answer import Answer, Courier
from fusec.runtime.serving.engine import Engine, Team
from fusec.runtime.serving.items import Item, Kind, Ticket
from fusec.runtime.tile.engine import Status, aligned_words
from fusec.serving_costs import Costs


class Serving:
    """A plan and what runs its tickets."""

    def __init__(self, models: dict[str, nn.Module], workers: int) -> None:
        self.plan = fusec.compile(
            {n: m.eval() for n, m in models.items()},
            examples={"*": torch.zeros(1, 6)},
            executor="cpu",
            threads=workers,
        )
        stages = Stages()
        self.engine = Engine(stages.of, workers, run_extern, self._whole)
        self.flag = aligned_words(8)
        self.team = Team(pool(), workers, self.flag.ctypes.data, self._lower)
        self.costs = Costs(self.engine, stages, self.team, 50_000, 64)
        self.costs.measure(map(self.plan._registry.target, models), 0.0, None)

    def _lower(self) -> None:
        self.flag[0] = 0

    def _whole(self, requests: object) -> list[tuple[object, ...]]:
        raise AssertionError(requests)

    def ticket(self, number: int, given: dict[str, np.ndarray]) -> Ticket:
        """Make a ticket; its items are of one template."""
        return Ticket(number, [self._item(n, x) for n, x in given.items()])

    def _item(self, name: str, x: np.ndarray) -> Item:
        request: Request = read_request(self.plan._registry.target(name), x)
        kind: Kind = self.costs.kind(request)
        return Item(request, kind, (x,), (x.ctypes.data,), Answer(Courier()))

    def want(self, name: str, x: np.ndarray) -> bytes:
        """Give what the plan answers."""
        (output,) = self.plan.run({name: x})[name].values()
        return bytes(output.tobytes())


def _wide() -> nn.Module:
    layers = [m for _ in range(4) for m in (nn.Linear(384, 384), nn.ReLU())]
    return nn.Sequential(nn.Linear(6, 384), *layers)


@pytest.fixture(scope="module", params=[1, 2])
def serving(request: pytest.FixtureRequest) -> Serving:
    torch.manual_seed(2)
    return Serving({f"m{i}": _wide() for i in range(4)}, request.param)


def _x(rows: int = 1) -> np.ndarray:
    return np.random.standard_normal((rows, 6)).astype(np.float32)


def _bytes(item: Item) -> bytes:
    assert item.value is not None
    (output,) = item.value.values()
    return bytes(output.tobytes())


def test_who_leaves_takes_its_work_along(serving: Serving) -> None:
    x = {f"m{i}": _x(3) for i in range(4)}
    tickets = [serving.ticket(i, {f"m{i}": x[f"m{i}"]}) for i in range(4)]
    engine, team = serving.engine, serving.team
    segments = engine.gather(tickets, 0, team)
    assert engine.step(segments, team)[0] is Status.DONE
    (segment,) = segments
    before = segment.piece()
    assert before is not None
    tickets[1].leave()
    assert tickets[2].items[0].future.cancel()
    after = segment.piece()
    assert after is not None
    assert len(after.table.units) < len(before.table.units)
    while not segment.done:
        assert engine.step(segments, team)[0] is Status.DONE
    for i in (0, 3):
        assert _bytes(tickets[i].items[0]) == serving.want(f"m{i}", x[f"m{i}"])
    for ticket in tickets:
        ticket.leave()
    with pytest.raises(CancelledError):
        tickets[2].items[0].future.result()


def test_a_body_is_used_again_for_others(serving: Serving) -> None:
    engine, team = serving.engine, serving.team
    built = engine.shapes.uses.misses
    for turn in range(4):
        names = ["m0", "m1"] if turn % 2 else ["m3", "m2"]
        x = {n: _x(2) for n in names}
        ticket = serving.ticket(turn, x)
        segments = engine.gather([ticket], 0, team)
        while not segments[0].done:
            engine.step(segments, team)
        for name, item in zip(names, ticket.items, strict=True):
            assert _bytes(item) == serving.want(name, x[name])
        ticket.leave()
    assert engine.shapes.uses.misses <= built + 1


def test_families_of_equal_weights_are_right_in_any_number(serving: Serving) -> None:
    engine, team = serving.engine, serving.team
    chance = np.random.default_rng(5)
    for number in range(12):
        names = chance.choice(["m0", "m1", "m2"], size=int(chance.integers(1, 12))).tolist()
        given = [_x(int(chance.integers(1, 3))) for _ in names]
        tickets = [
            serving.ticket(100 * number + i, {name: x})
            for i, (name, x) in enumerate(zip(names, given, strict=True))
        ]
        segments = engine.gather(tickets, 0, team)
        while not segments[0].done:
            engine.step(segments, team)
        for ticket, name, x in zip(tickets, names, given, strict=True):
            assert _bytes(ticket.items[0]) == serving.want(name, x)
            ticket.leave()
