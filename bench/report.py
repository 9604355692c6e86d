"""Turns benchmark rows into a Markdown table and a page with plots."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from page import page
from rows import (
    LIMIT,
    OURS,
    Row,
    best_of,
    cases,
    milliseconds,
    number,
    order,
    read,
    runs,
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
    columns = list(impls or _columns(rows))
    lines = [
        "| case | threads | " + " | ".join(columns) + " | fusec against the best peer |",
        "| --- | --- |" + " --- |" * (len(columns) + 1),
    ]
    for (_, case, threads), here in cases(rows).items():
        fastest = best_of({impl: here[impl] for impl in columns if impl in here})
        cells = []
        for impl in columns:
            text = milliseconds(number(here.get(impl)))
            cells.append(f"**{text}**" if impl == fastest else text)
        lines.append(f"| {case} | {threads} | {' | '.join(cells)} | {verdict(here)} |")
    note = f"Medians in milliseconds for all members together. {source(rows)}."
    return "\n".join([*lines, "", note])


def _columns(rows: Sequence[Row]) -> list[str]:
    """Return implementations that have a part in more than one case; the page has all."""
    count = Counter(impl for here in cases(rows).values() for impl in here)
    return order(impl for impl, n in count.items() if n > 1 or len(cases(rows)) == 1)


def for_readme(rows: Sequence[Row]) -> str:
    """Return the table of the main cases and peers."""
    chosen = [
        row for row in rows if row["bench"] in README_BENCHES and " of " not in str(row["case"])
    ]
    return table(chosen, [*README_IMPLS, LIMIT])


def main(arguments: list[str] | None = None) -> None:
    """Print the table and write the page; or put the main cases into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="this machine's of bench/results by default, or all"
    )
    parser.add_argument("--readme", action="store_true", help="rewrite the table in README.md")
    parser.add_argument("--html", type=Path, default=RESULTS / "report.html")
    options = parser.parse_args(arguments)
    own = RESULTS / f"{machine_class()}.jsonl"
    files = options.files or ([own] if own.is_file() else sorted(RESULTS.glob("*.jsonl")))
    rows = read(files)
    if not runs(rows):
        sys.exit(f"no rows in {[str(path) for path in files] or RESULTS}")
    if not options.readme:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page(rows))
        print(table(rows))
        print(f"page: {options.html}", file=sys.stderr)
        return
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{for_readme(rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
