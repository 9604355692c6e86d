"""Everything that is to be shown on a card, in one command and under eight minutes.

Needs torch, Triton and numpy, as images for cards have them, and this checkout. Runs the tests that
want a card where pytest is, then all cases with all peers; writes rows and a Markdown table under
`bench/results/`, named after the card. With `--dry-run` the same path is walked on a machine
without a card: small sizes, kernels in Triton's interpreter, PyTorch on processors.

    python bench/gpu_all.py
    python bench/gpu_all.py --dry-run
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_card import Card

if TYPE_CHECKING:
    from harness import Row

ROOT = Path(__file__).resolve().parents[1]
BUDGET_S = 460.0


def cases(card: Card, seconds: float) -> Mapping[str, Callable[[], Sequence[Row]]]:
    """Name all cases. Models are imported late: Triton's interpreter has to be chosen before."""
    import gpu_cases
    import gpu_persistent
    import gpu_traffic

    return {
        "isolation": lambda: [
            row for name in ("wakewords", "resnet") for row in gpu_cases.isolation_rows(card, name)
        ],
        "wakewords": partial(gpu_cases.fleet_rows, card, "wakewords", seconds),
        "bert": partial(gpu_cases.fleet_rows, card, "bert", seconds),
        "resnet": partial(gpu_cases.fleet_rows, card, "resnet", seconds),
        "half": partial(gpu_cases.half_rows, card, "wakewords", seconds),
        "half of bert": partial(gpu_cases.half_rows, card, "bert", seconds),
        "pairs": partial(gpu_persistent.pair_rows, card, seconds),
        "urgent": partial(gpu_persistent.urgent_rows, card),
        "mixture": partial(gpu_traffic.rows, card, seconds),
    }


def tests(card: Card) -> str:
    """Run the tests that want a card; say what came of it."""
    if card.dry:
        return "left out: there is no card"
    if importlib.util.find_spec("pytest") is None:
        return "left out: there is no pytest"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/runtime/cuda"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return "not done within 120 s"
    return (done.stdout.strip().splitlines() or ["no word"])[-1]


def table(rows: Sequence[Row], header: Sequence[str]) -> str:
    """Give Markdown."""
    lines = [*header, "", "| case | implementation | what | p50 | p20 to p80 | off by | note |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        if row.metric == "build":
            continue
        off = "" if row.difference is None else f"{row.difference:.1e}"
        middle = "-" if row.p50 is None else f"{row.p50:,.1f} {row.unit}"
        around = "-" if row.p20 is None or row.p80 is None else f"{row.p20:,.1f} to {row.p80:,.1f}"
        cells = (row.case, row.impl, row.metric, middle, around, off, row.note.replace("|", "/"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, print as it goes, write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="without a card, small sizes")
    parser.add_argument("--seconds", type=float, help="of a case's timing; 12, or 0 in a dry run")
    parser.add_argument("--only", action="append", help="a case; may be given more than once")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    card = Card(options.dry_run)
    seconds = options.seconds if options.seconds is not None else 0.0 if card.dry else 12.0
    from where import environment

    begin, rows, header = time.monotonic(), [], [f"# {card.name}", ""]
    where = environment()
    header += [f"Tests that want a card: {tests(card)}."]
    for name, run in cases(card, seconds).items():
        if options.only and name not in options.only:
            continue
        if time.monotonic() - begin > BUDGET_S:
            header.append(f"Left out for want of time: {name}.")
            continue
        started = time.monotonic()
        try:
            made = list(run())
        except Exception as error:  # noqa: BLE001 - the other cases are worth having
            traceback.print_exc()
            header.append(f"Case {name} failed: {' '.join(str(error).split())[:300]}.")
            continue
        rows += made
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    text = table(rows, header)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"gpu-{card.name}"
    path.with_suffix(".md").write_text(text)
    with path.with_suffix(".jsonl").open("w") as file:
        file.writelines(json.dumps({**asdict(row), **where}, default=str) + "\n" for row in rows)
    print(f"written to {path}.md and .jsonl in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
