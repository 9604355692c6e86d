"""Rows of result files, read for the report: the newest of each, and what to make of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

Row = Mapping[str, object]
OURS = "fusec cpu"
LIMIT = "limit: weights read once"
FIRST = (OURS, "torch", "torch.compile", "torch.func", "torch.func compiled", "onnxruntime")


def read(files: Iterable[Path]) -> list[Row]:
    """Return the newest row of every case, implementation, thread count and metric."""
    newest: dict[tuple[object, ...], Row] = {}
    for path in files:
        for line in path.read_text().splitlines():
            row: Row = json.loads(line)
            if row["metric"] != "build":
                newest[tuple(row[k] for k in ("bench", "case", "impl", "threads", "metric"))] = row
    return list(newest.values())


def runs(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of times."""
    return [row for row in rows if row["metric"] == "run"]


def cases(rows: Iterable[Row]) -> dict[tuple[str, str, int], dict[str, Row]]:
    """Return the times of each bench, case and thread count, by implementation."""
    table: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in runs(rows):
        key = str(row["bench"]), str(row["case"]), int(str(row["threads"]))
        table.setdefault(key, {})[str(row["impl"])] = row
    return table


def number(row: Row | None, key: str = "p50") -> float | None:
    """Return a number of a row, None where there is none."""
    value = None if row is None else row.get(key)
    return float(value) if isinstance(value, int | float) else None


def order(impls: Iterable[str]) -> list[str]:
    """Put implementations in the order of tables: fusec first, limits last."""
    known = list(dict.fromkeys(impls))
    rank = {name: i for i, name in enumerate(FIRST)}
    return sorted(known, key=lambda n: (n.startswith("limit"), rank.get(n, len(rank)), n))


def times(here: Mapping[str, Row]) -> dict[str, float]:
    """Return the times of a case, of those only that gave the answers: limits and parts did not."""
    found = {}
    for name, row in here.items():
        time, difference = number(row), number(row, "difference")
        if time is not None and difference is not None and not math.isnan(difference):
            found[name] = time
    return found


def best_of(here: Mapping[str, Row]) -> str | None:
    """Return the fastest implementation of a case."""
    known = times(here)
    return min(known, key=lambda name: known[name]) if known else None


def shared(rows: Iterable[Row]) -> list[str]:
    """Return the implementations for the columns of a table: those of more than one bench."""
    rows = runs(rows)
    homes: dict[str, set[str]] = {}
    for row in rows:
        homes.setdefault(str(row["impl"]), set()).add(str(row["bench"]))
    one_bench = len({row["bench"] for row in rows}) == 1
    return order(impl for impl, benches in homes.items() if len(benches) > 1 or one_bench)


def best_peer(here: Mapping[str, Row]) -> tuple[str, float] | None:
    """Return the fastest implementation of a case that is not fusec's, and its time."""
    peers = [(time, name) for name, time in times(here).items() if not name.startswith("fusec")]
    return min(peers)[::-1] if peers else None


def verdict(here: Mapping[str, Row]) -> str:
    """Say how fusec compares with the best peer; slower as plainly as faster."""
    ours, peer = times(here).get(OURS), best_peer(here)
    if ours is None or peer is None:
        return "-"
    name, theirs = peer
    if theirs >= ours:
        return f"{theirs / ours:.2f}x faster ({name})"
    return f"{ours / theirs:.2f}x slower ({name})"


def milliseconds(time_us: float | None) -> str:
    """Return a time for a table."""
    if time_us is None:
        return "-"
    return f"{time_us / 1e3:.{3 if time_us < 1e3 else 2 if time_us < 1e5 else 0}f}"


def source(rows: Iterable[Row]) -> str:
    """Say on what machine and with which versions the rows were made."""
    rows = list(rows)
    devices = " and ".join(sorted({f"{row['device']}, {row['cores']} cores" for row in rows}))
    names = ("torch", "onnxruntime", "openvino")
    versions = sorted(
        {", ".join(f"{k} {row[k]}" for k in names if row.get(k)) for row in rows} - {""}
    )
    return f"{devices}; {'; '.join(versions)}"
