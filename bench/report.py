"""Turns benchmark rows into one Markdown table, for the terminal or for the README."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from where import RESULTS, ROOT

BEGIN, END = "<!-- bench table -->", "<!-- end of bench table -->"
Row = Mapping[str, object]


def read(files: Iterable[Path]) -> list[Row]:
    """Return the newest run of every case, implementation and thread count."""
    newest: dict[tuple[object, ...], Row] = {}
    for path in files:
        for line in path.read_text().splitlines():
            row: Row = json.loads(line)
            if row["metric"] == "run":
                newest[tuple(row[k] for k in ("bench", "case", "impl", "threads"))] = row
    return list(newest.values())


def table(rows: list[Row]) -> str:
    """Return the median times in milliseconds, one line per case and thread count.

    The fastest of a line is bold, so that the cases where fusec loses are as visible as the rest.
    """
    impls = list(dict.fromkeys(str(row["impl"]) for row in rows))
    lines = [
        "| case | threads | " + " | ".join(impls) + " |",
        "| --- | --- |" + " --- |" * len(impls),
    ]
    cases = dict.fromkeys((str(row["case"]), row["threads"]) for row in rows)
    for case, threads in cases:
        here = {r["impl"]: r for r in rows if (r["case"], r["threads"]) == (case, threads)}
        times = {k: float(str(r["p50"])) for k, r in here.items() if r["p50"] is not None}
        best = min(times.values(), default=None)
        cells = [_cell(times.get(impl), best) for impl in impls]
        lines.append(f"| {case} | {threads} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _source(rows)])


def _cell(time_us: float | None, best: float | None) -> str:
    if time_us is None:
        return "-"
    text = f"{time_us / 1e3:.2f}" if time_us < 1e5 else f"{time_us / 1e3:.0f}"
    return f"**{text}**" if time_us == best else text


def _source(rows: list[Row]) -> str:
    """Say on what machine and with which versions the rows were made."""
    devices = " and ".join(sorted({f"{row['device']}, {row['cores']} cores" for row in rows}))
    versions = sorted({f"torch {row['torch']}, onnxruntime {row['onnxruntime']}" for row in rows})
    return f"Medians in milliseconds for all members together. {devices}; {'; '.join(versions)}."


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or put it into the README between its two marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="all of bench/results by default")
    parser.add_argument("--readme", action="store_true", help="rewrite the table in README.md")
    options = parser.parse_args(arguments)
    files = options.files or sorted(RESULTS.glob("*.jsonl"))
    rows = read(files)
    if not rows:
        sys.exit(f"no rows in {[str(path) for path in files] or RESULTS}")
    text = table(rows)
    if not options.readme:
        print(text)
        return
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
