"""Where the time of one request goes: each part of a call, over HTTP and over gRPC.

read     bytes of a request -> arrays, checked
submit   the runtime's `submit`, the decision and the start of a lane included
waits    from there to the first kernel
runs     kernels of a 256-512-512-10 perceptron, and their answer
knows    from there to the thread, or the event loop, that waited
write    answer -> bytes

    python bench/serve_parts.py --rounds 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import mlp
from serve_costs import rows_of
from where import RESULTS, environment, machine_class

import fusec
from fusec.runtime.serving.answer import awaited
from fusec.server.datatypes import BY_FUSEC
from fusec.server.grpccodec import read_infer_message, write_infer_message
from fusec.server.grpctypes import types
from fusec.server.limits import Limits
from fusec.server.messages import InferResponse, Tensor
from fusec.server.restrequest import read_infer
from fusec.server.restresponse import write_infer

WIDTHS = (256, 512, 512, 10)
MODELS = 100
Times = dict[str, list[float]]


def wires(rounds: int) -> Times:
    """Time what is read and written; microseconds."""
    x = np.random.standard_normal((1, WIDTHS[0])).astype(np.float32)
    y = np.random.standard_normal((1, WIDTHS[-1])).astype(np.float32)
    limits, made = Limits(), types()
    tensor: dict[str, Any] = {"name": "input", "shape": list(x.shape), "datatype": "FP32"}
    head = {**tensor, "parameters": {"binary_data_size": x.nbytes}}
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    plain = json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode()
    message = made["ModelInferRequest"](model_name="m")
    message.inputs.add(name="input", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    sent, binary = message.SerializeToString(), text + x.tobytes()
    answer = InferResponse(
        id="", model="m", version="1", outputs=(Tensor("y", BY_FUSEC["float32"], y),)
    )
    of_request, to_answer = made["ModelInferRequest"].FromString, made["ModelInferResponse"]
    return {
        "HTTP, binary: read": _timed(lambda: read_infer(binary, len(text), limits), rounds),
        "HTTP, binary: write": _timed(lambda: write_infer(answer, (True,)), rounds),
        "HTTP, JSON: read": _timed(lambda: read_infer(plain, None, limits), rounds),
        "HTTP, JSON: write": _timed(lambda: write_infer(answer, (False,)), rounds),
        "gRPC: read": _timed(lambda: read_infer_message(of_request(sent), limits), rounds),
        "gRPC: write": _timed(
            lambda: write_infer_message(answer, True, to_answer).SerializeToString(), rounds
        ),
    }


def calls(rounds: int, threads: int) -> Times:
    """Time the parts of calls to a runtime, from a thread and from an event loop; microseconds."""
    torch.manual_seed(20)
    models = {f"m{n}": mlp(WIDTHS).eval() for n in range(MODELS)}
    plan = fusec.compile(models, examples={"*": torch.zeros(1, WIDTHS[0])}, threads=threads)
    x = np.random.standard_normal((1, WIDTHS[0])).astype(np.float32)
    names = [f"m{turn * 7 % MODELS}" for turn in range(rounds)]
    parts = ("submit", "waits", "runs", "knows", "all")
    times: Times = {f"a thread: {part}": [] for part in parts}
    times |= {"a loop: submit": [], "a loop: all": [], "plan.run": []}
    ends: list[int] = []

    def note(*stamps: int) -> None:
        spent = [b - a for a, b in pairwise(stamps)]
        for part, ns in zip(parts, [*spent, stamps[-1] - stamps[0]], strict=True):
            times[f"a thread: {part}"].append(ns / 1e3)

    with fusec.Runtime(plan) as runtime:

        def ask(name: str) -> tuple[int, int, Any]:
            begin = time.monotonic_ns()
            future: Any = runtime.submit(name, x)
            submitted = time.monotonic_ns()
            future.tell(lambda _: ends.append(time.monotonic_ns()))
            return begin, submitted, future

        async def on_a_loop() -> None:
            for name in names:
                begin = time.monotonic_ns()
                future: Any = runtime.submit(name, x)
                submitted = time.monotonic_ns()
                await awaited(future)
                times["a loop: submit"].append((submitted - begin) / 1e3)
                times["a loop: all"].append((time.monotonic_ns() - begin) / 1e3)

        for turn, name in enumerate(names):
            begin = time.monotonic_ns()
            plan.run({name: x})
            run = time.monotonic_ns() - begin
            begin, submitted, future = ask(name)
            future.result()
            now = time.monotonic_ns()
            if turn < MODELS:
                ends.clear()  # memory is cold
                continue
            times["plan.run"].append(run / 1e3)
            while not ends:  # the note is taken just after clients are told
                time.sleep(0)
            end = ends.pop()
            note(begin, submitted, max(submitted, future.start.at_ns), end, max(now, end))
        asyncio.run(on_a_loop())
    return times


def _timed(call: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begin) / 1e3)
    return taken


def main() -> None:
    """Measure, print a table, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    name = f"{machine_class()}-serving.jsonl"
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    options = parser.parse_args()
    times = {**calls(options.rounds, options.threads), **wires(options.rounds)}
    rows = [rows_of("parts of a call", what, own, "us") for what, own in times.items()]
    where = {**environment(), "threads": options.threads}
    print("| part | p20 us | p50 us | p99 us |\n|---|---|---|---|")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a") as file:
        for row in rows:
            print(f"| {row['impl']} | {row['p20']:.1f} | {row['p50']:.1f} | {row['p99']:.1f} |")
            file.write(json.dumps({**row, **where}) + "\n")


if __name__ == "__main__":
    main()
