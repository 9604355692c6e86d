"""Real traffic on this machine: the highest load that each server keeps its promises under.

Loads are tried one after another, the servers taking turns in one process, a window each. A load
is kept if 99 % of the wake words and 99 % of the sentences are answered in time.

    python bench/serve_traffic.py --seconds 20 --rates 20,40,60,80
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cpu_models
import cpu_wakewords
import minilm
import numpy as np
import sessions
import torch
from cpu_encoder import AXES
from servers import ORDERS, Fusec, Sessions, settled
from traffic import IMAGE, SENTENCE, WAKE, Mix, Server, Tally, Window, arrivals
from where import RESULTS, environment, machine_class

import fusec

KEPT = 0.99
TUNES = 8
IMAGES = "rapidocr-rec"


def sentence(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the inputs of a sentence."""
    tokens = np.arange(length, dtype=np.int64)[None] * 97 % 30000
    return tokens, np.ones((1, length), dtype=np.int64)


def models(small: bool) -> tuple[dict[str, Any], dict[str, bytes | str], Mix, dict[str, Any]]:
    """Return sources for fusec, files for the others, the mix, and options of the compilation."""
    heads, sources, contents = cpu_wakewords.heads(4 if small else cpu_wakewords.HEADS)
    first = minilm.Sentence(1, 16, 2).eval() if small else minilm.sentence_model()
    tunes = {f"tune{n}": minilm.fine_tune(first, n) for n in range(2 if small else TUNES)}
    example = tuple(map(torch.from_numpy, sentence(16)))
    files: dict[str, bytes | str] = dict(contents)
    files |= sessions.exported(tunes, dict.fromkeys(tunes, example), AXES)
    everything: dict[str, Any] = {**sources, **tunes}
    examples: dict[str, Any] = dict.fromkeys(heads, torch.zeros(1, 16, 96))
    examples |= dict.fromkeys(tunes, example)
    axes = {
        name: {axis: (symbol, 2, 512) for axis, symbol in own.items()} for name, own in AXES.items()
    }
    image = None
    known = cpu_models.KNOWN[IMAGES]
    path = None if small else cpu_models.path_of(known)
    if path is not None:
        everything[IMAGES], files[IMAGES] = path, str(path)
        shape = known.shapes["x"]
        image = IMAGES, (np.random.default_rng(0).random(shape, dtype=np.float32),)
    frames = np.random.default_rng(1).random((1, 16, 96), dtype=np.float32)
    mix = Mix(dict.fromkeys(heads, (frames,)), list(tunes), sentence, image)
    return everything, files, mix, {"examples": examples, "symbols": dict.fromkeys(tunes, axes)}


def servers(small: bool, threads: int, policies: list[str]) -> tuple[list[Server], Mix]:
    """Make all servers."""
    sources, files, mix, options = models(small)
    plan = fusec.compile(sources, threads=threads, executor="cpu", **options)
    plan.warm()
    own: list[Server] = [Fusec(plan, policy=policy) for policy in policies]
    others = [
        Sessions(files, order, workers, threads)
        for order in ORDERS
        for workers in sorted({1, threads})
    ]
    return [*own, *others], mix


def kept(tallies: Mapping[str, Tally]) -> bool:
    """Tell whether promises were kept."""
    return all(tallies[kind].attainment >= KEPT for kind in (WAKE, SENTENCE))


def show(server: str, rate: float, tallies: Mapping[str, Tally], seconds: float) -> dict[str, Any]:
    """Print a line and give it as a row."""
    row: dict[str, Any] = {"bench": "traffic", "impl": server, "rate": rate, "seconds": seconds}
    told = []
    for kind, tally in tallies.items():
        row[kind] = {
            "asked": tally.asked,
            "attainment": tally.attainment,
            "p50_ms": tally.quantile(0.5),
            "p99_ms": tally.quantile(0.99),
        }
        if kind == IMAGE:
            told.append(f"{len(tally.latencies_ms) / seconds:.1f} images/s")
        else:
            told.append(
                f"{kind} {tally.attainment:7.2%} in time, p50 {tally.quantile(0.5):.1f}, "
                f"p99 {tally.quantile(0.99):.1f} ms"
            )
    print(f"{rate:6.0f}/s  {server:<36} {'; '.join(told)}", flush=True)
    return row


def main() -> None:
    """Sweep the load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="20,40,60,80,100", help="sentences a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a window")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--policies", default="slack")
    parser.add_argument("--smoke", action="store_true", help="tiny models, two short windows")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{machine_class()}-traffic.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = [5.0] if options.smoke else [float(r) for r in options.rates.split(",")]
    seconds = 0.5 if options.smoke else options.seconds
    made, mix = servers(options.smoke, options.threads, options.policies.split(","))
    settled()
    best = {server.name: 0.0 for server in made}
    lost: set[str] = set()
    rows = []
    for number, rate in enumerate(rates):
        calls = arrivals(mix, rate, seconds, seed=number)
        for server in made:
            if server.name in lost:
                continue
            tallies = Window(server, mix).run(calls, seconds)
            rows.append({**show(server.name, rate, tallies, seconds), **environment()})
            if kept(tallies):
                best[server.name] = rate
            elif rate > 2 * best[server.name]:
                lost.add(server.name)  # more of it would tell nothing
    for server in made:
        server.close()
    for name, rate in best.items():
        print(f"{name:<36} keeps {KEPT:.0%} at {rate:.0f} sentences a second")
    if not options.smoke:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("a") as file:
            file.writelines(json.dumps(row, default=str) + "\n" for row in rows)


if __name__ == "__main__":
    main()
