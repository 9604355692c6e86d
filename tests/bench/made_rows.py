"""Made-up results of every kind that the report shows."""

from __future__ import annotations

from collections.abc import Iterator

PEERS = {
    "fusec cpu": 1.0,
    "torch": 9.0,
    "torch.func": 4.0,
    "torch.func compiled": 2.0,
    "onnxruntime": 1.7,
    "openvino": 2.5,
}
WHERE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "utc": "2030-01-02T03:04:05+00:00",
    "device": "A <processor>",
    "cores": 2,
    "torch": "2.13.0",
    "onnxruntime": "1.32.0",
    "openvino": "",
    "seed": 20,
    "n": 9,
}


def row(case: str, impl: str, p50: float | None, **more: object) -> dict[str, object]:
    """Return one row as a bench would write it."""
    made: dict[str, object] = {
        "bench": "fleets",
        "case": case,
        "impl": impl,
        "metric": "run",
        "unit": "us",
        "p20": p50,
        "p50": p50,
        "p80": p50,
        "difference": None if impl.startswith("limit") else 1e-7,
        "note": "",
        "threads": 1,
        "flops": None,
        "moved_bytes": None,
        "axis": {},
        **WHERE,
    }
    return {**made, **more}


def every_kind() -> Iterator[dict[str, object]]:
    """Yield limits, cases won and lost, sweeps, memory, a peer that failed."""
    for threads in (1, 2):
        for metric, unit, value in (("read", "GB/s", 28.0), ("arithmetic", "GFLOP/s", 170.0)):
            limits = {"bench": "machine", "metric": metric, "unit": unit, "threads": threads}
            yield row("limits", "machine", value * threads, **limits)
        for case, us, work in (
            ("mlp", 600.0, 8.6e6),
            ("cnn", 700.0, 9e7),
            ("lost & found", 5.0, 1e4),
        ):
            more = {
                "threads": threads,
                "flops": work,
                "moved_bytes": 1.7e7 if case == "mlp" else 1.6e6,
            }
            for impl, factor in PEERS.items():
                lost = case.startswith("lost") and impl == "onnxruntime"
                yield row(case, impl, us / threads * (0.5 if lost else factor), **more)
            yield row(case, "limit: weights read once", us / threads * 0.8, **more)
        for axis, points in {
            "members": (1, 2, 4, 8, 16, 32, 64),
            "batch": (1, 2, 4, 8, 16, 32),
            "active share": (1 / 64, 1 / 16, 0.25, 0.5, 1.0),
        }.items():
            for at in points:
                for impl, factor in PEERS.items():
                    time = 40 * at**0.9 * factor + 20
                    more = {"bench": "sweep", "axis": {axis: at}, "threads": threads}
                    yield row(f"mlp, {at} {axis}", impl, time, **more)
    memory = {"metric": "resident memory", "unit": "MB", "bench": "backbone"}
    yield row("64 heads", "fusec cpu", 50.0, **memory)
    yield row("64 heads", "onnxruntime", 900.0, **memory)
    yield row("mlp", "torch.compile", None, difference=None, note="RuntimeError: <no> compiler")
    stop = {"bench": "serve_preempt", "metric": "figure", "unit": "ms", "asked": "p99 <= 1"}
    yield row("a stop within a batch", "small waits more", 0.5, p99=0.75, **stop)
