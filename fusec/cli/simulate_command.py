"""``fusec simulate``: a policy under a virtual clock, over made-up or recorded arrivals."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import fusec
from fusec.cli.output import JsonFlag, emit_json, say
from fusec.ir.errors import ConfigError
from fusec.runtime.arrivals import Arrivals, Mix, parse_arrivals
from fusec.runtime.drivers.run import check_run
from fusec.runtime.drivers.virtual import Service, VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.log import log_lines, read_log
from fusec.runtime.sched.profile import Profile
from fusec.runtime.summary import Summary, summarise
from fusec.runtime.traces import read_trace
from fusec.simulation.costs import costs_of, schedule_of
from fusec.simulation.measured import as_served
from fusec.simulation.noise import noisy
from fusec.simulation.page import page
from fusec.simulation.tables import group_table, headline

__all__ = ["simulate"]

_WIDTH = 120
_MS = 1_000_000


def simulate(
    plan: Annotated[Path | None, typer.Option(help="A plan that `fusec profile` measured.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Or costs, as JSON.")] = None,
    served: Annotated[
        Path | None,
        typer.Option(help="Or a runtime's decision log: blocks take what launches took there."),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Recorded arrivals, .csv or .jsonl.")] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(help="Or poisson:RATE, gamma:RATE:CV, closed:CLIENTS:THINK_MS."),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="slack, fifo, edf, split, split_paper, reorder, fair, fair:NAME.")
    ] = "slack",
    devices: Annotated[int, typer.Option(min=1, help="Lanes that run at once.")] = 1,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="How many; 10000, or the trace's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of made-up arrivals.")] = 0,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0.001, help="After arrival; none if absent.")
    ] = None,
    tenants: Annotated[int, typer.Option(min=1, help="Tenants that requests come from.")] = 1,
    stretch: Annotated[float, typer.Option(help="Factor of a trace's times; 2: half load.")] = 1.0,
    mix: Annotated[str | None, typer.Option(help="Of a trace file with several.")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 100_000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a lane of a plan; as many as were measured.")
    ] = None,
    noise: Annotated[
        bool,
        typer.Option("--noise", help="Blocks spread as measured; predictions are corrected."),
    ] = False,
    retreat_us: Annotated[
        float | None,
        typer.Option(min=0.001, help="Runs stop after this long within a block; never if absent."),
    ] = None,
    memory_mb: Annotated[float | None, typer.Option(min=0, help="For started requests.")] = None,
    log: Annotated[Path | None, typer.Option(help="Decision log to write, for replay.")] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    json: JsonFlag = False,
) -> None:
    """Simulate a policy: attainment, goodput and latency per model and tenant."""
    if sum(given is not None for given in (plan, profile, served)) != 1:
        raise ConfigError("give either --plan, --profile or --served")
    if served is not None:
        _no_spread(threads, noise, "a log says what launches took")
        log_read = read_log(served)
        costs, service = as_served(log_read.profile, log_read.decisions, seed)
    elif profile is not None:
        _no_spread(threads, noise, "a file of costs has no spread")
        costs, service = Profile.read(profile), None
    else:
        costs, service = _costs(plan or Path(), threads, seed if noise else None)
    chosen = find_policy(policy)
    given = Mix(
        models=costs.models,
        tenants=[f"tenant{i}" for i in range(tenants)] if tenants > 1 else [""],
        deadline_ns=None if deadline_ms is None else round(deadline_ms * _MS),
    )
    if (trace is None) == (arrivals is None):
        raise ConfigError("give either --trace or --arrivals")
    if trace is not None:
        came = Arrivals(read_trace(trace, given, stretch=stretch, which=mix, n=requests))
    else:
        came = parse_arrivals(arrivals or "", given, n=requests or 10_000, seed=seed)
    driver = VirtualDriver(
        chosen,
        costs,
        lanes=devices,
        queue_limit=queue,
        retreat_ns=None if retreat_us is None else max(1, round(retreat_us * 1000)),
        memory_bytes=None if memory_mb is None else round(memory_mb * 1e6),
        service=service,
        correct=noise or served is not None,
    )
    run = driver.run(came.requests, came.loop.after if came.loop else None)
    check_run(run, [outcome.request for outcome in run.outcomes])
    summary = summarise(run, costs)
    if log is not None:
        log.write_text("\n".join(log_lines(policy, costs, run.decisions)) + "\n")
        say(f"{log}: {summary.decisions} decisions", style="dim")
    if html is not None:
        html.write_text(page(run, summary, costs))
        say(f"{html}: open it in a browser", style="dim")
    _show(summary, as_json=json)


def _no_spread(threads: int | None, noise: bool, why: str) -> None:
    if threads is not None or noise:
        raise ConfigError(f"--threads and --noise go with --plan: {why}")


def _costs(plan: Path, threads: int | None, seed: int | None) -> tuple[Profile, Service | None]:
    """Read a plan's costs and, with a seed, what blocks really take."""
    loaded = fusec.load(plan)
    costs = costs_of(loaded, threads)
    schedule = schedule_of(loaded, threads)
    return costs, None if seed is None or schedule is None else noisy(costs, schedule, seed)


def _show(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        emit_json(summary.to_json())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(headline(summary), highlight=False, markup=False)
    console.print(group_table("Models", [*summary.models, summary.total], "model"))
    if len(summary.tenants) > 1:
        console.print(group_table("Tenants", summary.tenants, "tenant"))
