"""Golden text: what a test printed last time, kept beside the tests and reviewed as a diff."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = TESTS / "golden"


def golden_path(test_file: Path, test_name: str) -> Path:
    """Return where the golden text of a test is, its parameters made fit for a file name."""
    folder = GOLDEN / test_file.relative_to(TESTS).with_suffix("")
    return folder / (re.sub(r"[^\w.-]+", "_", test_name).strip("_") + ".txt")


class Golden:
    """Compares one text per test with its golden file, or rewrites the file."""

    def __init__(self, path: Path, *, update: bool) -> None:
        self.path = path
        self.update = update

    def check(self, text: str) -> None:
        """Fail unless `text` is the golden text; a missing file fails too."""
        text = text.rstrip("\n") + "\n"
        if self.update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text)
        assert self.path.is_file(), f"no golden file {self.path}; run pytest --update-golden"
        assert text == self.path.read_text(), f"{self.path} differs; run pytest --update-golden"
