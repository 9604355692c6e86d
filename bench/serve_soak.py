"""A soak: minutes at 80 % load with deadlines. Does it get slower, does memory grow?

Ticks of 122 wake words and sentences for eight small encoders, 5 to 128 tokens, as in `traffic`.
What sentences the server can take at most beside the ticks is measured first, by clients that
wait for their answers; then they come at a share of that, whoever waits. Each minute has the same
arrivals, so that minutes compare; the first brings everything into memory.

    python bench/serve_soak.py --minutes 10
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import Future
from typing import Any

import cpu_wakewords
import minilm
import numpy as np
import torch
from child import resident_bytes
from cpu_encoder import AXES
from figures import Figure, figure, keep, parser
from servers import Fusec, settled
from traffic import LENGTHS, SENTENCE, WAKE, Mix, Tally, Window, arrivals

import fusec

BENCH = "serve_soak"
CASE = "soak"
LOAD = 0.8
TUNES, CLIENTS = 8, 8
PROBE_S = 5.0
_SAMPLE = 16
"""Of so many latencies one is kept."""


def sentence(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the inputs of a sentence."""
    tokens = np.arange(length, dtype=np.int64)[None] * 97 % 30_000
    return tokens, np.ones((1, length), dtype=np.int64)


def make(threads: int, smoke: bool) -> tuple[fusec.Plan, Mix]:
    """Compile the models."""
    heads, sources, _ = cpu_wakewords.heads(4 if smoke else cpu_wakewords.HEADS)
    first = minilm.Sentence(2, 64 if smoke else 192, 4).eval()
    tunes = {f"tune{n}": minilm.fine_tune(first, n) for n in range(TUNES)}
    example = tuple(map(torch.from_numpy, sentence(16)))
    examples: dict[str, Any] = dict.fromkeys(heads, torch.zeros(1, 16, 96))
    examples |= dict.fromkeys(tunes, example)
    axes = {
        name: {axis: (symbol, 2, 512) for axis, symbol in own.items()} for name, own in AXES.items()
    }
    plan = fusec.compile(
        {**sources, **tunes},
        examples=examples,
        symbols=dict.fromkeys(tunes, axes),
        threads=threads,
        executor="cpu",
    )
    frames = np.random.default_rng(1).random((1, 16, 96), dtype=np.float32)
    return plan, Mix(dict.fromkeys(heads, (frames,)), list(tunes), sentence, None)


def most(server: Fusec, mix: Mix, seconds: float) -> float:
    """Give how many sentences a second are answered to clients that wait, ticks beside them."""
    runtime, until = server.runtime, time.monotonic() + seconds
    answered = [0] * CLIENTS

    def client(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            length = LENGTHS[turn % len(LENGTHS)]
            name = mix.sentences[turn % len(mix.sentences)]
            future: Future[Any] = runtime.submit(name, mix.sentence(length), tenant="probe")
            future.result()
            answered[number] += 1
            turn += 5

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    Window(server, mix).run(arrivals(mix, 0.0, seconds, seed=0), seconds)
    for thread in threads:
        thread.join()
    return sum(answered) / seconds


def figures(
    minutes: list[tuple[dict[str, Tally], int]], rate: float, seconds: float, threads: int
) -> list[Figure]:
    """Give rows; a minute's throughput is of calls that were answered in time."""
    case = f"{CASE}, {len(minutes)} minutes at {LOAD:.0%} load"
    kept = [sum(tally.met for tally in tallies.values()) / seconds for tallies, _ in minutes]
    memory = [bytes_ / 1e6 for _, bytes_ in minutes]
    second = min(1, len(minutes) - 1)
    rows = [
        figure(BENCH, case, "sentences a second", [rate], "1/s", threads=threads),
        figure(BENCH, case, "answered in time, by minute", kept, "1/s", threads=threads),
        figure(
            BENCH,
            case,
            "throughput of the last minute in that of the second",
            [100 * kept[-1] / kept[second]],
            "%",
            threads=threads,
            asked=">= 97",
        ),
        figure(
            BENCH,
            case,
            "memory at the end of the last minute above that of the second",
            [memory[-1] - memory[second]],
            "MB",
            threads=threads,
            asked="flat",
            note=f"by minute: {', '.join(f'{mb:.0f}' for mb in memory)} MB",
        ),
    ]
    for kind in (WAKE, SENTENCE):
        latencies = [ms for tallies, _ in minutes[1:] for ms in tallies[kind].latencies_ms]
        shares = [100 * tallies[kind].attainment for tallies, _ in minutes]
        if latencies:
            rows.append(figure(BENCH, case, f"latency, {kind}", latencies, "ms", threads=threads))
        rows.append(figure(BENCH, case, f"in time by minute, {kind}", shares, "%", threads=threads))
    return rows


def main() -> None:
    """Soak, print a table, append rows."""
    options_of = parser(__doc__, seconds=60.0, cases=(CASE,))
    options_of.add_argument("--minutes", type=int, default=10, help="each of --seconds")
    options = options_of.parse_args()
    torch.set_num_threads(1)
    seconds = 0.5 if options.smoke else options.seconds
    count = 2 if options.smoke or options.quick else options.minutes
    plan, mix = make(options.threads, options.smoke)
    server = Fusec(plan)
    settled()
    probe = 0.3 if options.smoke else PROBE_S
    rate = LOAD * statistics.median(most(server, mix, probe) for _ in range(3))
    calls = arrivals(mix, rate, seconds, seed=1)
    minutes = []
    for number in range(count):
        tallies = dict(Window(server, mix).run(calls, seconds))
        for tally in tallies.values():
            tally.latencies_ms = tally.latencies_ms[::_SAMPLE]  # else what grows is the bench
        minutes.append((tallies, resident_bytes()))
        told = ", ".join(f"{k} {t.attainment:.2%}" for k, t in tallies.items() if t.asked)
        print(f"minute {number + 1}: {told}; {minutes[-1][1] / 1e6:.0f} MB", flush=True)
    server.close()
    keep(figures(minutes, rate, seconds, options.threads), options.out)


if __name__ == "__main__":
    main()
