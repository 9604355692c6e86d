"""Many small models behind HTTP: fusec, other servers and the least that any could do, in turns.

throughput  100 perceptrons (256-512-512-10) of different weights, 16 clients that each wait for
            their answer before they ask again, one row a request, any model: all servers run, each
            is asked for some seconds, and again
one client  what HTTP, gRPC and scheduling add to `plan.run` when nobody else asks

    python bench/serve_throughput.py --peers --seconds 5

Other servers are installed into the cache the first time, with `--peers`; who cannot be is told.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from closed_loop import Client, Tally, closed_loop
from figures import Figure, figure, keep, parser
from live import Kind, Live, Served, free_port, fusec_command, running
from models import mlp
from peer_venvs import PEERS, floor
from sessions import exported
from wires import BINARY, JSON, Wire

import fusec

BENCH = "serve_throughput"
WIDTHS = (256, 512, 512, 10)
CASES = ("throughput", "one client")
WARM_S = 1.0


def served(count: int, folder: Path, threads: int) -> tuple[Served, fusec.Plan]:
    """Make models, their files and their answers."""
    torch.manual_seed(20)
    models = {f"m{n}": mlp(WIDTHS).eval() for n in range(count)}
    inputs = {name: torch.randn(1, WIDTHS[0]) for name in models}
    (folder / "models").mkdir()
    rows = {"input": {0: "rows"}}
    two = {name: torch.cat([x, x]) for name, x in inputs.items()}
    for name, content in exported(models, two, rows).items():
        (folder / "models" / f"{name}.onnx").write_bytes(content)
    plan = fusec.compile(models, examples={"*": inputs["m0"]}, threads=threads)
    plan.save(folder / "models.fusec")
    with torch.no_grad():
        truth = {n: m.double()(inputs[n].double()).numpy() for n, m in models.items()}
    given = {name: x.numpy() for name, x in inputs.items()}
    return Served(folder / "models", folder / "models.fusec", given, truth), plan


def fusec_kind(wire: Wire, threads: int) -> Kind:
    """Give fusec's server, asked one way."""

    def command(made: Served, port: int, folder: Path) -> Sequence[str]:
        return fusec_command(made.plan, port, threads)

    return Kind(f"fusec, {wire.name}", wire, command, {})


def kinds(options: argparse.Namespace) -> tuple[list[Kind], dict[str, str]]:
    """Give the servers to start, and why others are left out."""
    found = [fusec_kind(BINARY, options.threads), fusec_kind(JSON, options.threads), floor()]
    missing: dict[str, str] = {}
    for name, make in PEERS.items():
        if options.quick or (options.only and name not in options.only):
            continue
        try:
            found.append(make(options.peers))
        except (RuntimeError, OSError) as error:
            missing[name] = str(error)[:300]
            say(f"{name}: left out: {missing[name]}")
    return found, missing


