"""A server that lives long, as its clients see it: nothing grows, nothing is lost, all get a turn.

load, infer, unload   a model comes, answers and goes, again and again: memory after some against
                      memory at the end
random requests       500 a second, any of 100 models, 1 to 8 rows, open loop: memory along the way,
                      and what the server still counts when nobody asks any more
signal                50 slow requests run and others come when it is told to end: how many fail
fairness              one tenant sends 1,000 requests, another then one: what it waits, in blocks

    python bench/serve_live.py --case "random requests" --seconds 600
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from closed_loop import Answer, Client, ask_once
from figures import Figure, figure, keep, parser
from live import Kind, Live, Served, free_port, fusec_command
from models import mlp
from serve_throughput import WIDTHS, served
from sessions import exported
from wires import BINARY, post

import fusec
from fusec.runtime.sched.log import read_log
from fusec.runtime.sched.records import Launch

BENCH = "serve_live"
CASES = ("load, infer, unload", "random requests", "signal", "fairness")
RATE, MOST_ROWS = 500, 8
CYCLES, WARM_CYCLES = 200, 40
SLOW, NEW_S = 50, 2.0
MANY = 1000


class Server:
    """fusec's server in a process of its own, and how to look at it."""

    def __init__(self, made: Served, folder: Path, threads: int, *more: str) -> None:
        """Start it on a plan, or on what `more` says."""
        self.metrics_port = free_port()

        def command(made: Served, port: int, folder: Path) -> list[str]:
            given = fusec_command(made.plan, port, threads, *more)
            given[given.index("--allow-metrics") + 1] = "true"
            if "--model-repository" in more:
                given.remove(str(made.plan))
            return [*given, "--metrics-port", str(self.metrics_port)]

        self.live = Live(Kind("fusec", BINARY, command, {}), made, folder)
        self.port = self.live.port

    def resident_mb(self) -> float:
        """Give the memory that it has in use."""
        pages = int(Path(f"/proc/{self.live.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def metrics(self) -> dict[str, float]:
        """Give its figures, by name and labels."""
        answer = ask_once(self.metrics_port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        lines = answer.body.decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def submitted(self) -> float:
        """Give how many requests the runtime was given."""
        return next(v for name, v in self.metrics().items() if name.startswith("fusec_submitted"))

    def post(self, path: str, body: bytes = b"{}") -> Answer:
        """Ask on a connection of its own."""
        return ask_once(self.port, post(path, body))


@contextmanager
def server(made: Served, threads: int, *more: str) -> Iterator[Server]:
    """Serve while the block runs."""
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as folder:
        running = Server(made, Path(folder), threads, *more)
        try:
            yield running
        finally:
            running.live.close()


def cycles(count: int, threads: int) -> list[Figure]:
    """Load, ask and unload models of a repository, two of them at a time beside one that stays."""
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as place:
        folder = Path(place)
        names = [f"m{n}" for n in range(6)]
        made = {name: mlp(WIDTHS).eval() for name in names}
        given = dict.fromkeys(names, torch.zeros(2, WIDTHS[0]))
        for name, content in exported(made, given, {"input": {0: "rows"}}).items():
            (folder / "models" / name / "1").mkdir(parents=True)
            (folder / "models" / name / "1" / "model.onnx").write_bytes(content)
        x = np.ones((1, WIDTHS[0]), dtype=np.float32)
        with torch.no_grad():
            truth = {"m0": made["m0"](torch.from_numpy(x)).numpy()}
        one = Served(folder, folder / "none", {"m0": x}, truth)
        more = ("--model-repository", str(folder / "models"), "--model-control-mode", "explicit")
        with server(one, threads, *more, "--load-model", "m0") as running:
            taken, failed, resident = [], 0, []
            for number in range(count):
                name = names[1 + number % (len(names) - 1)]
                begin = time.perf_counter()
                steps = [running.post(f"/v2/repository/models/{name}/load").status]
                taken.append(1e3 * (time.perf_counter() - begin))
                steps += [ask_once(running.port, BINARY.ask(name, x)).status for _ in range(3)]
                steps.append(running.post(f"/v2/repository/models/{name}/unload").status)
                failed += sum(status != 200 for status in steps)
                resident.append(running.resident_mb())
            time.sleep(1.0)
            grown = running.resident_mb() - resident[min(WARM_CYCLES, count // 2)]
    case = CASES[0]
    return [
        _one(case, "memory after warm-up to the end", grown, "MB", threads, "flat"),
        _one(case, "memory at the end", resident[-1], "MB", threads, ""),
        _one(case, "failures", failed, f"of {5 * count}", threads, "0"),
        figure(BENCH, case, "load", taken, "ms", threads=threads),
    ]


def random_requests(seconds: float, threads: int, count: int) -> list[Figure]:
    """Send requests at a rate, whoever waits; look at the memory along the way."""
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as folder:
        made, _ = served(count, Path(folder), threads)
        draw = np.random.default_rng(3)
        asks = [
            BINARY.ask(name, draw.random((rows, WIDTHS[0]), dtype=np.float32))
            for name in made.inputs
            for rows in range(1, MOST_ROWS + 1)
        ]
        with server(made, threads) as running:
            resident: list[float] = []
            latencies, failed = open_loop(
                running.port, asks, seconds, lambda: resident.append(running.resident_mb())
            )
            time.sleep(1.0)
            counted = running.metrics()
            resident.append(running.resident_mb())
    pending = "nv_inference_pending_request_count"
    left = [v for n, v in counted.items() if n.startswith(pending)]
    left += [counted[f"fusec_{n}"] for n in ("in_flight", "queued", "running_lanes")]
    case, warm = CASES[1], max(1, len(resident) // 5)
    note = f"{seconds:g} s"
    return [
        _one(case, "memory after warm-up to the end", resident[-1] - resident[warm], "MB", threads,
             "flat", note),
        _one(case, "memory at the end", resident[-1], "MB", threads, "", note),
        _one(case, "counters when idle", max(left), "at most", threads, "0", note),
        _one(case, "failures", failed, f"of {failed + len(latencies)}", threads, "0", note),
        figure(BENCH, case, "latency", latencies, "ms", threads=threads, note=note),
    ]  # fmt: skip


def open_loop(
    port: int, asks: list[bytes], seconds: float, look: Callable[[], object]
) -> tuple[list[float], int]:
    """Send so many a second on connections that are free, and look once a second.

    Returns:
        Milliseconds from when each was due to its answer; and how many had none, or not with 200.
    """
    draw = random.Random(1)
    poll = selectors.DefaultSelector()
    free: list[Client] = []
    due_at: dict[Client, float] = {}
    taken: list[float] = []
    failed = sent = looks = 0
    begin = time.perf_counter()
    while True:
        now = time.perf_counter() - begin
        if now >= looks:
            look()
            looks += 1
        while now < seconds and sent <= now * RATE:
            client = free.pop() if free else Client(port)
            if client not in due_at:
                poll.register(client.socket, selectors.EVENT_READ, client)
            due_at[client] = sent / RATE
            client.ask(draw.choice(asks))
            sent += 1
        waiting = sent - len(taken) - failed
        if now >= seconds and (not waiting or now > seconds + 60):
            failed += waiting
            break
        until = (sent / RATE if now < seconds else now + 1.0) - (time.perf_counter() - begin)
        for key, _ in poll.select(max(0.0, until)):
            client = key.data
            try:
                answer = client.hear()
            except ConnectionError:
                poll.unregister(client.socket)
                client.close()
                del due_at[client]
                if client in free:  # it idled for so long that the server closed it
                    free.remove(client)
                else:
                    failed += 1
                continue
            if answer is None:
                continue
            if answer[9:12] == b"200":
                taken.append(1e3 * (time.perf_counter() - begin - due_at[client]))
            else:
                failed += 1
            free.append(client)
    for client in due_at:
        client.close()
    poll.close()
    return taken, failed


def slow_served(folder: Path, threads: int) -> Served:
    """Make a model of some 20 ms for 64 rows."""
    torch.manual_seed(20)
    model = mlp((1024, 2048, 2048, 2048, 16)).eval()
    x = torch.randn(1, 1024)
    plan = fusec.compile({"slow": model}, examples={"slow": x}, threads=threads)
    plan.save(folder / "slow.fusec")
    with torch.no_grad():
        truth = {"slow": model.double()(x.double()).numpy()}
    return Served(folder, folder / "slow.fusec", {"slow": x.numpy()}, truth)


def ended(threads: int) -> list[Figure]:
    """Tell a server to end while it has much to do."""
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as folder:
        made = slow_served(Path(folder), threads)
        slow = BINARY.ask("slow", np.ones((64, 1024), dtype=np.float32))
        quick = BINARY.ask("slow", made.inputs["slow"])
        with server(made, threads, "--drain-seconds", str(NEW_S + 1)) as running:
            statuses: list[int] = []

            def ask(request: bytes) -> None:
                try:
                    statuses.append(ask_once(running.port, request).status)
                except OSError:
                    statuses.append(0)

            clients = [threading.Thread(target=ask, args=(slow,)) for _ in range(SLOW)]
            for client in clients:
                client.start()
            while running.metrics()["fusec_submitted_total"] < SLOW and any(
                client.is_alive() for client in clients
            ):
                time.sleep(0.005)
            os.kill(running.live.pid, signal.SIGTERM)
            end = time.monotonic() + NEW_S
            new = 0
            while time.monotonic() < end:
                ask(quick)
                new += 1
            for client in clients:
                client.join()
            code = running.live.wait(60)
    failed = sum(status != 200 for status in statuses)
    case, note = CASES[2], f"{SLOW} slow and {new} new ones; exit code {code}"
    return [_one(case, "failures", failed, f"of {SLOW + new}", threads, "0", note)]


def fairness(threads: int, rounds: int) -> list[Figure]:
    """Let a tenant send many requests and another then one, under equal shares of device time."""
    x = np.ones((16, 1024), dtype=np.float32)
    waits: list[float] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fusec-bench-") as folder:
        made, log = slow_served(Path(folder), threads), Path(folder) / "decisions.log"
        more = ("--policy", "fair", "--tenant-header", "x-tenant", "--log", str(log))
        with server(made, threads, *more) as running:
            for _ in range(rounds):
                alone += [_timed(running.port, _of("b", x)) for _ in range(5)]
                before = running.submitted()
                many = [Client(running.port) for _ in range(MANY)]
                for client in many:
                    client.ask(_of("a", x))
                end = time.monotonic() + 10
                while time.monotonic() < end:
                    if running.submitted() >= before + MANY:
                        break
                    time.sleep(0.002)
                waits.append(_timed(running.port, _of("b", x)))
                for client in many:
                    while client.hear() is None:
                        pass
                    client.close()
        blocks_ms, started = _read(log)
    behind = [waited / max(blocks_ms) for waited in started]
    case = CASES[3]
    shown = f"{MANY} requests of another tenant before"
    return [
        figure(BENCH, case, "alone", alone, "ms", threads=threads),
        figure(BENCH, case, "behind a flood", waits, "ms", threads=threads, note=shown),
        figure(BENCH, case, "blocks that run", blocks_ms, "ms", threads=threads),
        figure(BENCH, case, "waits to start", behind, "longest blocks", threads=threads,
               asked="<= 3 (two tenants)", note=shown),
    ]  # fmt: skip


def _read(log: Path) -> tuple[list[float], list[float]]:
    """Give what blocks took, and what b waited to start while many of a waited; milliseconds."""
    arrived: dict[int, int] = {}
    flood: set[int] = set()
    blocks: list[float] = []
    waits: list[float] = []
    for decision in read_log(log).decisions:
        for request in decision.change.arrived:
            if request.tenant == "a":
                flood.add(request.id)
            elif len(flood) > MANY / 10:
                arrived[request.id] = request.arrival_ns
        blocks.extend(
            ran.took_ns / 1e6 / sum(part.until - part.block for part in ran.parts)
            for ran in decision.change.ran
        )
        for launch in (a for a in decision.actions if isinstance(a, Launch)):
            flood.difference_update(launch.pack.requests)
            own = [arrived.pop(n) for n in launch.pack.requests if n in arrived]
            waits.extend((decision.at_ns - at_ns) / 1e6 for at_ns in own)
    return blocks, waits


def _of(tenant: str, x: np.ndarray) -> bytes:
    return BINARY.ask("slow", x).replace(b"Host:", f"X-Tenant: {tenant}\r\nHost:".encode(), 1)


def _timed(port: int, request: bytes) -> float:
    begin = time.perf_counter()
    ask_once(port, request)
    return 1e3 * (time.perf_counter() - begin)


def _one(
    case: str, what: str, value: float, unit: str, threads: int, asked: str, note: str = ""
) -> Figure:
    return figure(BENCH, case, what, [value], unit, threads=threads, asked=asked, note=note)


def main() -> None:
    """Run the cases and keep their figures."""
    options = parser(__doc__, seconds=60.0, cases=CASES).parse_args()
    few = options.quick or options.smoke
    ways: dict[str, Callable[[], list[Figure]]] = {
        CASES[0]: lambda: cycles(20 if few else CYCLES, options.threads),
        CASES[1]: lambda: random_requests(
            1.0 if options.smoke else options.seconds, options.threads, 10 if few else 100
        ),
        CASES[2]: lambda: ended(options.threads),
        CASES[3]: lambda: fairness(options.threads, 1 if few else 5),
    }
    for case in options.case or CASES:
        print(f"{case}:", file=sys.stderr, flush=True)
        keep(ways[case](), options.out)


if __name__ == "__main__":
    main()
