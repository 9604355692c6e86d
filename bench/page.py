"""The report as one page without other files: tables and plots, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import plots
from figures import METRIC, short
from rows import (
    OURS,
    Row,
    best_of,
    best_peer,
    cases,
    milliseconds,
    number,
    order,
    runs,
    shared,
    source,
    verdict,
)

AXES = {
    "members": ("against the number of models", "models"),
    "batch": ("against batch", "rows per model"),
    "active share": ("against the share of models that is asked", "active share"),
}
STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1c2330; --dim: #5c6676;
  --rule: #dde2ea; --card: #f6f8fb; --ours: #1f5fd6; --limit: #8a93a3; --good: #12733f;
  --bad: #b3261e; --c1: #d97706; --c2: #0d9488; --c3: #dc4a3d; --c4: #c2409b; --c5: #7c4fd0;
  --c6: #8a6d1f; --c7: #6ba3e8; --c8: #7b8494; }
@media (prefers-color-scheme: dark) { :root { --back: #12161d; --text: #e4e8ef; --dim: #9aa5b5;
  --rule: #2c3440; --card: #191f28; --ours: #6aa3ff; --limit: #8e98a8; --good: #57c98a;
  --bad: #ff8a80; --c1: #f0a03c; --c2: #3cc5b4; --c3: #f07a6e; --c4: #e27bc4; --c5: #a98bf0;
  --c6: #cbb05a; --c7: #41699c; --c8: #8b95a5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 20px 16px 60px; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 14px; margin: 0 0 6px; } p { margin: 0 0 10px; color: var(--dim); }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, .left { text-align: left; }
th { color: var(--dim); font-weight: 600; background: var(--card); }
tr:last-child td { border-bottom: 0; }
td:first-child { white-space: normal; min-width: 130px; }
td.wrap { white-space: normal; text-align: left; min-width: 260px; overflow-wrap: anywhere; }
.best { font-weight: 700; } .faster { color: var(--good); } .slower { color: var(--bad); }
.grid-of { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; padding: 12px; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; min-width: 0; max-width: 640px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--dim); font-size: 12px; }
svg .name { fill: var(--text); } .grid { stroke: var(--rule); } .axis { stroke: var(--dim); }
.line { fill: none; stroke-width: 2; stroke: var(--k); } .dot, .bar { fill: var(--k); }
.line.ours { stroke-width: 3; } .line.limit { stroke-dasharray: 5 4; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 0 0 10px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  background: var(--k); margin-right: 6px; vertical-align: -1px; }
""" + "".join(
    f".{kind} {{ --k: var(--{kind}); }}\n"
    for kind in ("ours", "limit", *(f"c{n}" for n in range(1, 9)))
)


