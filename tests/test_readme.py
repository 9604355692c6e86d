"""The README: short, its sample runs and prints what is shown, its links and targets exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "passes").is_dir(), reason="not a checkout")
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_the_sample_prints_what_is_shown(tmp_path: Path) -> None:
    (sample,) = blocks("python")
    shown = blocks("text")[0]
    call = [sys.executable, "-W", "error", "-c", sample]
    run = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == shown.strip()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_named_folders_exist() -> None:
    folders = re.findall(r"`([\w/]+)/`", TEXT)
    assert {"fusec", "kernels", "passes", "runtime", "tests", "bench"} <= set(folders)
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        word for words in re.findall(r"`make ([a-z -]+?)[ `A-Z]", TEXT) for word in words.split()
    }
    assert {"demo", "test", "bench", "conformance"} <= named
    assert named <= targets


def test_named_commands_exist() -> None:
    from typer.main import get_command

    from fusec.cli.app import app

    named = {
        line.split()[1]
        for block in blocks("text")
        for line in block.splitlines()
        if line.startswith("fusec ")
    }
    known = set(get_command(app).commands)
    assert named == known
