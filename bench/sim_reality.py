"""The simulator beside reality: the mix of `traffic`, served for a while and simulated.

Three windows are served, one after another, and the decisions logged. The simulator gets the
arrivals of the second and what launches took in the others; the job of images goes on by itself in
both. Beside it stands a simulation by the plan's stored profile alone, which was measured while
nothing else ran. Compared is the time from when a request was read to the end of its run; what
clients see more, a row of its own, is Python's. A replay of the log has to give the same decisions.

    python bench/sim_reality.py --seconds 30 --rates 5,10,20
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import serve_traffic
import torch
from figures import Figure, figure, keep, parser
from servers import Fusec, settled
from traffic import IMAGE, SENTENCE, WAKE, Mix, Tally, Window, arrivals

import fusec
from fusec.runtime.drivers.run import Run, check_run
from fusec.runtime.drivers.virtual import Service, VirtualDriver
from fusec.runtime.drivers.work import Task
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.log import Log, read_log
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Outcome, Request, Result
from fusec.runtime.sched.replay import prediction_errors, replay
from fusec.simulation.costs import costs_of, schedule_of
from fusec.simulation.measured import as_served
from fusec.simulation.noise import noisy

BENCH = "sim_reality"
POLICY = "slack"
RETREAT_NS = 300_000
WINDOWS, COUNTS = 3, 1
SERVED, PROFILED = "as served", "by the profile alone"


@dataclass(frozen=True, slots=True)
class Real:
    """What was served."""

    windows: tuple[tuple[int, int], ...]
    """Begin and end of each."""
    tallies: Mapping[str, Tally]
    """What clients saw of the one that counts."""
    outcomes: Sequence[Outcome]
    """Of all."""
    log: Log

    @property
    def counts(self) -> tuple[int, int]:
        """Begin and end of the window that counts."""
        return self.windows[COUNTS]

    def decisions_around(self) -> list[Decision]:
        """Give the decisions of the windows that do not count."""
        begin, end = self.counts
        return [d for d in self.log.decisions if not begin <= d.at_ns < end]


def serve(plan: fusec.Plan, mix: Mix, rate: float, seconds: float) -> Real:
    """Serve the mix for real."""
    windows, tallies = [], []
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.jsonl"
        server = Fusec(plan, policy=POLICY, log=path)
        settled()
        watch = server.runtime._watch
        plain = watch.ended

        def ended(outcome: Outcome, task: Task) -> None:
            outcomes.append(outcome)
            plain(outcome, task)

        watch.ended = ended  # type: ignore[method-assign]
        try:
            for number in range(WINDOWS):
                begin = time.monotonic_ns()
                window = Window(server, mix)
                calls = arrivals(mix, rate, seconds, seed=number)
                tallies.append(window.run(calls, seconds))
                windows.append((begin, begin + round(seconds * 1e9)))
        finally:
            server.close()
        return Real(tuple(windows), tallies[COUNTS], outcomes, read_log(path))


def simulate(real: Real, costs: Profile, service: Service | None) -> Run:
    """Simulate what came in the window that counts, and before it: predictions are as good."""
    came = [r for d in real.log.decisions for r in d.change.arrived if d.at_ns < real.counts[1]]
    given = [r for r in came if r.tenant != IMAGE]
    images = [r for r in came if r.tenant == IMAGE]
    gap_ns = _gap_ns(real.outcomes)
    for begin, _ in real.windows[: COUNTS + 1]:  # the first of each goes on by itself
        given += [r for r in images if r.arrival_ns >= begin][:1]
    numbers = iter(range(max((r.id for r in came), default=0) + 1, 1 << 60))

    def follow(outcome: Outcome) -> Request | None:
        request = outcome.request
        end = next((e for b, e in real.windows if b <= request.arrival_ns < e), 0)
        if request.tenant != IMAGE or outcome.at_ns >= end:
            return None
        return replace(request, id=next(numbers), arrival_ns=outcome.at_ns + gap_ns)

    driver = VirtualDriver(
        find_policy(POLICY), costs, retreat_ns=RETREAT_NS, service=service, correct=True
    )
    run = driver.run(sorted(given, key=lambda r: r.arrival_ns), follow)
    check_run(run, [outcome.request for outcome in run.outcomes])
    return run


def _gap_ns(outcomes: Sequence[Outcome]) -> int:
    """Give what passes between the end of an image and the next one, in the median."""
    images = sorted(
        (o for o in outcomes if o.request.tenant == IMAGE), key=lambda o: o.request.arrival_ns
    )
    gaps = [b.request.arrival_ns - a.at_ns for a, b in itertools.pairwise(images)]
    return max(0, round(statistics.median(gaps))) if gaps else 0


def tallies_of(outcomes: Iterable[Outcome], window: tuple[int, int]) -> dict[str, Tally]:
    """Count what came in a window."""
    found = {kind: Tally() for kind in (WAKE, SENTENCE, IMAGE)}
    for outcome in outcomes:
        request = outcome.request
        if not window[0] <= request.arrival_ns < window[1]:
            continue
        tally = found[request.tenant]
        tally.asked += 1
        if outcome.result is Result.DONE:
            tally.latencies_ms.append((outcome.at_ns - request.arrival_ns) / 1e6)
            tally.met += request.deadline_ns is None or outcome.at_ns <= request.deadline_ns
    return found


def figures(rate: float, real: Real, runs: Mapping[str, Run], threads: int) -> list[Figure]:
    """Give rows: how far quantiles of each simulation are from reality."""
    case = f"{rate:.0f} sentences a second"
    was, rows = tallies_of(real.outcomes, real.counts), []

    def row(what: str, value: float, unit: str, asked: str = "", note: str = "") -> None:
        rows.append(
            figure(BENCH, case, what, [value], unit, threads=threads, asked=asked, note=note)
        )

    for name, run in runs.items():
        would = tallies_of(run.outcomes, real.counts)
        for kind in (kind for kind, tally in was.items() if tally.latencies_ms):
            for share, asked in ((0.5, "within 10"), (0.99, "within 25")):
                a, b = was[kind].quantile(share), would[kind].quantile(share)
                row(
                    f"{kind}, p{share * 100:.0f} simulated {name}",
                    100 * (b / a - 1),
                    "% off",
                    asked if name == SERVED else "",
                    f"real {a:.2f} ms, simulated {b:.2f} ms",
                )
            off = would[kind].attainment - was[kind].attainment
            row(f"{kind}, in time simulated {name}", 100 * off, "points off")
    for kind, tally in real.tallies.items():
        if tally.latencies_ms:
            more = tally.quantile(0.5) - was[kind].quantile(0.5)
            row(f"{kind}, p50 of clients above that", more, "ms")
    difference = replay(find_policy(POLICY), real.log.profile, real.log.decisions)
    errors = prediction_errors(real.log.profile, real.log.decisions)
    note = str(difference) if difference else f"{len(real.log.decisions)} decisions; {errors}"
    row("decisions that replay otherwise", float(difference is not None), "", "0", note)
    return rows


def simulations(plan: fusec.Plan, real: Real, threads: int) -> dict[str, Run]:
    """Simulate by what launches took before and after, and by the profile alone."""
    profiled, schedule = costs_of(plan, threads), schedule_of(plan, threads)
    noise = None if schedule is None else noisy(profiled, schedule, seed=1)
    costs, service = as_served(real.log.profile, real.decisions_around(), seed=1)
    return {SERVED: simulate(real, costs, service), PROFILED: simulate(real, profiled, noise)}


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
        rows = figures(rate, real, simulations(plan, real, options.threads), options.threads)
        keep(rows, options.out)
        print("\n".join(f"{row.impl}: {row.note}" for row in rows if row.note), end="\n\n")


if __name__ == "__main__":
    main()
