"""Preemption: a small model is asked for while a long batch runs. What does it wait, what is lost?

A model of some 2 ms is asked for alone, and at random times within a batch of some 500 ms that has
no deadline: what it takes more is its wait. The batch's loss is the device time that it takes more
than undisturbed; what it yielded meanwhile is not in it. In turns, so that what else the machine
does hits all alike.

idle clients   the asking thread is the only one of Python that runs besides the runtime's own
busy clients   two more threads run Python without end: each has the interpreter for 5 ms at a time

    python bench/serve_preempt.py --seconds 40
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Iterator

import minilm
import numpy as np
import torch
from figures import Figure, figure, keep, parser
from servers import settled
from torch import nn

import fusec

BENCH = "serve_preempt"
IDLE, BUSY = "idle clients", "two busy Python threads"
BATCH_MS, TOKENS, WIDTH, DEPTH, SMALL_ROWS = 500.0, 64, 1024, 6, 8
STOPS = 5
"""Of each batch."""
BUSY_THREADS = 2
TAKES, ALONE, LOSES = "the batch takes", "small alone", "the batch loses"
MORE = "small waits more"
STARTS, RUNS = "of it: until it starts", "of it: runs longer, caches are cold"
"""The rest is what the answer takes to come."""


def small(width: int) -> nn.Module:
    """Make the model that others wait for."""
    layers = [m for _ in range(DEPTH) for m in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers).eval()


class Case:
    """A plan, its inputs, and a runtime."""

    def __init__(self, threads: int, smoke: bool) -> None:
        """Compile; make the batch as long as it should be."""
        tokens = torch.zeros(1, TOKENS, dtype=torch.int64)
        width = 64 if smoke else WIDTH
        long = minilm.Sentence(1, 16, 2).eval() if smoke else minilm.sentence_model()
        plan = fusec.compile(
            {"batch": long, "small": small(width)},
            examples={"batch": (tokens, torch.ones_like(tokens)), "small": torch.zeros(1, width)},
            threads=threads,
        )
        self.x = np.random.default_rng(0).standard_normal((SMALL_ROWS, width)).astype(np.float32)
        begin = time.perf_counter()
        for _ in range(3):
            plan.run({"batch": self.batch(4)})
        row_ms = (time.perf_counter() - begin) / 3 / 4 * 1e3
        self.given = self.batch(8 if smoke else max(8, round(BATCH_MS / row_ms)))
        self.runtime = fusec.Runtime(plan)
        settled()
        self.recording = self.runtime.record()

    def batch(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Make the inputs of a batch."""
        draw = np.random.default_rng(1)
        return draw.integers(0, 30_000, (rows, TOKENS)), np.ones((rows, TOKENS), np.int64)

    def ask(self) -> tuple[float, float, float]:
        """Ask for the small model; ms until it starts, until the lane is done, and the answer."""
        self.recording.take()
        begin = time.monotonic_ns()
        self.runtime.submit("small", self.x, tenant="small").result()
        end = time.monotonic_ns()
        while not (own := [s for s in self.recording.take() if s.model == "small"]):
            time.sleep(1e-4)  # the driver hears of it after the client
        (stay,) = own
        assert stay.end_ns is not None
        parts = stay.start_ns - begin, stay.end_ns - stay.start_ns, end - begin
        return parts[0] / 1e6, parts[1] / 1e6, parts[2] / 1e6

    def batch_s(self) -> float:
        """Give the device time of batches so far."""
        self.runtime.drain()
        return self.runtime.stats().tenant_ns.get("batch", 0) / 1e9


@contextlib.contextmanager
def busy_threads(count: int) -> Iterator[None]:
    """Have threads run Python while the block runs."""
    over = threading.Event()

    def work() -> None:
        n = 0
        while not over.is_set():
            for i in range(2_000):
                n ^= i

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measure(case: Case, seconds: float) -> dict[str, list[float]]:
    """Take turns for so long; ms and percent."""
    chance = random.Random(1)
    names = (TAKES, ALONE, MORE, STARTS, RUNS, LOSES)
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(10):
        case.ask()
    case.runtime.submit("batch", case.given, tenant="batch").result()
    end = time.monotonic() + seconds
    while time.monotonic() < end or not took[LOSES]:
        alone = [case.ask() for _ in range(STOPS)]
        start = case.batch_s()
        case.runtime.submit("batch", case.given, tenant="batch").result()
        middle = case.batch_s()
        future = case.runtime.submit("batch", case.given, tenant="batch")
        beside: list[tuple[float, float, float]] = []
        while not future.done() and len(beside) < STOPS:
            time.sleep((middle - start) / STOPS * chance.uniform(0.3, 0.9))
            if not future.done():
                beside.append(case.ask())
        future.result()
        lost = (case.batch_s() - middle) / (middle - start) - 1
        starts, runs, usual = (statistics.median(part) for part in zip(*alone, strict=True))
        took[TAKES].append(1e3 * (middle - start))
        took[ALONE] += [ms for *_, ms in alone]
        took[MORE] += [ms - usual for *_, ms in beside]
        took[STARTS] += [ms - starts for ms, *_ in beside]
        took[RUNS] += [ms - runs for _, ms, _ in beside]
        took[LOSES].append(100 * lost)
    return took


def figures(case: str, took: dict[str, list[float]], threads: int) -> list[Figure]:
    """Give rows."""
    asked = {} if case == BUSY else {MORE: "p99 <= 1", LOSES: "p50 <= 1"}
    return [
        figure(
            BENCH,
            f"a stop within a batch, {case}",
            what,
            values,
            "%" if what == LOSES else "ms",
            threads=threads,
            asked=asked.get(what, ""),
        )
        for what, values in took.items()
        if values
    ]


def main() -> None:
    """Measure, print a table, append rows."""
    options = parser(__doc__, seconds=40.0, cases=(IDLE, BUSY)).parse_args()
    torch.set_num_threads(1)
    made = Case(options.threads, options.smoke)
    for case in options.case or (IDLE, BUSY):
        seconds = 0.2 if options.smoke else options.seconds
        with busy_threads(BUSY_THREADS if case == BUSY else 0):
            took = measure(made, seconds)
        keep(figures(case, took, options.threads), options.out)
    made.runtime.close()


if __name__ == "__main__":
    main()
