"""Model k answers k: many clients, random cancels and deadlines, models that come and go.

Every model answers its own number and the number that it is asked with, exactly: any mix-up of
models, of rows, of old and new weights shows. Some models are long enough to be stopped midway.
Besides answers, what is left over when all have gone counts: futures without an end, counters that
are not back at zero, memory that is not given back.

    python bench/serve_clients.py --seconds 60
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from figures import Figure, figure, keep, parser
from torch import nn

import fusec

BENCH = "serve_clients"
CASE = "model k answers k"
SHAPES = ((16, 1), (48, 2), (512, 6))
"""Width and layers of each template; the last takes long enough to be stopped."""
INPUTS, EACH = 4, 8
DEADLINES_MS = (None, None, 0.2, 2.0, 20.0, 200.0, 5_000.0)
PATIENCE_S = 60.0
GENERATION = 4_096
"""A model's number grows by so much each time that it is replaced; float32 has room for it."""


def numbered(k: int, width: int, layers: int) -> nn.Module:
    """Make a model that answers k, and the first of its inputs, which is a whole number."""
    draw = torch.Generator().manual_seed(k)
    made: list[nn.Module] = [nn.Linear(INPUTS, width), nn.ReLU()]
    for _ in range(layers):
        made += [nn.Linear(width, width), nn.ReLU()]
    made.append(nn.Linear(width, 2))
    with torch.no_grad():
        for layer in (m for m in made if isinstance(m, nn.Linear)):
            layer.weight.normal_(0, 0.02, generator=draw)
            layer.weight[:2], layer.bias[:2] = 0.0, 0.0
            layer.weight[1, 0 if layer is made[0] else 1] = 1.0
        last = made[-1]
        assert isinstance(last, nn.Linear)
        last.bias[0] = k
    return nn.Sequential(*made).eval()


def shape_of(name: str) -> tuple[int, int]:
    """Give the width and layers of a model."""
    return SHAPES[int(name.split("_")[1]) % len(SHAPES)]


@dataclass(slots=True)
class Numbers:
    """What each model answers: from this number, to that while it is being replaced."""

    least: dict[str, int]
    most: dict[str, int]
    come_and_go: frozenset[str]


@dataclass(slots=True)
class Found:
    """What came of it; shared by all clients, each adds under the lock."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    changes: int = 0
    left: dict[str, int] = field(default_factory=dict)
    """What is not back at zero when all have gone."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def make_plan(threads: int, each: int = EACH) -> tuple[fusec.Plan, Numbers]:
    """Compile the models that are there at the start."""
    names = [f"m_{k}" for k in range(each * len(SHAPES))]
    models = {name: numbered(k, *shape_of(name)) for k, name in enumerate(names)}
    plan = fusec.compile(
        models, examples={"*": torch.zeros(1, INPUTS)}, threads=threads, executor="cpu"
    )
    own = {name: k for k, name in enumerate(names)}
    guests = {f"guest_{k}": len(names) + k for k in range(len(SHAPES))}
    return plan, Numbers({**own, **guests}, {**own, **guests}, frozenset(guests))


class Client:
    """Asks, cancels at random, and checks what it gets."""

    def __init__(self, runtime: fusec.Runtime, numbers: Numbers, found: Found, seed: int) -> None:
        """Make one; seeds differ."""
        self._runtime, self._numbers, self._found = runtime, numbers, found
        self._chance = random.Random(seed)
        self._tenant = f"tenant{seed % 5}"

    def run(self, until: float) -> None:
        """Ask until then, and wait for the last answers."""
        while time.monotonic() < until:
            self._turn()

    def _turn(self) -> None:
        chance, numbers = self._chance, self._numbers
        names = chance.sample(list(numbers.least), chance.choice([1, 1, 1, 2, 5]))
        given = {name: self._rows() for name in names}
        least = {name: numbers.least[name] for name in names}
        options: dict[str, Any] = {
            "tenant": self._tenant,
            "deadline_ms": chance.choice(DEADLINES_MS),
            "priority": chance.choice([0, 0, 1]),
        }
        if len(names) == 1:
            (name,) = names
            futures = {name: self._runtime.submit(name, given[name], **options)}
        else:
            futures = self._runtime.submit_many(given, **options)
        most = {name: numbers.most[name] for name in names}
        cancelled = {name for name in names if chance.random() < 0.15}
        if cancelled:
            time.sleep(chance.choice([0.0, 0.0, 0.0005, 0.003]))
            cancelled = {name for name in cancelled if futures[name].cancel()}
        for name, future in futures.items():
            told = self._end(name, future, given[name], (least[name], most[name]))
            if told == "cancelled" and name not in cancelled:
                told = f"{name}: cancelled by nobody"
            self._tell(told)

    def _rows(self) -> np.ndarray:
        rows = self._chance.choice([1, 1, 1, 2, 5])
        given = np.random.default_rng(self._chance.getrandbits(32)).random((rows, INPUTS))
        given[:, 0] = [self._chance.randrange(1, 1_000) for _ in range(rows)]
        return given.astype(np.float32)

    def _end(
        self, name: str, future: Future[Any], given: np.ndarray, known: tuple[int, int]
    ) -> str:
        """Wait for an answer; say how it ended, or what is wrong with it."""
        try:
            (answer,) = future.result(PATIENCE_S).values()
        except CancelledError:
            return "cancelled"
        except fusec.Rejected as e:
            return e.result
        except fusec.ConfigError as e:
            gone = name in self._numbers.come_and_go and name in str(e)
            return "no such model" if gone else f"{name}: {e}"
        except TimeoutError:
            return f"{name}: no end after {PATIENCE_S:.0f} s"
        except fusec.FusecError as e:
            return f"{name}: {type(e).__name__}: {e}"
        return _judged(name, answer, given, known)

    def _tell(self, told: str) -> None:
        with self._found.lock:
            if ":" in told:
                self._found.wrong.append(told)
            else:
                self._found.ends[told] += 1