def throughput(live: Mapping[str, Live], options: argparse.Namespace) -> dict[str, list[Tally]]:
    """Ask all servers in turn."""
    tallies: dict[str, list[Tally]] = {name: [] for name in live}
    names = list(live)
    for turn in range(options.rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            server = live[name]
            given = server.port, server.requests, options.clients
            closed_loop(*given, min(WARM_S, options.seconds), seed=turn)
            tally = closed_loop(*given, options.seconds, seed=turn)
            tallies[name].append(tally)
            failed = f", failed: {tally.failures}" if tally.failures else ""
            say(
                f"round {turn}: {name:<24} {tally.per_second:7.0f}/s, p50 "
                f"{tally.quantile_ms(0.5):.2f}, p99 {tally.quantile_ms(0.99):.2f} ms{failed}"
            )
    return tallies


def one_client(
    plan: fusec.Plan, made: Served, seconds: float, threads: int
) -> dict[str, list[int]]:
    """Ask plan and server in turn; nanoseconds of each way."""
    grpc_port = free_port()

    def command(made: Served, port: int, folder: Path) -> Sequence[str]:
        return fusec_command(made.plan, port, threads, grpc_port=grpc_port)

    names = list(made.inputs)
    taken: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        server = Live(Kind("fusec", BINARY, command, {}), made, Path(scratch))
        try:
            ways: dict[str, Callable[[str], object]] = {
                "plan.run": lambda name: plan.run({name: made.inputs[name]}),
                "HTTP, binary": _http(server.port, BINARY, made),
                "HTTP, JSON": _http(server.port, JSON, made),
                "gRPC": _grpc(grpc_port, made),
            }
            taken = {way: [] for way in ways}
            end = time.monotonic() + seconds
            turn = 0
            while time.monotonic() < end:
                for way, ask in ways.items():
                    name = names[turn * 7 % len(names)]
                    begin = time.perf_counter_ns()
                    ask(name)
                    if turn >= (50 if seconds > 1 else 0):
                        taken[way].append(time.perf_counter_ns() - begin)
                turn += 1
        finally:
            server.close()
    return taken


def _http(port: int, wire: Wire, made: Served) -> Callable[[str], object]:
    client = Client(port)
    requests = {name: wire.ask(name, x) for name, x in made.inputs.items()}

    def ask(name: str) -> object:
        client.ask(requests[name])
        while (answer := client.hear()) is None:
            pass
        return answer

    return ask


def _grpc(port: int, made: Served) -> Callable[[str], object]:
    import grpc

    from fusec.server.grpctypes import SERVICE, types

    requests = {}
    for name, x in made.inputs.items():
        message = types()["ModelInferRequest"](model_name=name)
        message.inputs.add(name="input", datatype="FP32", shape=x.shape)
        message.raw_input_contents.append(x.tobytes())
        requests[name] = message.SerializeToString()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    return lambda name: method(requests[name], timeout=30)


def figures_of(
    live: Mapping[str, Live], tallies: Mapping[str, Sequence[Tally]], case: str, threads: int
) -> list[Figure]:
    """Give answers a second by round and times of all answers, of each server."""
    rates = {name: statistics.median(t.per_second for t in own) for name, own in tallies.items()}
    peers = {name: rate for name, rate in rates.items() if name in PEERS}
    times = {
        name: [ns / 1e6 for t in own for ns in t.latencies_ns] for name, own in tallies.items()
    }
    worst = {name: sorted(t)[len(t) * 99 // 100] for name, t in times.items() if t}
    asked, quick = "", ""
    if peers:
        best = max(peers, key=lambda name: peers[name])
        first = min(peers, key=lambda name: worst[name])
        asked = f">= {1.5 * peers[best]:.0f}: 1.5 x {best}"
        quick = f"p99 <= {worst[first]:.1f}: {first}"
    figures = []
    for name, own in tallies.items():
        failed = sum(sum(tally.failures.values()) for tally in own)
        client_us = 1e6 * sum(tally.client_s for tally in own) / max(1, len(times[name]))
        told = [live[name].kind.note, f"{client_us:.0f} us of the client's a request"]
        told += [f"differs from float64 by {live[name].difference:.1e}"]
        note = "; ".join(filter(None, [*told, *[f"{failed} failed"] * bool(failed)]))
        ours = name.startswith("fusec")
        for metric, values, unit, wanted in (
            ("answers", [tally.per_second for tally in own], "a second", asked),
            ("latency", times[name] or [math.nan], "ms", quick),
        ):
            figures.append(
                figure(
                    BENCH,
                    case,
                    f"{name}: {metric}",
                    values,
                    unit,
                    threads=threads,
                    asked=wanted if ours else "",
                    note=note,
                )
            )
    return figures


def left_out(case: str, name: str, why: str, threads: int) -> Figure:
    """Give a row for who could not be asked, with the reason."""
    return figure(
        BENCH, case, f"{name}: answers", [math.nan], "a second", threads=threads, note=why
    )


def say(text: str) -> None:
    """Tell whoever watches."""
    print(text, file=sys.stderr, flush=True)


def added(ways: Mapping[str, Sequence[int]], threads: int) -> list[Figure]:
    """Give what each way takes, and what it adds to the plan's own run."""
    base = ways["plan.run"]
    figures = []
    for way, times in ways.items():
        taken = [ns / 1e6 for ns in times]
        figures.append(figure(BENCH, "one client", way, taken, "ms", threads=threads))
        if way != "plan.run":
            more = [(b - a) / 1e6 for a, b in zip(base, times, strict=True)]
            figures.append(
                figure(
                    BENCH,
                    "one client",
                    f"{way}: added to plan.run",
                    more,
                    "ms",
                    threads=threads,
                    asked="p50 <= 0.6",
                )
            )
    return figures


def main() -> None:
    """Run the cases and keep their figures."""
    made_parser = parser(__doc__, seconds=5.0, cases=CASES)
    made_parser.add_argument("--peers", action="store_true", help="install peers not there yet")
    made_parser.add_argument("--only", action="append", choices=sorted(PEERS), help="of the peers")
    made_parser.add_argument("--rounds", type=int, default=3)
    made_parser.add_argument("--clients", type=int, default=16)
    made_parser.add_argument("--models", type=int, default=100)
    options = made_parser.parse_args()
    if options.smoke:
        options.quick, options.models, options.seconds, options.rounds = True, 3, 0.2, 1
    wanted = options.case or CASES
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as scratch:
        made, plan = served(options.models, Path(scratch), options.threads)
        if "one client" in wanted:
            ways = one_client(plan, made, 2 * options.seconds, options.threads)
            keep(added(ways, options.threads), options.out)
        if "throughput" in wanted:
            case = f"{options.models} models, {options.clients} clients"
            chosen, missing = kinds(options)
            with running(chosen, made, Path(scratch) / "servers", say) as (live, failed):
                say("all servers are ready")
                rows = figures_of(live, throughput(live, options), case, options.threads)
            for name, why in {**missing, **failed}.items():
                rows.append(left_out(case, name, why, options.threads))
            keep(rows, options.out)


if __name__ == "__main__":
    main()
