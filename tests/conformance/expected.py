"""The checked-in list of cases that are expected to fail, each with its reason."""

from pathlib import Path
from typing import Final

import ways

_LIST: Final = Path(__file__).with_name("expected_failures.txt")


def expected(way: str) -> dict[str, str]:
    """Return the reason by case name for one way of running (``eager`` or ``program``).

    A line is ``way kind/name: reason``; ``both`` stands for either way.
    """
    found: dict[str, str] = {}
    for line in _LIST.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, reason = line.partition(": ")
        ways_of, name = head.split()
        if ways_of not in ("eager", "program", "both") or not reason.strip():
            raise ValueError(f"{_LIST.name}: bad line: {line}")
        if ways_of in (way, "both"):
            if name in found:
                raise ValueError(f"{_LIST.name}: {name} is listed twice")
            found[name] = reason.strip()
    return found


def surprises(way: str, results: list[ways.Result]) -> list[str]:
    """Return one line per case that passed or failed against the list."""
    listed = expected(way)
    lines = []
    for result in results:
        name = f"{result.kind}/{result.name}"
        if result.reason and name not in listed:
            lines.append(f"FAILS {name} ({way}): {result.reason[:400]}")
        elif not result.reason and name in listed:
            lines.append(f"PASSES {name} ({way}), listed as: {listed[name]}")
    return lines


def unknown(kind: str, names: set[str]) -> list[str]:
    """Return the listed names of a kind that are not among the names of its cases."""
    listed = {name for way in ("eager", "program") for name in expected(way)}
    known = {f"{kind}/{name}" for name in names}
    return sorted(name for name in listed - known if name.startswith(f"{kind}/"))