def _judged(name: str, answer: np.ndarray, given: np.ndarray, known: tuple[int, int]) -> str:
    if answer.shape != (len(given), 2):
        return f"{name}: answers {answer.shape} to {len(given)} rows"
    number = float(answer[0, 0])
    first, last = known
    right = first <= number <= last and (number - first) % GENERATION == 0
    if not right or (answer[:, 0] != number).any():
        return f"{name}: is {first} to {last}, answers {answer[:, 0].tolist()}"
    if (answer[:, 1] != given[:, 0]).any():
        return f"{name}: asked with {given[:, 0].tolist()}, echoes {answer[:, 1].tolist()}"
    return "answered"


def change(plan: fusec.Plan, numbers: Numbers, found: Found, until: float, seed: int) -> None:
    """Replace, add and remove models until then."""
    chance = random.Random(seed)
    there: set[str] = set()
    while time.monotonic() < until:
        name = chance.choice(list(numbers.least))
        if name in numbers.come_and_go:
            if name in there:
                plan.remove(name)
            else:
                model = numbered(numbers.least[name], *shape_of(name))
                plan.add(name, model, example=torch.zeros(1, INPUTS))
            there ^= {name}
        elif numbers.most[name] < (1 << 23):
            number = numbers.most[name] + GENERATION
            weights = numbered(number, *shape_of(name)).state_dict()
            numbers.most[name] = number
            plan.replace(name, weights, like=name)
            numbers.least[name] = number
        found.changes += 1
        time.sleep(chance.choice([0.0, 0.002, 0.02]))


def left_over(runtime: fusec.Runtime, budget: int) -> dict[str, int]:
    """Give what should be zero after a drain."""
    runtime.drain(PATIENCE_S)
    stats = runtime.stats()
    return {
        "in flight": stats.in_flight,
        "queued": stats.queued,
        "lanes that run": stats.running_lanes,
        "calls without an outcome": stats.submitted - sum(stats.outcomes.values()),
        "bytes that are held": budget - (stats.free_bytes or 0),
    }


def run(
    clients: int,
    seconds: float,
    threads: int,
    *,
    lanes: int = 1,
    seed: int = 0,
    each: int = EACH,
) -> Found:
    """Let clients ask for so long models of which there are `each` of every shape."""
    plan, numbers = make_plan(threads, each)
    found, budget = Found(), 1 << 26
    until = time.monotonic() + seconds
    failures: list[BaseException] = []

    def guarded(what: Any, *given: Any) -> None:
        try:
            what(*given)
        except BaseException as e:  # noqa: BLE001  (a thread's end is told below)
            failures.append(e)

    with fusec.Runtime(
        plan, lanes=lanes, queue_limit=500, memory_budget=budget, preempt_ms=0.5, measure_s=0.1
    ) as runtime:
        workers: Sequence[threading.Thread] = [
            threading.Thread(target=guarded, args=(change, plan, numbers, found, until, seed)),
            *(
                threading.Thread(
                    target=guarded, args=(Client(runtime, numbers, found, seed + i).run, until)
                )
                for i in range(1, clients + 1)
            ),
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found.left = left_over(runtime, budget)
    found.wrong += [f"a client ends with: {type(e).__name__}: {e}" for e in failures]
    return found


def figures(found: Found, clients: int, seconds: float, threads: int) -> list[Figure]:
    """Give rows."""
    case = f"{CASE}, {clients} clients"
    values: Mapping[str, tuple[float, str]] = {
        "wrong answers": (len(found.wrong), "0"),
        "counters not back at 0": (sum(n != 0 for n in found.left.values()), "0"),
        **{end: (n, "") for end, n in found.ends.items()},
        "models replaced, added, removed": (found.changes, ""),
        "ends a second": (sum(found.ends.values()) / seconds, ""),
    }
    note = "; ".join(found.wrong[:3]) + "; ".join(f"{k} {n}" for k, n in found.left.items() if n)
    return [
        figure(BENCH, case, what, [value], "", threads=threads, asked=asked, note=note)
        for what, (value, asked) in values.items()
    ]


def main() -> None:
    """Ask, print a table, append rows."""
    options_of = parser(__doc__, seconds=60.0, cases=(CASE,))
    options_of.add_argument("--clients", type=int, default=64)
    options_of.add_argument("--lanes", type=int, default=1)
    options_of.add_argument("--seed", type=int, default=0)
    options = options_of.parse_args()
    torch.set_num_threads(1)
    seconds = 0.5 if options.smoke else options.seconds
    clients = 4 if options.smoke else options.clients
    found = run(clients, seconds, options.threads, lanes=options.lanes, seed=options.seed)
    keep(figures(found, clients, seconds, options.threads), options.out)
    for told in found.wrong[:20]:
        print(told)
    print({what: n for what, n in found.left.items() if n})


if __name__ == "__main__":
    main()
