"""All cases of the installed onnx, eagerly and as plans, against the list of expected failures.

``make conformance`` runs all of it and prints the counts. A plain run of the test suite takes every
case eagerly and a fixed part of the cases as plans.
"""

import zlib
from collections.abc import Callable, Iterable

import cases
import expected
import pytest
import ways

# What the cases of onnx 1.23.2 must reach.
_LEAST_EAGER = 1600
_LEAST_PROGRAM = 1150
_PARTS = 8


def _check(
    way: str, run: Callable[[cases.Case], ways.Result | None], found: Iterable[cases.Case]
) -> int:
    """Run cases, compare with the list, print the count and return it."""
    results = [result for case in found if (result := run(case)) is not None]
    passed = sum(not result.reason for result in results)
    kinds = ", ".join(sorted({result.kind for result in results}))
    print(f"\n{kinds}: {passed} of {len(results)} pass ({way})")
    assert results
    lines = expected.surprises(way, results)
    assert not lines, "\n" + "\n".join(lines)
    return passed


@pytest.mark.parametrize("kind", cases.KINDS)
def test_eager(kind: str) -> None:
    found = list(cases.cases(kind))
    unknown = expected.unknown(kind, {case.name for case in found})
    assert not unknown, f"listed, but there are no such cases: {unknown}"
    passed = _check("eager", ways.eager, found)
    if kind == "node":
        assert passed >= _LEAST_EAGER


def test_program_of_some() -> None:
    """Take one in eight of the generated cases, by name."""
    found = [c for c in cases.cases("node") if zlib.crc32(c.name.encode()) % _PARTS == 0]
    _check("program", ways.program, found)


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator", "pytorch-converted"])
def test_program_of_stored(kind: str) -> None:
    _check("program", ways.program, cases.cases(kind))


@pytest.mark.slow
def test_program_of_all() -> None:
    assert _check("program", ways.program, cases.cases("node")) >= _LEAST_PROGRAM


@pytest.mark.slow
def test_program_of_real_networks() -> None:
    _check("program", ways.program, cases.cases("light"))
