"""Golden files: missing, differing and unused ones fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from fusec_testing import Golden, golden_path
from fusec_testing.golden import GOLDEN, TESTS


def test_missing_and_differing_text_fails(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "test_a.txt"
    with pytest.raises(AssertionError, match="no golden file"):
        Golden(path, update=False).check("one")
    Golden(path, update=True).check("one")
    Golden(path, update=False).check("one")
    with pytest.raises(AssertionError, match="differs"):
        Golden(path, update=False).check("two")


def test_parameters_become_file_names() -> None:
    path = golden_path(TESTS / "passes" / "test_x.py", "test_y[a/b-1]")
    assert path == GOLDEN / "passes" / "test_x" / "test_y_a_b-1.txt"


def test_every_golden_file_is_used(request: pytest.FixtureRequest) -> None:
    """Only files of modules that this run collected whole are judged."""
    config = request.config
    narrowed = config.option.keyword or config.option.markexpr not in ("", "not slow")
    if narrowed or any("::" in arg for arg in config.args):
        pytest.skip("part of a module may be deselected")
    used: dict[Path, set[Path]] = {}
    for item in request.session.items:
        path = golden_path(item.path, item.name)
        files = used.setdefault(path.parent, set())
        if "golden" in getattr(item, "fixturenames", ()):
            files.add(path)
    for path in GOLDEN.rglob("*.txt"):
        test_file = (TESTS / path.parent.relative_to(GOLDEN)).with_suffix(".py")
        assert test_file.is_file(), f"{path} belongs to no test file"
        if path.parent in used:
            assert path in used[path.parent], f"{path} is used by no test"
