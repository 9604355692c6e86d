"""Four architectures, eight tenants each, Poisson arrivals with deadlines: goodput on one card.

fusec serves them through its runtime. Beside it: a CUDA graph per tenant, replayed by a thread per
architecture on a stream of a priority, tighter deadlines higher; what is late when its turn comes
is dropped. The load is the same for both, and a multiple of what graphs in turn can do.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from gpu_card import Answers, Card, Fusec, Inputs
from gpu_models import Fleet, mixture
from gpu_peers import graphs
from harness import Row

import fusec

__all__ = ["rows"]

LOADS = (0.5, 0.8, 1.2)
"""In what graphs in turn can do."""
DUE = 10
"""A deadline is so many times what a tenant's graph takes."""


@dataclass(slots=True)
class _Tally:
    asked: int = 0
    met: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, met: bool) -> None:
        with self.lock:
            self.met += met


@dataclass(frozen=True, slots=True)
class _Ask:
    at_s: float
    fleet: int
    name: str


_Asked = tuple[_Ask, float, Callable[[bool], None]]
Submit = Callable[[_Ask, float, Callable[[bool], None]], None]


def rows(card: Card, seconds: float) -> list[Row]:
    """Serve the mix at several loads, both ways in turn."""
    fleets = mixture(card.dry)
    solos = [_solo_s(card, f) for f in fleets]
    made = []
    for load in LOADS[:1] if card.dry else LOADS:
        window = 0.3 if card.dry else max(2.0, seconds / 4)
        asks = _asks(fleets, solos, load, window)
        for name, way in (("fusec", _fusec), ("graphs on streams with priorities", _graphs)):
            submit, close = way(card, fleets, solos)
            tally = _serve(asks, solos, submit)
            close()
            made += [
                _row(load, name, "goodput", "1/s", tally.met / window),
                _row(load, name, "in time", "share", tally.met / max(1, tally.asked)),
            ]
    return made


def _solo_s(card: Card, fleet: Fleet) -> float:
    """Time a tenant's graph."""
    name = next(iter(fleet.models))
    run = graphs(card, {name: fleet.models[name]}, {name: fleet.inputs[name]})
    run()
    times = []
    for _ in range(3 if card.dry else 20):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def _asks(
    fleets: Sequence[Fleet], solos: Sequence[float], load: float, window: float
) -> list[_Ask]:
    """Draw arrivals: each architecture has an equal share of the load."""
    draw, asks = random.Random(7), []
    for number, (fleet, solo) in enumerate(zip(fleets, solos, strict=True)):
        rate = load / len(fleets) / solo
        at = draw.expovariate(rate)
        while at < window:
            asks.append(_Ask(at, number, draw.choice(list(fleet.models))))
            at += draw.expovariate(rate)
    return sorted(asks, key=lambda ask: ask.at_s)


def _serve(asks: Sequence[_Ask], solos: Sequence[float], submit: Submit) -> _Tally:
    """Submit all at their times; count what is answered in time."""
    tally, ended, begin = _Tally(), threading.Semaphore(0), time.perf_counter()

    def done(due: float, answered: bool) -> None:
        tally.count(answered and time.perf_counter() <= due)
        ended.release()

    for ask in asks:
        time.sleep(max(0.0, begin + ask.at_s - time.perf_counter()))
        due = begin + ask.at_s + DUE * solos[ask.fleet]
        tally.asked += 1
        submit(ask, due, lambda answered, due=due: done(due, answered))  # type: ignore[misc]
    for _ in asks:
        ended.acquire(timeout=30)
    return tally


def _fusec(
    card: Card, fleets: Sequence[Fleet], solos: Sequence[float]
) -> tuple[Submit, Callable[[], None]]:
    models = {n: m for f in fleets for n, m in f.models.items()}
    inputs: dict[str, Inputs] = {n: x for f in fleets for n, x in f.inputs.items()}
    ours = Fusec(card, models, inputs, lanes=2)
    for fleet in fleets:
        ours.prepare(fleet.inputs)()
    runtime = fusec.Runtime(ours.plan, lanes=2)

    def submit(ask: _Ask, due: float, done: Callable[[bool], None]) -> None:
        x = inputs[ask.name]
        left_ms = (due - time.perf_counter()) * 1e3
        future = runtime.submit(ask.name, x if len(x) > 1 else x[0], deadline_ms=left_ms)
        future.add_done_callback(lambda f: done(f.exception() is None))

    def close() -> None:
        runtime.close(drain=False)
        ours.close()

    return submit, close


def _graphs(
    card: Card, fleets: Sequence[Fleet], solos: Sequence[float]
) -> tuple[Submit, Callable[[], None]]:
    tightest = sorted(range(len(fleets)), key=lambda i: solos[i])
    queues = [queue.SimpleQueue[_Asked | None]() for _ in fleets]
    runs = [
        {n: graphs(card, {n: m}, {n: f.inputs[n]}) for n, m in f.models.items()} for f in fleets
    ]

    def work(number: int, each: Mapping[str, Callable[[], Answers]]) -> None:
        stream = None
        if not card.dry:
            stream = torch.cuda.Stream(  # type: ignore[no-untyped-call]
                priority=-3 if tightest.index(number) < 2 else 0
            )
            torch.cuda.set_stream(stream)
        while (asked := queues[number].get()) is not None:
            ask, due, done = asked
            if time.perf_counter() > due:
                done(False)
                continue
            each[ask.name]()
            done(True)

    threads = [
        threading.Thread(target=work, args=(i, each), daemon=True) for i, each in enumerate(runs)
    ]
    for thread in threads:
        thread.start()

    def close() -> None:
        for own in queues:
            own.put(None)
        for thread in threads:
            thread.join()

    return lambda ask, due, done: queues[ask.fleet].put((ask, due, done)), close


def _row(load: float, impl: str, metric: str, unit: str, value: float) -> Row:
    return Row(
        bench="gpu", case=f"mixture at {load} of graphs in turn", impl=impl, metric=metric,
        unit=unit, p20=value, p50=value, p80=value, n=1, threads=1,
    )  # fmt: skip