def page(rows: Sequence[Row]) -> str:
    """Return the whole page."""
    times = runs(rows)
    commits = ", ".join(dict.fromkeys(str(row["commit"])[:10] for row in rows))
    days = sorted({str(row["utc"])[:10] for row in rows})
    about = f"{source(rows)}. Commit {commits}; {days[0]}" + (
        f" to {days[-1]}." if len(days) > 1 else "."
    )
    body = [
        "<h1>fusec benchmarks</h1>",
        f"<p>{escape(about)}</p>",
        "<p>Medians for all members of a case together; all implementations of a case take turns "
        "in one process. The limit is the time that only reading the weights takes.</p>",
        _section("Times in milliseconds", _times(rows)),
        _section("Rooflines", _rooflines(rows)),
        *(_section(f"Time {told}", _sweep(rows, axis)) for axis, (told, _) in AXES.items()),
        _section("Every case", _bars(rows)),
        _section("Memory", _figures(rows)),
        _section("Serving", _asked(rows)),
        _section("Notes, and who could not do what", _notes(times)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fusec benchmarks</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _grid(figures: Iterable[tuple[str, str]]) -> str:
    cards = "".join(f"<figure><h3>{escape(title)}</h3>{svg}</figure>" for title, svg in figures)
    return f'<div class="grid-of">{cards}</div>' if cards else ""


def _legend(impls: Iterable[str]) -> str:
    keys = "".join(
        f'<span class="{plots.colour(impl)}"><i></i>{escape(impl)}</span>' for impl in order(impls)
    )
    return f'<div class="legend">{keys}</div>'


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def _times(rows: Sequence[Row]) -> str:
    impls = shared(rows)
    head = "<th>case</th><th>threads</th>" + '<th class="left">against best peer</th>'
    head += "".join(f"<th>{escape(x)}</th>" for x in impls)
    lines = []
    for (_, case, threads), here in cases(rows).items():
        told = verdict(here)
        kind = "faster" if "faster" in told else "slower" if "slower" in told else ""
        fastest = best_of(here)
        cells = []
        for impl in impls:
            time = number(here.get(impl))
            best = ' class="best"' if impl == fastest else ""
            cells.append(f"<td{best}>{milliseconds(time)}</td>")
        lines.append(
            f"<tr><td>{escape(case)}</td><td>{threads}</td>"
            f'<td class="left {kind}">{escape(told)}</td>{"".join(cells)}</tr>'
        )
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _rooflines(rows: Sequence[Row]) -> str:
    limits = {
        (int(str(row["threads"])), str(row["metric"])): number(row)
        for row in rows
        if row["bench"] == "machine"
    }
    figures = []
    for threads in sorted({threads for threads, _ in limits}):
        read, arithmetic = limits.get((threads, "read")), limits.get((threads, "arithmetic"))
        points: dict[str, list[tuple[str, plots.Point]]] = {}
        for (_, case, count), here in cases(rows).items():
            peer = best_peer(here)
            for impl in [OURS, *([peer[0]] if peer else [])]:
                row = here.get(impl)
                time, flops = number(row), number(row, "flops")
                moved = number(row, "moved_bytes")
                if count == threads and time and flops and moved:
                    point = flops / moved, flops / time / 1e3
                    points.setdefault(impl, []).append((case, point))
        if read and arithmetic and points:
            title = f"{_threads(threads)}: {read:.1f} GB/s, {arithmetic:.0f} GFLOP/s"
            ordered = {impl: points[impl] for impl in order(points)}
            drawn = plots.roofline(ordered, read, arithmetic, title)
            figures.append((title, _legend(points) + drawn))
    told = (
        "<p>fusec and the best peer of each case, under what the machine was measured to do. "
        "Weights that a cache holds are read faster than the line says.</p>"
    )
    return told + _grid(figures) if figures else ""


def _sweep(rows: Sequence[Row], axis: str) -> str:
    series: dict[tuple[str, int], dict[str, list[plots.Point]]] = {}
    for row in runs(rows):
        place, time = row.get("axis"), number(row)
        at = place.get(axis) if isinstance(place, Mapping) else None
        if at and time:
            name = "wake words" if row["bench"] == "wakewords" else str(row["case"]).split(",")[0]
            lines = series.setdefault((name, int(str(row["threads"]))), {})
            lines.setdefault(str(row["impl"]), []).append((float(at), time / 1e3))
    figures = []
    for (name, threads), by_impl in sorted(series.items()):
        if max(len(line) for line in by_impl.values()) < 2:
            continue
        title = f"{name}, {_threads(threads)}"
        ordered = {impl: by_impl[impl] for impl in order(by_impl)}
        drawn = plots.lines(ordered, AXES[axis][1], "ms", f"{title}: {axis}", exact=True)
        figures.append((title, _legend(by_impl) + drawn))
    return _grid(figures)


def _bars(rows: Sequence[Row]) -> str:
    figures = []
    for (_, case, threads), here in cases(rows).items():
        values = {
            impl: time / 1e3 for impl in order(here) if (time := number(here[impl])) is not None
        }
        if values:
            title = f"{case}, {_threads(threads)}"
            figures.append((title, plots.bars(values, "ms", title)))
    return _grid(figures)


def _figures(rows: Sequence[Row]) -> str:
    groups: dict[tuple[str, int, str], dict[str, float]] = {}
    for row in rows:
        value = number(row)
        if row["metric"] in ("run", METRIC) or row["bench"] == "machine" or value is None:
            continue
        key = str(row["case"]), int(str(row["threads"])), f"{row['metric']}|{row['unit']}"
        groups.setdefault(key, {})[str(row["impl"])] = value
    figures = []
    for (case, threads, metric), values in groups.items():
        name, _, unit = metric.partition("|")
        title = f"{case}, {_threads(threads)}: {name}"
        figures.append((title, plots.bars(values, unit, title)))
    return _grid(figures)


def _asked(rows: Sequence[Row]) -> str:
    quantiles = ("p20", "p50", "p80", "p99")
    lines = "".join(
        f'<tr><td>{escape(str(row["case"]))}</td><td class="left">{escape(str(row["impl"]))}</td>'
        f"<td>{escape(str(row['unit']))}</td>"
        + "".join(f"<td>{short(row.get(p))}</td>" for p in quantiles)
        + f"<td>{row['n']}</td><td>{escape(str(row.get('asked') or ''))}</td>"
        f'<td class="wrap">{escape(str(row.get("note") or ""))}</td></tr>'
        for row in rows
        if row["metric"] == METRIC
    )
    names = ("unit", *quantiles, "n", "asked")
    head = '<tr><th>case</th><th class="left">what</th>'
    head += "".join(f"<th>{name}</th>" for name in names) + '<th class="left">note</th></tr>'
    return f'<div class="scroll"><table>{head}{lines}</table></div>' if lines else ""


def _notes(rows: Sequence[Row]) -> str:
    lines = "".join(
        f"<tr><td>{escape(str(row['case']))}</td><td>{row['threads']}</td>"
        f'<td class="left">{escape(str(row["impl"]))}</td>'
        f'<td class="wrap">{escape(str(row["note"]))}</td></tr>'
        for row in rows
        if row["note"]
    )
    head = (
        '<tr><th>case</th><th>threads</th><th class="left">who</th><th class="left">what</th></tr>'
    )
    return f'<div class="scroll"><table>{head}{lines}</table></div>' if lines else ""
