"""A mix of tenants that keep coming, whoever answers: wake words, sentences, a job of images.

wake words    every 80 ms all heads score the same frames, due in 40 ms
sentences     eight fine-tunes of MiniLM, Poisson arrivals at a given rate, 5 to 128 tokens, due in
              150 ms
images        text recognition in the background, one image after another, due never

Arrivals do not wait for answers (an open loop), but for the images. A server is what takes a
`Call`, and calls back when it has the answer or has given up.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

TICK_MS, TICK_DUE_MS = 80.0, 40.0
SENTENCE_DUE_MS = 150.0
LENGTHS = (5, 8, 12, 16, 20, 24, 31, 40, 47, 64, 96, 128)
WAKE, SENTENCE, IMAGE = "wake words", "sentences", "images"

Inputs = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Requests that come at one moment."""

    kind: str
    requests: Mapping[str, Inputs]
    at_ns: int
    due_ns: int | None


class Server(Protocol):
    """Who answers."""

    name: str

    def submit(self, call: Call, done: Callable[[bool], None]) -> None:
        """Take a call; `done` is called once per request, with whether it was answered."""

    def close(self) -> None:
        """Stop, whatever waits."""


@dataclass(slots=True)
class Tally:
    """What became of one kind of request in one window."""

    latencies_ms: list[float] = field(default_factory=list)
    """Of those that were answered."""
    asked: int = 0
    met: int = 0

    @property
    def attainment(self) -> float:
        """Share of all that was answered in time."""
        return self.met / self.asked if self.asked else 1.0

    def quantile(self, share: float) -> float:
        """Give a quantile of the latencies in ms; infinite where nothing was answered."""
        known = sorted(self.latencies_ms)
        return known[min(len(known) - 1, int(share * len(known)))] if known else float("inf")


@dataclass(frozen=True, slots=True)
class Mix:
    """What may be asked."""

    wake: Mapping[str, Inputs]
    sentences: Sequence[str]
    sentence: Callable[[int], Inputs]
    """Length -> inputs."""
    image: tuple[str, Inputs] | None


def arrivals(mix: Mix, rate: float, seconds: float, seed: int) -> list[tuple[float, Call]]:
    """Draw the calls of a window, images left out, by time in ms; `at_ns` is still to come."""
    draw = random.Random(seed)
    ticks = [
        (n * TICK_MS, Call(WAKE, mix.wake, 0, round(TICK_DUE_MS * 1e6)))
        for n in range(int(seconds * 1e3 / TICK_MS))
    ]
    return list(heapq.merge(ticks, _sentences(mix, rate, seconds, draw), key=lambda x: x[0]))


def _sentences(
    mix: Mix, rate: float, seconds: float, draw: random.Random
) -> Iterator[tuple[float, Call]]:
    at_ms = draw.expovariate(rate) * 1e3 if rate else seconds * 1e3
    while at_ms < seconds * 1e3:
        inputs = mix.sentence(draw.choice(LENGTHS))
        name = draw.choice(mix.sentences)
        yield at_ms, Call(SENTENCE, {name: inputs}, 0, round(SENTENCE_DUE_MS * 1e6))
        at_ms += draw.expovariate(rate) * 1e3


class Window:
    """One server under one load for some seconds."""

    def __init__(self, server: Server, mix: Mix) -> None:
        """Begin with nothing counted."""
        self._server, self._mix = server, mix
        self._lock = threading.Lock()
        self._left = 0
        self._over = False
        self.tallies = {kind: Tally() for kind in (WAKE, SENTENCE, IMAGE)}

    def run(self, calls: Sequence[tuple[float, Call]], seconds: float) -> Mapping[str, Tally]:
        """Submit all calls at their times, wait for the last answers, and give what came of it."""
        begin = time.monotonic_ns()
        if self._mix.image is not None:
            self._image()
        for at_ms, call in calls:
            at_ns = begin + round(at_ms * 1e6)
            time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))
            assert call.due_ns is not None
            self._submit(Call(call.kind, call.requests, at_ns, at_ns + call.due_ns))
        time.sleep(max(0.0, seconds - (time.monotonic_ns() - begin) / 1e9))
        self._over = True
        patience = time.monotonic() + 20
        while self._left and time.monotonic() < patience:
            time.sleep(0.01)
        return self.tallies

    def _image(self) -> None:
        assert self._mix.image is not None
        name, inputs = self._mix.image
        self._submit(Call(IMAGE, {name: inputs}, time.monotonic_ns(), None))

    def _submit(self, call: Call) -> None:
        with self._lock:
            self._left += len(call.requests)
            self.tallies[call.kind].asked += len(call.requests)
        self._server.submit(call, lambda answered: self._done(call, answered))

    def _done(self, call: Call, answered: bool) -> None:
        now = time.monotonic_ns()
        with self._lock:
            self._left -= 1
            tally = self.tallies[call.kind]
            if answered:
                tally.latencies_ms.append((now - call.at_ns) / 1e6)
                tally.met += call.due_ns is None or now <= call.due_ns
        if call.kind == IMAGE and not self._over:
            self._image()
