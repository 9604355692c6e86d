"""Figures that are no times of runs: what was measured, beside what was asked for.

A bench of these takes the same options as those of `harness`, and gives one row a figure, so that
`fusec bench` starts both kinds and one report shows them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from where import RESULTS, environment, machine_class

METRIC = "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row."""

    bench: str
    case: str
    impl: str
    """What of the case."""
    unit: str
    p20: float
    p50: float
    p80: float
    p99: float
    n: int
    asked: str = ""
    """What it should be, for a reader: "p99 <= 1"."""
    note: str = ""
    threads: int
    metric: str = METRIC


def figure(
    bench: str,
    case: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    threads: int,
    asked: str = "",
    note: str = "",
) -> Figure:
    """Make a row of what was measured, at least once."""
    ordered = sorted(values)
    p20, p50, p80, p99 = (ordered[len(ordered) * p // 100] for p in (20, 50, 80, 99))
    return Figure(
        bench=bench,
        case=case,
        impl=what,
        unit=unit,
        p20=p20,
        p50=p50,
        p80=p80,
        p99=p99,
        n=len(ordered),
        asked=asked,
        note=note,
        threads=threads,
    )


def parser(doc: str | None, *, seconds: float, cases: Sequence[str]) -> argparse.ArgumentParser:
    """Give the options that every bench has."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--case", action="append", choices=cases, help="only this; may be repeated")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the plan")
    made.add_argument("--seconds", type=float, default=seconds, help="per case, about")
    made.add_argument("--quick", action="store_true", help="less of everything")
    made.add_argument("--smoke", action="store_true", help="tiny models, for a second")
    made.add_argument("--out", type=Path, default=RESULTS / f"{machine_class()}.jsonl")
    return made


def keep(figures: Iterable[Figure], out: Path) -> None:
    """Print a table and append the rows to a file."""
    rows = list(figures)
    where = environment()
    print(f"{table([asdict(row) for row in rows])}\n", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.writelines(json.dumps({**asdict(row), **where}) + "\n" for row in rows)


def table(rows: Iterable[Mapping[str, object]]) -> str:
    """Give Markdown of rows as they are in files."""
    lines = ["| case | what | unit | p20 | p50 | p80 | p99 | n | asked |", "|---" * 9 + "|"]
    for row in rows:
        shown = " | ".join(short(row.get(p)) for p in ("p20", "p50", "p80", "p99"))
        name = f"{row['case']} | {row['impl']} | {row['unit']}"
        lines.append(f"| {name} | {shown} | {row['n']} | {row.get('asked') or '-'} |")
    return "\n".join(lines)


def short(value: object) -> str:
    """Give a number with three digits."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
