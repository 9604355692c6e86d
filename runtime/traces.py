"""Recorded arrivals: the files of others, told apart by their headers.

    at_ms,model[,tenant][,deadline_ms]   our own; with a column mix, one of several traces
    TIMESTAMP,ContextTokens,...          Azure LLM inference 2023
    app,func,end_timestamp,duration      Azure Functions 2021 (a function is a tenant)
    {"timestamp": ms, ...} per line      Mooncake

Where a trace names no model, its rows are dealt out by a hash of the row, so that the same row is
the same model in every run. Stretching multiplies all times: 2 is half the load.
"""

import csv
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from fusec.ir.errors import ConfigError
from fusec.runtime.arrivals import Mix
from fusec.runtime.sched.records import Request

__all__ = ["read_trace"]

_MS, _S = 1_000_000, 1_000_000_000


def read_trace(
    path: Path, mix: Mix, *, stretch: float = 1.0, which: str | None = None, n: int | None = None
) -> tuple[Request, ...]:
    """Read a trace as requests, numbered in order of arrival, the first at time 0.

    Args:
        path: .csv or .jsonl file.
        mix: models, tenants and deadlines of what the trace does not say.
        stretch: factor of all times.
        which: the mix to take, of a file that has several.
        n: at most that many requests.

    Raises:
        ConfigError: no trace, or one of an unknown kind; the message names file and line.
    """
    if not 0 < stretch < 1e6:
        raise ConfigError(f"stretch {stretch}: wanted a number above 0")
    number = 1
    rows: list[tuple[int, str | None, str | None, int | None, str]] = []
    try:
        for number, row in _rows(path):  # noqa: B007  # the error says it
            if which is None or row.get("mix") == which:
                rows.append(_parsed(row))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path}, line {number}: no trace row ({type(e).__name__}: {e})") from e
    if not rows:
        raise ConfigError(f"{path}: no requests{'' if which is None else f' of mix {which!r}'}")
    rows.sort(key=lambda r: r[0])
    first = rows[0][0]
    requests = []
    for i, (at, model, tenant, deadline, text) in enumerate(rows[:n]):
        hashed = zlib.crc32(text.encode())
        if model is None:
            model = tuple(mix.models)[hashed % len(mix.models)]
        if tenant is None:
            tenant = mix.tenants[hashed // 7 % len(mix.tenants)]
        request = mix.of(i, round((at - first) * stretch), model, tenant)
        if deadline is not None:
            request = _due(request, deadline)
        requests.append(request)
    return tuple(requests)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    with path.open(newline="") as file:
        if path.suffix == ".jsonl":
            for number, line in enumerate(file, start=1):
                data = json.loads(line)
                yield number, {k: str(data[k]) for k in ("timestamp", "input_length")}
        else:
            yield from enumerate(csv.DictReader(file), start=2)


def _parsed(row: Mapping[str, str]) -> tuple[int, str | None, str | None, int | None, str]:
    """Give time, model, tenant, deadline after arrival, and the text that a hash is taken of."""
    if "at_ms" in row:
        deadline = row.get("deadline_ms") or None
        after = None if deadline is None else round(float(deadline) * _MS)
        text = ",".join(map(str, row.values()))
        return (
            round(float(row["at_ms"]) * _MS),
            row.get("model") or None,
            row.get("tenant"),
            after,
            text,
        )
    if "TIMESTAMP" in row:
        whole, _, part = row["TIMESTAMP"].partition(".")
        seconds = int((datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds())
        at = seconds * _S + int(part.ljust(9, "0")[:9])
        return at, None, None, None, ",".join(row.values())
    if "end_timestamp" in row:
        start = float(row["end_timestamp"]) - float(row["duration"])
        return round(start * _S), None, row["func"][:8], None, row["func"]
    if "timestamp" in row:
        return int(row["timestamp"]) * _MS, None, None, None, ",".join(row.values())
    raise ValueError(f"unknown columns {sorted(row)}")


def _due(request: Request, after_ns: int) -> Request:
    return Request(
        id=request.id,
        model=request.model,
        template=request.template,
        tenant=request.tenant,
        arrival_ns=request.arrival_ns,
        deadline_ns=request.arrival_ns + after_ns,
    )
