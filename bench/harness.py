"""Times implementations of one case side by side and writes one JSON row per result.

A bench is a module with ``BENCH`` (its name), ``cases(smoke)`` and ``setup(case, threads)``; its
last lines call `main` with itself. All implementations of a case run in one process and in turn, so
that noise from the machine falls on all alike. Nothing here asserts: a peer that cannot do a case
gets a row that says why.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
SEED = 20
PACKAGES = ("torch", "triton", "onnx", "onnxruntime", "numpy")

Outputs = Mapping[str, np.ndarray]
"""Answers by member, the first output of each."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to do a case: `run` does it once and is what is timed, `answers` reads its results.

    `build` is called once before anything is timed.
    """

    build: Callable[[], Callable[[], object]]
    answers: Callable[[object], Outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All implementations of one case and the float64 answers they are compared with."""

    impls: Mapping[str, Impl]
    truth: Outputs


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
    difference: float | None
    """Largest absolute difference from float64 over all members."""
    note: str
    threads: int
    seed: int


def measure(
    runs: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    warmup: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[int]]:
    """Call every implementation in turn until `seconds` have passed; return durations in ns.

    The order turns by one each round, so that nobody always follows the same neighbour. Every
    implementation gets the same number of calls, at least three.
    """
    names = list(runs)
    for _ in range(warmup):
        for name in names:
            runs[name]()
    samples: dict[str, list[int]] = {name: [] for name in names}
    end = clock() + int(seconds * 1e9)
    turn = 0
    while names and (clock() < end or turn < 3):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            begin = clock()
            runs[name]()
            samples[name].append(clock() - begin)
        turn += 1
    return samples


def quantiles(samples: list[int]) -> tuple[float, float, float]:
    """Return p20, p50 and p80 in microseconds."""
    fifths = statistics.quantiles(samples, n=5, method="inclusive")
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
    builds: dict[str, int] = {}
    for name, impl in setup.impls.items():
        begin = time.perf_counter_ns()
        try:
            run = impl.build()
            result = run()
            builds[name] = time.perf_counter_ns() - begin
            differences[name] = largest_difference(impl.answers(result), setup.truth)
        except Exception as error:  # noqa: BLE001 - any fault of a peer is a row, not an end
            notes[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            runs[name] = run
    samples = measure(runs, seconds=seconds)
    rows = []
    for name in setup.impls:
        times = quantiles(samples[name]) if name in runs else (None, None, None)
        once = builds[name] / 1e3 if name in builds else None
        for metric, (p20, p50, p80), n in (
            ("run", times, len(samples.get(name, ()))),
            ("build", (once, once, once), int(once is not None)),
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
                seed=SEED,
            )
            rows.append(row)
    return rows


def environment() -> dict[str, object]:
    """Return where and from what state of the sources the rows come."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": gpu or _cpu_name(),
        "driver": str(torch.version.cuda or "") if gpu else "",
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **versions,
    }


def _git(*arguments: str) -> str:
    call = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(module: ModuleType | Bench, arguments: list[str] | None = None) -> None:
    """Run the cases of a bench module and append its rows to a file."""
    bench = cast(Bench, module)
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("--case", action="append", help="only this case; may be repeated")
    parser.add_argument("--threads", type=int, action="append", help="1 and all cores by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="per case, all peers together")
    parser.add_argument("--smoke", action="store_true", help="one tiny case, for a second")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{bench.BENCH}.jsonl")
    options = parser.parse_args(arguments)
    known = list(bench.cases(options.smoke))
    wanted = options.case or known
    if not set(wanted) <= set(known):
        parser.error(f"no case {sorted(set(wanted) - set(known))}; there are {known}")
    both = [1] if options.smoke else sorted({1, os.cpu_count() or 1})
    counts = options.threads or both
    if len(counts) > 1:
        # Some peers fix their thread pool for the life of the process.
        rest = ["--seconds", str(options.seconds), "--out", str(options.out)]
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
    for case in wanted:
        torch.manual_seed(SEED)
        seconds = 0.2 if options.smoke else options.seconds
        setup = bench.setup(case, counts[0])
        rows = run_case(bench.BENCH, case, setup, seconds=seconds, threads=counts[0])
        with options.out.open("a") as file:
            file.writelines(json.dumps({**asdict(row), **where}) + "\n" for row in rows)
        for row in rows:
            _show(row)


def _show(row: Row) -> None:
    """Print one row for whoever watches; the report is made from the file."""
    if row.metric != "run":
        return
    name = f"{row.case}, {row.threads} thread{'s' * (row.threads > 1)}: {row.impl}"
    if row.p50 is None:
        print(f"{name:<52} {row.note}", file=sys.stderr)
    else:
        text = f"{row.p50:>10.0f} us  ({row.p20:.0f} to {row.p80:.0f}, n {row.n})"
        print(f"{name:<52} {text}  differs {row.difference:.1e}", file=sys.stderr)
