"""The report from made-up rows: a table that shows losses, a page without other files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("report", "page", "plots", "rows", "figures", "where", "made_rows")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Import the report as it imports itself, with its folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import report

    return report


@pytest.fixture
def made(report, tmp_path: Path):  # type: ignore[no-untyped-def]
    import made_rows

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made_rows.every_kind()))
    return path


def test_the_table_shows_what_is_won_and_lost(report, made: Path) -> None:  # type: ignore[no-untyped-def]
    lines = report.table(report.read([made])).splitlines()
    won = next(line for line in lines if line.startswith("| mlp | 1 |"))
    lost = next(line for line in lines if line.startswith("| lost & found | 1 |"))
    assert lines[0].startswith("| case | threads | fusec cpu | torch |")
    assert "| **0.600** | 5.40 |" in won
    assert won.endswith("| 1.70x faster (onnxruntime) |")
    assert lost.endswith("| 2.00x slower (onnxruntime) |")
    assert lost.count("**") == 2


def test_what_gives_no_answers_is_no_peer(report) -> None:  # type: ignore[no-untyped-def]
    import made_rows

    rows = [
        made_rows.row("a", "fusec cpu", 2.0),
        made_rows.row("a", "torch", 3.0),
        made_rows.row("a", "limit: weights read once", 1.0),
        made_rows.row("a", "torch, a part", 1.0, difference=None),
        made_rows.row("a", "wrong", 1.0, difference=float("nan")),
    ]
    assert "1.50x faster (torch)" in report.table(rows)


def test_the_newest_row_counts(report, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import made_rows

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(made_rows.row("a", "torch", t)) + "\n" for t in (1.0, 2.0)))
    assert [row["p50"] for row in report.read([path])] == [2.0]


def test_the_page_stands_alone_and_is_well_formed(report, made: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "page.html"
    report.main([str(made), "--html", str(out)])
    text = out.read_text()
    assert not re.findall(r"(?:src|href)=|url\(|@import|<script", text)
    assert "prefers-color-scheme: dark" in text
    drawn = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    # Two rooflines, three sweeps of two thread counts, one bar chart per case, one of memory.
    cases = 2 * (3 + 7 + 6 + 5)
    assert len(drawn) == 2 + 6 + cases + 1
    for svg in drawn:
        ElementTree.fromstring(svg)
    for title in ("Rooflines", "against the number of models", "against batch", "Memory"):
        assert title in text
    assert "2.00x slower (onnxruntime)" in text
    assert "RuntimeError: &lt;no&gt; compiler" in text
    assert "A &lt;processor&gt;" in text


def test_figures_stand_beside_what_was_asked(report, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    import made_rows

    path, out = tmp_path / "rows.jsonl", tmp_path / "page.html"
    stop = [row for row in made_rows.every_kind() if row["metric"] == "figure"]
    path.write_text("".join(json.dumps(row) + "\n" for row in stop))
    report.main([str(path), "--html", str(out)])
    cells = "| a stop within a batch | small waits more | ms | 0.5 | 0.5 | 0.5 | 0.75 | 9 |"
    assert f"{cells} p99 <= 1 |" in capsys.readouterr().out
    assert "<td>0.75</td><td>9</td><td>p99 &lt;= 1</td>" in out.read_text()


def test_json_has_no_nan(report, made: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    import made_rows

    with made.open("a") as file:
        file.write(json.dumps(made_rows.row("a", "x", 1.0, difference=float("nan"))) + "\n")
    report.main([str(made), "--json", "--html", str(tmp_path / "page.html")])
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"]
    assert [r["difference"] for r in rows if r["case"] == "a"] == [None]


def test_no_rows_is_said(report, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    empty = tmp_path / "none.jsonl"
    empty.write_text("")
    with pytest.raises(SystemExit, match="no rows"):
        report.main([str(empty)])


def test_the_readme_gets_main_cases_only(report, made: Path) -> None:  # type: ignore[no-untyped-def]
    text = report.for_readme(report.read([made]))
    lines = text.splitlines()
    assert lines[0].startswith("| case | fusec cpu | torch | torch.func compiled | onnxruntime |")
    assert "| mlp | **0.600** / **0.300** | 5.40 / 2.70 |" in text
    assert [line.split(" |")[0] for line in lines[2:5]] == ["| mlp", "| cnn", "| lost & found"]
    assert "2.00x slower (onnxruntime) / 2.00x slower (onnxruntime)" in lines[4]
    assert lines[5] == ""
