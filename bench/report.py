"""Turns benchmark rows into a Markdown table and a page with plots."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import figures
from page import page
from rows import (
    LIMIT,
    OURS,
    Row,
    best_of,
    cases,
    milliseconds,
    number,
    read,
    runs,
    shared,
    source,
    verdict,
)
from where import RESULTS, ROOT, machine_class

BEGIN, END = "<!-- bench table -->", "<!-- end of bench table -->"
README_BENCHES = ("fleets", "wakewords", "encoder")
README_IMPLS = (OURS, "torch", "torch.func compiled", "onnxruntime", "openvino")


def table(rows: Sequence[Row], impls: Sequence[str] | None = None) -> str:
    """Return the median times in milliseconds, one line per case and thread count.

    The fastest of a line is bold and the last column says how fusec compares with the best peer, so
    that the cases where it loses are as visible as the rest.

    Args:
        rows: of result files.
        impls: the columns; all by default. Whoever has none is still in the last column.
    """
    columns = list(impls or shared(rows))
    lines = [
        "| case | threads | " + " | ".join(columns) + " | fusec against the best peer |",
        "| --- | --- |" + " --- |" * (len(columns) + 1),
    ]
    for (_, case, threads), here in cases(rows).items():
        cells = [_cell(here, impl, columns) for impl in columns]
        lines.append(f"| {case} | {threads} | {' | '.join(cells)} | {verdict(here)} |")
    note = f"Medians in milliseconds for all members together. {source(rows)}."
    return "\n".join([*lines, "", note])


def for_readme(rows: Sequence[Row]) -> str:
    """Return the table of the main cases and peers, all thread counts of a case in one line."""
    chosen = [
        row
        for row in rows
        if row["bench"] in README_BENCHES
        and not any(word in str(row["case"]) for word in (" of ", " rows"))
    ]
    table = cases(chosen)
    counts = sorted({threads for *_, threads in table})
    told = " / ".join(str(n) for n in counts)
    columns = [impl for impl in (*README_IMPLS, LIMIT) if any(impl in h for h in table.values())]
    lines = [
        "| case | " + " | ".join(columns) + " | against the best peer |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    for case in dict.fromkeys(case for _, case, _ in table):
        here = [h for n in counts for (_, c, t), h in table.items() if (c, t) == (case, n)]
        cells = [" / ".join(_cell(one, impl, columns) for one in here) for impl in columns]
        lines.append(f"| {case} | {' | '.join(cells)} | {' / '.join(map(verdict, here))} |")
    note = f"Medians in milliseconds for all members together, {told} threads. {source(chosen)}."
    return "\n".join([*lines, "", note])


def _cell(here: Mapping[str, Row], impl: str, columns: Sequence[str]) -> str:
    """Return a time, bold if no other column has a shorter one."""
    text = milliseconds(number(here.get(impl)))
    return f"**{text}**" if impl == best_of({k: here[k] for k in columns if k in here}) else text


def _json(rows: Sequence[Row]) -> str:
    """Return rows as JSON, which has no NaN."""
    plain = [{k: None if v != v else v for k, v in row.items()} for row in rows]
    return json.dumps({"rows": plain}, indent=2, allow_nan=False)


def main(arguments: list[str] | None = None) -> None:
    """Print the table and write the page; or put the main cases into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="this machine's of bench/results by default, or all"
    )
    parser.add_argument("--readme", action="store_true", help="rewrite the table in README.md")
    parser.add_argument("--json", action="store_true", help="print the rows, not the table")
    parser.add_argument("--html", type=Path, default=RESULTS / "report.html")
    options = parser.parse_args(arguments)
    own = RESULTS / f"{machine_class()}.jsonl"
    files = options.files or ([own] if own.is_file() else sorted(RESULTS.glob("*.jsonl")))
    rows = read(files)
    if not rows:
        sys.exit(f"no rows in {[str(path) for path in files] or RESULTS}")
    if not options.readme:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page(rows))
        asked = [row for row in rows if row["metric"] == figures.METRIC]
        tables = [table(rows)] * bool(runs(rows)) + [figures.table(asked)] * bool(asked)
        print(_json(rows) if options.json else "\n\n".join(tables))
        print(f"page: {options.html}", file=sys.stderr)
        return
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{for_readme(rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
