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
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from closed_loop import Client, Tally, closed_loop
from live import Kind, Live, Served, free_port, fusec_command, running
from models import mlp
from peer_venvs import PEERS, floor
from sessions import exported
from where import RESULTS, environment, machine_class
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


def one_client(plan: fusec.Plan, made: Served, seconds: float, threads: int) -> dict[str, Any]:
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
                    if turn >= 50:
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


def row(case: str, impl: str, metric: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    """Make a row of results."""
    ordered = sorted(values)
    places = {p: min(len(ordered) - 1, len(ordered) * p // 100) for p in (20, 50, 80, 99)}
    picked = {f"p{p}": ordered[at] if ordered else None for p, at in places.items()}
    made: dict[str, Any] = {"bench": BENCH, "case": case, "impl": impl, "metric": metric}
    return {**made, "unit": unit, **picked, "n": len(ordered), "note": "", "difference": None}


def rows_of(
    live: Mapping[str, Live], tallies: Mapping[str, Sequence[Tally]], case: str
) -> list[dict[str, Any]]:
    """Make two rows of each server: answers a second by round, and times of all answers."""
    rows = []
    for name, own in tallies.items():
        failed = sum(sum(tally.failures.values()) for tally in own)
        answered = sum(len(tally.latencies_ns) for tally in own)
        client_us = 1e6 * sum(tally.client_s for tally in own) / max(1, answered)
        told = [live[name].kind.note, f"{client_us:.0f} us of the client's a request"]
        told += [f"{failed} failed"] * bool(failed)
        more = {"note": "; ".join(filter(None, told)), "difference": live[name].difference}
        times = [ns / 1e6 for tally in own for ns in tally.latencies_ns]
        rows.append(
            {**row(case, name, "throughput", "answers/s", [t.per_second for t in own]), **more}
        )
        rows.append({**row(case, name, "latency", "ms", times), **more})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show servers, the fastest first."""
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in rows:
        by_name.setdefault(str(one["impl"]), {})[str(one["metric"])] = one
    lines = ["| server | answers/s | p50 ms | p99 ms | note |", "|---|---|---|---|---|"]
    ranked = sorted(
        by_name.items(), key=lambda pair: -(pair[1].get("throughput", {}).get("p50") or 0.0)
    )
    for name, own in ranked:
        rate, times = own.get("throughput", {}), own.get("latency", {})
        if rate.get("p50") is None:
            lines.append(f"| {name} | - | - | - | {next(iter(own.values()))['note']} |")
            continue
        lines.append(
            f"| {name} | {rate['p50']:.0f} | {times['p50']:.2f} | {times['p99']:.2f} | "
            f"{rate['note']} |"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Tell whoever watches."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print tables, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="both if absent")
    parser.add_argument("--peers", action="store_true", help="install peers that are not there")
    parser.add_argument("--only", action="append", choices=sorted(PEERS), help="of the peers")
    parser.add_argument("--quick", action="store_true", help="without peers")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    name = f"{machine_class()}-serving.jsonl"
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    options = parser.parse_args()
    wanted = options.case or CASES
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as scratch:
        made, plan = served(options.models, Path(scratch), options.threads)
        if "one client" in wanted:
            ways = one_client(plan, made, 2 * options.seconds, options.threads)
            rows += [
                row("one client", way, "latency", "ms", [ns / 1e6 for ns in times])
                for way, times in ways.items()
            ]
            base = ways.pop("plan.run")
            for way, times in ways.items():
                added = [(b - a) / 1e6 for a, b in zip(base, times, strict=True)]
                rows.append(row("one client", way, "added to plan.run", "ms", added))
            print("| one client | what | p20 ms | p50 ms | p99 ms |\n|---|---|---|---|---|")
            for one in rows:
                shown = " | ".join(f"{one[p]:.3f}" for p in ("p20", "p50", "p99"))
                print(f"| {one['impl']} | {one['metric']} | {shown} |")
        if "throughput" in wanted:
            case = f"{options.models} models, {options.clients} clients"
            chosen, missing = kinds(options)
            with running(chosen, made, Path(scratch) / "servers", say) as (live, failed):
                say("all servers are ready")
                theirs = rows_of(live, throughput(live, options), case)
            for impl, why in {**missing, **failed}.items():
                theirs.append({**row(case, impl, "throughput", "answers/s", []), "note": why})
            print(table(theirs))
            rows += theirs
    where = {**environment(), "threads": options.threads}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a") as file:
        file.writelines(json.dumps({**one, **where}) + "\n" for one in rows)


if __name__ == "__main__":
    main()
