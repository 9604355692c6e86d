"""The bench for cards walks its whole path without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "gpu_all.py"


def test_a_dry_run_walks_through_cases_and_writes_rows(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    command = [sys.executable, str(BENCH), "--dry-run", "--only", "wakewords", "--only", "urgent"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "gpu-dry-run.md").read_text()
    assert "failed" not in text and "Error" not in text
    rows = [json.loads(s) for s in (tmp_path / "gpu-dry-run.jsonl").read_text().splitlines()]
    found = {(row["case"], row["impl"]): row for row in rows if row["metric"] != "build"}
    ours = found["wakewords, 4 members", "fusec"]
    assert ours["difference"] is not None or ours["unit"] == "count"
    timed = [row for row in rows if row["impl"] == "fusec" and row["metric"] == "run"]
    assert timed and all(row["difference"] < 1e-6 for row in timed)
    assert ("urgent behind a full card", "fusec") in found
