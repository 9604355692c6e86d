"""Times implementations of one case side by side and writes one JSON row per result.

A bench is a module with ``BENCH`` (its name), ``cases(smoke)`` and ``setup(case, threads)``; its
last lines call `main` with itself. All implementations of a case run in one process and in turn, so
that noise from the machine falls on all alike. A turn is a few calls in a row of which the first is
not timed: it brings the caches back that the others took. Nothing here asserts: a peer that cannot
do a case gets a row that says why.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import numpy as np
import torch
from where import RESULTS, environment, machine_class

from fusec.runtime.roofline import measure_machine

SEED = 20

Outputs = Mapping[str, np.ndarray]
"""Answers by member, the first output of each."""


class Took(int):
    """Nanoseconds that a run says it took, where the call around it takes longer."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to do a case: `run` does it once and is what is timed, `answers` reads its results.

    `build` is called once before anything is timed.
    """

    build: Callable[[], Callable[[], object]]
    answers: Callable[[object], Outputs] | None
    """None for a limit, which answers nothing."""
    slow: bool = False
    """Takes a minute to build: left out of quick runs."""
    note: Callable[[], str] = str
    """What a reader of the figure must know, once it is built."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something else to measure once: memory, say."""

    impl: str
    metric: str
    unit: str
    take: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All implementations of one case and the float64 answers they are compared with."""

    impls: Mapping[str, Impl]
    truth: Outputs
    flops: float | None = None
    """Of one run, as the models define it."""
    moved_bytes: float | None = None
    """That one run has to read at least: weights and inputs."""
    axis: Mapping[str, float] = field(default_factory=dict)
    """Where the case stands in a sweep: {"members": 4}."""
    figures: Sequence[Figure] = ()
    burst: int = 4
    """Calls per turn; of more than one, the first is not timed."""
    warmup: int = 3
    least: int = 3
    """Turns at least, whatever the seconds say."""
    around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    """Holds while the runs are timed."""


class Bench(Protocol):
    """What `main` needs of a bench module."""

    BENCH: str

    def cases(self, smoke: bool) -> Iterable[str]:
        """Name the cases; `smoke` asks for one that takes a second."""

    def setup(self, case: str, threads: int) -> Setup:
        """Make the models, inputs and implementations of a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result. Times are microseconds for the whole case, all members."""

    bench: str
    case: str
    impl: str
    metric: str
    unit: str
    p20: float | None
    p50: float | None
    p80: float | None
    n: int
    difference: float | None = None
    """Largest absolute difference from float64 over all members."""
    note: str = ""
    threads: int
    seed: int = SEED
    flops: float | None = None
    moved_bytes: float | None = None
    axis: Mapping[str, float] = field(default_factory=dict)


def measure(
    runs: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    warmup: int = 3,
    burst: int = 1,
    least: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[int]]:
    """Call every implementation in turn until `seconds` have passed; return durations in ns.

    The order turns by one each round, so that nobody always follows the same neighbour. Every
    implementation gets the same number of calls.

    Args:
        runs: what to call; one that returns `Took` is believed.
        seconds: for all of them together; a round that has begun is finished.
        warmup: calls of each before anything is timed.
        burst: calls in a row; of more than one, the first is not timed.
        least: rounds at least.
        clock: for tests.
    """
    names = list(runs)
    for _ in range(warmup):
        for name in names:
            runs[name]()
    samples: dict[str, list[int]] = {name: [] for name in names}
    end = clock() + int(seconds * 1e9)
    turn = 0
    while names and (clock() < end or turn < least):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            run, taken = runs[name], samples[name]
            if burst > 1:
                run()
            for _ in range(max(1, burst - 1)):
                begin = clock()
                result = run()
                taken.append(result if isinstance(result, Took) else clock() - begin)
        turn += 1
    return samples


def quantiles(samples: list[int]) -> tuple[float, float, float]:
    """Return p20, p50 and p80 in microseconds."""
    fifths = statistics.quantiles(
        [*samples, *samples[:1]][: max(2, len(samples))], n=5, method="inclusive"
    )
    return fifths[0] / 1e3, statistics.median(samples) / 1e3, fifths[3] / 1e3


def largest_difference(answers: Outputs, truth: Outputs) -> float:
    """Return the largest absolute difference over all members; NaN where a member is missing."""
    if set(answers) != set(truth):
        return float("nan")
    return max(float(np.abs(answers[k].astype(np.float64) - truth[k]).max()) for k in truth)


def run_case(bench: str, case: str, setup: Setup, *, seconds: float, threads: int) -> list[Row]:
    """Build, check and time all implementations of one case."""
    notes: dict[str, str] = {}
    runs: dict[str, Callable[[], object]] = {}
    differences: dict[str, float] = {}
    builds: dict[str, float] = {}
    for name, impl in setup.impls.items():
        begin = time.perf_counter_ns()
        try:
            run = impl.build()
            result = run()
            took = (time.perf_counter_ns() - begin) / 1e3
            if impl.answers is not None:
                differences[name] = largest_difference(impl.answers(result), setup.truth)
            notes[name] = impl.note()
        except Exception as error:  # noqa: BLE001 - any fault of a peer is a row, not an end
            notes[name] = _reason(error)
        else:
            runs[name], builds[name] = run, took
    with setup.around():
        samples = measure(
            runs, seconds=seconds, warmup=setup.warmup, burst=setup.burst, least=setup.least
        )
    rows = []
    for name in setup.impls:
        times = quantiles(samples[name]) if name in runs else (None, None, None)
        for metric, (p20, p50, p80), n in (
            ("run", times, len(samples.get(name, ()))),
            ("build", (builds.get(name),) * 3, int(name in builds)),
        ):
            row = Row(
                bench=bench,
                case=case,
                impl=name,
                metric=metric,
                unit="us",
                p20=p20,
                p50=p50,
                p80=p80,
                n=n,
                difference=differences.get(name),
                note=notes.get(name, ""),
                threads=threads,
                flops=setup.flops,
                moved_bytes=setup.moved_bytes,
                axis=setup.axis,
            )
            rows.append(row)
    rows += [_figure(bench, case, figure, setup, threads) for figure in setup.figures]
    return rows


def _figure(bench: str, case: str, figure: Figure, setup: Setup, threads: int) -> Row:
    value, note = None, ""
    try:
        value = figure.take()
    except Exception as error:  # noqa: BLE001 - as for a peer
        note = _reason(error)
    return Row(
        bench=bench,
        case=case,
        impl=figure.impl,
        metric=figure.metric,
        unit=figure.unit,
        p20=value,
        p50=value,
        p80=value,
        n=int(value is not None),
        note=note,
        threads=threads,
        axis=setup.axis,
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def limits(threads: int) -> list[Row]:
    """Measure what the machine can do, for the rooflines of the report."""
    machine = measure_machine(threads, repeats=3)
    empty = Setup(impls={}, truth={})
    figures = (
        Figure("machine", "read", "GB/s", lambda: machine.read_bytes_per_ns),
        Figure("machine", "arithmetic", "GFLOP/s", lambda: machine.flops_per_ns),
    )
    return [_figure("machine", "limits", figure, empty, threads) for figure in figures]


def main(module: ModuleType | Bench, arguments: list[str] | None = None) -> None:
    """Run the cases of a bench module and append its rows to a file."""
    bench = cast(Bench, module)
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("--case", action="append", help="only this case; may be repeated")
    parser.add_argument("--threads", type=int, action="append", help="1 and all cores by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="per case, all peers together")
    parser.add_argument("--quick", action="store_true", help="without peers that compile for long")
    parser.add_argument("--smoke", action="store_true", help="one tiny case, for a second")
    parser.add_argument("--list", action="store_true", help="name the cases and do nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{machine_class()}.jsonl")
    options = parser.parse_args(arguments)
    known = list(bench.cases(options.smoke))
    if options.list:
        print("\n".join(known))
        return
    wanted = options.case or known
    if not set(wanted) <= set(known):
        parser.error(f"no case {sorted(set(wanted) - set(known))}; there are {known}")
    both = [1] if options.smoke else sorted({1, os.cpu_count() or 1})
    counts = options.threads or both
    if len(counts) > 1:
        # Some peers fix their thread pool for the life of the process.
        rest = ["--seconds", str(options.seconds), "--out", str(options.out)]
        rest += ["--quick"] * options.quick
        for name in wanted:
            rest += ["--case", name]
        for threads in counts:
            call = [sys.executable, str(Path(sys.argv[0])), "--threads", str(threads), *rest]
            subprocess.run(call, check=True)
        return
    # A peer's warnings about its own speed are what the rows are for.
    warnings.simplefilter("ignore")
    where = environment()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(counts[0])

    def keep(rows: Iterable[Row]) -> None:
        with options.out.open("a") as file:
            file.writelines(json.dumps({**asdict(row), **where}) + "\n" for row in rows)

    if not options.smoke:
        keep(limits(counts[0]))
    for case in wanted:
        torch.manual_seed(SEED)
        seconds = 0.2 if options.smoke else options.seconds
        try:
            setup = bench.setup(case, counts[0])
        except ImportError as error:
            print(f"{case}: left out: {_reason(error)}", file=sys.stderr)
            continue
        if options.quick or options.smoke:
            setup = _quick(setup)
        rows = run_case(bench.BENCH, case, setup, seconds=seconds, threads=counts[0])
        keep(rows)
        for row in rows:
            _show(row)


def _quick(setup: Setup) -> Setup:
    return replace(setup, impls={k: v for k, v in setup.impls.items() if not v.slow})


def _show(row: Row) -> None:
    """Print one row for whoever watches; the report is made from the file."""
    if row.metric == "build":
        return
    name = f"{row.case}, {row.threads} thread{'s' * (row.threads > 1)}: {row.impl}"
    if row.p50 is None:
        print(f"{name:<60} {row.note}", file=sys.stderr)
    elif row.metric == "run":
        text = f"{row.p50:>10.0f} us  ({row.p20:.0f} to {row.p80:.0f}, n {row.n})"
        differs = "" if row.difference is None else f"  differs {row.difference:.1e}"
        print(f"{name:<60} {text}{differs}  {row.note}", file=sys.stderr)
    else:
        print(f"{name:<60} {row.p50:>10.1f} {row.unit}  {row.metric}", file=sys.stderr)
