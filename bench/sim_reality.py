"""The simulator beside reality: the mix of `traffic`, served for a while and simulated.

The real run keeps its decision log. The simulator gets the arrivals of that log, the costs that the
plan was profiled with, and times that spread as measured; the job of images goes on by itself in
both, one after another. Compared are latencies as clients see them. A replay of the log has to give
the same decisions.

    python bench/sim_reality.py --seconds 30 --rates 5,10,20
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import serve_traffic
import torch
from figures import Figure, figure, keep, parser
from servers import Fusec
from traffic import IMAGE, SENTENCE, WAKE, Mix, Tally, Window, arrivals

import fusec
from fusec.runtime.drivers.run import Run, check_run
from fusec.runtime.drivers.virtual import VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.log import Log, read_log
from fusec.runtime.sched.records import Outcome, Request, Result
from fusec.runtime.sched.replay import prediction_errors, replay
from fusec.simulation.costs import costs_of, schedule_of
from fusec.simulation.noise import noisy

BENCH = "sim_reality"
POLICY = "slack"
RETREAT_NS = 300_000
WARM_S = 3.0


@dataclass(frozen=True, slots=True)
class Real:
    """What was served."""

    windows: tuple[tuple[int, int], ...]
    """Begin and end of each; only the last counts, the first brings all into memory."""
    tallies: Mapping[str, Tally]
    log: Log


def serve(plan: fusec.Plan, mix: Mix, rate: float, seconds: float) -> Real:
    """Serve the mix for real."""
    windows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.jsonl"
        server = Fusec(plan, policy=POLICY, log=path)
        try:
            for number, length in enumerate((min(WARM_S, seconds), seconds)):
                begin = time.monotonic_ns()
                window = Window(server, mix)
                tallies = window.run(arrivals(mix, rate, length, seed=number), length)
                windows.append((begin, begin + round(length * 1e9)))
        finally:
            server.close()
        return Real(tuple(windows), tallies, read_log(path))


def simulate(plan: fusec.Plan, real: Real, threads: int) -> Run:
    """Simulate what came."""
    costs, schedule = costs_of(plan, threads), schedule_of(plan, threads)
    came = [r for d in real.log.decisions for r in d.change.arrived]
    given = [r for r in came if r.tenant != IMAGE]
    images = [r for r in came if r.tenant == IMAGE]
    for begin, _ in real.windows:  # the first of each goes on by itself
        given += [r for r in images if r.arrival_ns >= begin][:1]
    numbers = iter(range(max((r.id for r in came), default=0) + 1, 1 << 60))

    def follow(outcome: Outcome) -> Request | None:
        if outcome.request.tenant != IMAGE or not _within(outcome.at_ns, real.windows):
            return None
        return replace(outcome.request, id=next(numbers), arrival_ns=outcome.at_ns)

    driver = VirtualDriver(
        find_policy(POLICY),
        costs,
        retreat_ns=RETREAT_NS,
        service=None if schedule is None else noisy(costs, schedule, seed=1),
        correct=True,
    )
    run = driver.run(sorted(given, key=lambda r: r.arrival_ns), follow)
    check_run(run, [outcome.request for outcome in run.outcomes])
    return run


def _within(at_ns: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(begin <= at_ns < end for begin, end in windows)


def tallies_of(run: Run, real: Real) -> dict[str, Tally]:
    """Count what the simulation made of the last window, as clients would."""
    begin, _ = real.windows[-1]
    found = {kind: Tally() for kind in (WAKE, SENTENCE, IMAGE)}
    for outcome in run.outcomes:
        request = outcome.request
        if request.arrival_ns < begin:
            continue
        tally = found[request.tenant]
        tally.asked += 1
        if outcome.result is Result.DONE:
            tally.latencies_ms.append((outcome.at_ns - request.arrival_ns) / 1e6)
            tally.met += request.deadline_ns is None or outcome.at_ns <= request.deadline_ns
    return found


def figures(rate: float, real: Real, simulated: Mapping[str, Tally], threads: int) -> list[Figure]:
    """Give rows: each quantile real, simulated, and how far off."""
    case = f"{rate:.0f} sentences a second"
    rows = []
    for kind, tally in real.tallies.items():
        if not tally.asked:
            continue
        for share, asked in ((0.5, "within 10"), (0.99, "within 25")):
            was, would = tally.quantile(share), simulated[kind].quantile(share)
            rows.append(
                figure(
                    BENCH,
                    case,
                    f"{kind}, p{share * 100:.0f} of simulation against reality",
                    [100 * (would / was - 1)],
                    "%",
                    threads=threads,
                    asked=asked,
                    note=f"real {was:.2f} ms, simulated {would:.2f} ms",
                )
            )
        off = simulated[kind].attainment - tally.attainment
        note = f"real {tally.attainment:.2%}, simulated {simulated[kind].attainment:.2%}"
        rows.append(
            figure(
                BENCH, case, f"{kind}, in time", [100 * off], "points", threads=threads, note=note
            )
        )
    difference = replay(find_policy(POLICY), real.log.profile, real.log.decisions)
    errors = prediction_errors(real.log.profile, real.log.decisions)
    note = str(difference) if difference else f"{len(real.log.decisions)} decisions; {errors}"
    rows.append(
        figure(
            BENCH,
            case,
            "decisions that replay otherwise",
            [float(difference is not None)],
            "",
            threads=threads,
            asked="0",
            note=note,
        )
    )
    return rows


def main() -> None:
    """Serve, simulate, print tables, append rows."""
    options_of = parser(__doc__, seconds=30.0, cases=("traffic",))
    options_of.add_argument("--rates", default="5,10,20", help="sentences a second")
    options_of.add_argument("--plan", type=Path, help="keep the profiled plan here, or find it")
    options = options_of.parse_args()
    torch.set_num_threads(1)
    sources, _, mix, more = serve_traffic.models(options.smoke)
    if options.plan is not None and options.plan.is_file():
        plan = fusec.load(options.plan, threads=options.threads)
    else:
        plan = fusec.compile(sources, threads=options.threads, executor="cpu", **more)
        plan.profile(seconds=0.05 if options.smoke else 1.0)
        if options.plan is not None:
            plan.save(options.plan)
    seconds = 0.5 if options.smoke else options.seconds
    for rate in map(float, options.rates.split(",")):
        real = serve(plan, mix, rate, seconds)
        run = simulate(plan, real, options.threads)
        rows = figures(rate, real, tallies_of(run, real), options.threads)
        keep(rows, options.out)
        print("\n".join(f"{row.impl}: {row.note}" for row in rows), end="\n\n")


if __name__ == "__main__":
    main()
