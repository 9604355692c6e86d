"""All cases of the installed onnx, eagerly and captured, against the list of expected failures."""

import cases
import expected
import pytest
import ways

# What the installed onnx 1.23.2 must reach; another version generates other cases.
_LEAST_EAGER = 1600
_LEAST_PROGRAM = 1150


def _check(way: str, kind: str, results: list[ways.Result]) -> None:
    assert results
    lines = expected.surprises(way, results)
    lines += [f"UNKNOWN {name} ({way}) is listed" for name in expected.unknown(way, kind, results)]
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("kind", cases.KINDS)
def test_eager(kind: str) -> None:
    results = [ways.eager(case) for case in cases.cases(kind)]
    _check("eager", kind, results)
    if kind == "node":
        assert sum(not result.reason for result in results) >= _LEAST_EAGER


@pytest.mark.parametrize("kind", [kind for kind in cases.KINDS if kind != "light"])
def test_program(kind: str) -> None:
    results = [result for case in cases.cases(kind) if (result := ways.program(case))]
    _check("program", kind, results)
    if kind == "node":
        assert sum(not result.reason for result in results) >= _LEAST_PROGRAM


@pytest.mark.slow
def test_program_light() -> None:
    results = [result for case in cases.cases("light") if (result := ways.program(case))]
    _check("program", "light", results)
