"""What one decision costs, by policy and by how many requests wait.

A queue of that many is kept full: at each decision one request comes and one block ends. Policies
are pure, so the same decisions are made several times and the least time of each counts: the p99 is
of dear decisions, not of what else the machine does. Times are of the thread's own clock.

    python bench/sim_decisions.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from where import RESULTS, environment

from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.decider import Decider
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.records import Launch, Pack, Request
from fusec.runtime.sched.view import Change, Lane, Stopped

POLICIES = ("fifo", "edf", "split", "split_paper", "slack", "fair")
QUEUES = (10, 100, 1_000, 10_000)
TEMPLATES, TENANTS, US = 20, 20, 1_000


def profile() -> Profile:
    """Make templates of three to eight blocks that batch well."""
    rng = random.Random(3)
    costs = {}
    for i in range(TEMPLATES):
        row = tuple(rng.randrange(50, 500) * US for _ in range(rng.randrange(3, 9)))
        costs[f"t{i}"] = TemplateCost(
            blocks_ns={1: row, 8: tuple(2 * ns for ns in row)}, max_batch=8, cut_ns=5 * US
        )
    return Profile(templates=costs, models={name: name for name in costs})


def requests(deadlines: bool) -> Iterator[Request]:
    """Give requests without end, all at different times."""
    rng = random.Random(5)
    for number in range(10**9):
        template = f"t{rng.randrange(TEMPLATES)}"
        yield Request(
            id=number,
            model=template,
            template=template,
            tenant=f"tenant{rng.randrange(TENANTS)}",
            arrival_ns=number,
            deadline_ns=number + rng.randrange(10**13, 10**14) if deadlines else None,
        )


def measure(policy: str, waiting: int, rounds: int, deadlines: bool) -> list[int]:
    """Give the times of decisions, each with one arrival and the end of one launch."""
    costs = profile()
    decider = Decider(find_policy(policy), costs)
    source = requests(deadlines)
    lane, times, launch = Lane(0), [], None
    decider.decide(0, Change(tuple(next(source) for _ in range(waiting))), (_busy(),), None)
    for now in range(1, rounds + 1):
        change = _next(launch, next(source), costs)
        begin = time.thread_time_ns()
        decision = decider.decide(now, change, (lane,), None)
        times.append(time.thread_time_ns() - begin)
        launch = next((a for a in decision.actions if isinstance(a, Launch)), None)
    return times


def _busy() -> Lane:
    return Lane(0, Pack("t0", (10**12,)), 1, 1)


def _next(launch: Launch | None, arrived: Request, costs: Profile) -> Change:
    if launch is None:
        return Change((arrived,))
    pack = launch.pack
    if launch.until_block == costs[pack.template].n_blocks:
        return Change((arrived,), finished=pack.requests)
    stopped = Stopped(Pack(pack.template, pack.requests, launch.until_block))
    return Change((arrived,), (stopped,))


def main() -> None:
    """Measure, print a table, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5, help="of the same decisions")
    parser.add_argument("--policy", action="append", help="all if absent")
    parser.add_argument("--out", type=Path, default=RESULTS / "sim_decisions.jsonl")
    options = parser.parse_args()
    where = environment()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print("Median and p99 of a decision in us.\n")
    print("| policy | deadlines |" + "".join(f" {n:,} waiting |" for n in QUEUES))
    print("|---|---|" + "---|" * len(QUEUES))
    for policy in options.policy or POLICIES:
        for deadlines in (False, True):
            cells = []
            for waiting in QUEUES:
                rounds = options.rounds if policy != "split_paper" else options.rounds // 10
                runs = [
                    measure(policy, waiting, max(20, rounds), deadlines)
                    for _ in range(options.repeats)
                ]
                times = sorted(map(min, zip(*runs, strict=True)))
                p99 = times[len(times) * 99 // 100]
                cells.append(f" {statistics.median(times) / 1e3:.0f}, {p99 / 1e3:.0f} |")
                row = {
                    "bench": "sim_decisions",
                    "case": f"{waiting} waiting{', deadlines' * deadlines}",
                    "impl": policy,
                    "metric": "decision",
                    "unit": "us",
                    "p20": times[len(times) // 5] / 1e3,
                    "p50": statistics.median(times) / 1e3,
                    "p80": times[len(times) * 4 // 5] / 1e3,
                    "p99": p99 / 1e3,
                    "n": len(times),
                    "threads": 1,
                }
                with options.out.open("a") as file:
                    file.write(json.dumps({**row, **where}) + "\n")
            print(f"| {policy} | {'yes' if deadlines else 'no'} |{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
