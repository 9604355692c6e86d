"""What serving itself costs: a call of a tick, a stop within a batch, a decision.

tick      122 wake words at once: runtime and `plan.run` in turns; what a call costs more
stop      a model of some 2 ms asked for while a batch of some 500 ms runs, in turns with both
          alone: what it waits more, and the device time that the batch takes more
decision  mean time of the policy, from the runtime's own figures

python bench/serve_costs.py --rounds 30
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import minilm
import numpy as np
import torch
from cpu_wakewords import ALL, HEADS, heads
from torch import nn
from where import RESULTS, environment, machine_class

import fusec

BENCH = "serving"
ROWS, TOKENS, WIDTH, DEPTH, SMALL_ROWS = 16, 64, 1024, 6, 8
STOPS = 5
"""Of each batch."""


def small() -> nn.Module:
    """Make the model that others wait for."""
    layers = [m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers).eval()


def tick(rounds: int, threads: int) -> tuple[dict[str, list[float]], fusec.Runtime]:
    """Time ticks; seconds of each round."""
    plan = fusec.compile(heads(HEADS)[1], examples={"*": torch.zeros(1, 16, 96)}, threads=threads)
    given = {
        name: np.random.standard_normal((1, 16, 96)).astype(np.float32) for name in plan.members
    }
    times: dict[str, list[float]] = {"plan.run": [], "submit_many": [], "submitting": []}
    with fusec.Runtime(plan) as runtime:
        for number in range(rounds + 20):
            begin = time.perf_counter()
            plan.run(given)
            middle = time.perf_counter()
            futures = runtime.submit_many(given)
            submitted = time.perf_counter()
            for future in futures.values():
                future.result()
            end = time.perf_counter()
            if number >= 20:
                times["plan.run"].append(middle - begin)
                times["submit_many"].append(end - middle)
                times["submitting"].append(submitted - middle)
    return times, runtime


def stop(rounds: int, threads: int) -> tuple[dict[str, list[float]], fusec.Runtime]:
    """Time a small model alone and while a batch runs; seconds, and shares of the batch's time."""
    tokens = torch.zeros(1, TOKENS, dtype=torch.int64)
    examples = {"batch": (tokens, torch.ones_like(tokens)), "small": torch.zeros(1, WIDTH)}
    plan = fusec.compile(
        {"batch": minilm.sentence_model(), "small": small()}, examples=examples, threads=threads
    )
    batch = (np.random.randint(0, 30_000, (ROWS, TOKENS)), np.ones((ROWS, TOKENS), np.int64))
    x = np.random.standard_normal((SMALL_ROWS, WIDTH)).astype(np.float32)
    chance = random.Random(1)
    times: dict[str, list[float]] = {
        "small alone": [],
        "small waits more": [],
        "batch takes more": [],
    }
    with fusec.Runtime(plan) as runtime:

        def ask() -> float:
            begin = time.perf_counter()
            runtime.submit("small", x, tenant="small").result()
            return time.perf_counter() - begin

        def device_ns() -> int:
            runtime.drain()
            return runtime.stats().tenant_ns.get("batch", 0)

        for _ in range(10):
            ask()
        for _ in range(rounds):
            alone = [ask() for _ in range(STOPS)]
            start = device_ns()
            runtime.submit("batch", batch, tenant="batch").result()
            middle = device_ns()
            future = runtime.submit("batch", batch, tenant="batch")
            beside: list[float] = []
            while not future.done() and len(beside) < STOPS:
                time.sleep(0.02 + 0.04 * chance.random())
                beside.append(ask())
            future.result()
            stopped = device_ns() - middle
            times["small alone"] += alone
            times["small waits more"] += [t - statistics.median(alone) for t in beside]
            times["batch takes more"].append(stopped / (middle - start) - 1)
    return times, runtime


def rows_of(case: str, impl: str, values: list[float], unit: str) -> dict[str, Any]:
    """Make a row of results."""
    ordered = sorted(values)
    picked = {f"p{p}": ordered[len(ordered) * p // 100] for p in (20, 50, 80, 99)}
    row: dict[str, Any] = {"bench": BENCH, "case": case, "impl": impl, "metric": "time"}
    return {**row, "unit": unit, **picked, "n": len(ordered)}


def main() -> None:
    """Measure, print a table, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    name = f"{machine_class()}-serving.jsonl"
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    ticks, runtime = tick(5 * options.rounds, options.threads)
    for impl, values in ticks.items():
        rows.append(rows_of(ALL, impl, [1e6 * t / HEADS for t in values], "us per call"))
    more = [b - a for a, b in zip(ticks["plan.run"], ticks["submit_many"], strict=True)]
    rows.append(
        rows_of(ALL, "runtime over plan.run", [1e6 * t / HEADS for t in more], "us per call")
    )
    decisions = [runtime.stats().decision_ns / 1e3]
    times, runtime = stop(options.rounds, options.threads)
    for impl, values in times.items():
        unit, scale = ("%", 100.0) if impl.startswith("batch") else ("ms", 1e3)
        rows.append(rows_of("stop within a batch", impl, [scale * v for v in values], unit))
    decisions.append(runtime.stats().decision_ns / 1e3)
    rows.append(rows_of("decision", "slack, mean", decisions, "us"))
    where = {**environment(), "threads": options.threads}
    print("| case | what | p20 | p50 | p80 | p99 | n |\n|---|---|---|---|---|---|---|")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a") as file:
        for row in rows:
            shown = " | ".join(f"{row[p]:.3g}" for p in ("p20", "p50", "p80", "p99"))
            print(f"| {row['case']} | {row['impl']}, {row['unit']} | {shown} | {row['n']} |")
            file.write(json.dumps({**row, **where}) + "\n")


if __name__ == "__main__":
    main()
