"""A simulated run as one HTML page that needs nothing else: no script, no font, no network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from fusec.pages.files import style
from fusec.runtime.drivers.run import Run, Span
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Outcome, Result
from fusec.runtime.summary import Group, Summary, quantile
from fusec.simulation.charts import Box, Line, area, curves, legend, strip
from fusec.simulation.tables import ms, rate

__all__ = ["page"]

_COLOURS = 8
_NEAR = 160
"""Stays shown in close-up."""
_BINS = 240
_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def page(run: Run, summary: Summary, profile: Profile) -> str:
    """Give the page of a run."""
    colours = _colours(summary)
    begin = min((o.request.arrival_ns for o in run.outcomes), default=0)
    end = max((o.at_ns for o in run.outcomes), default=1)
    models = {o.request.id: o.request.model for o in run.outcomes}
    sections = [
        _figures(summary),
        _section("Models", _table(summary.models, "model")),
        _section("Tenants", _table(summary.tenants, "tenant")) if len(summary.tenants) > 1 else "",
        _section(
            "Lanes over the whole run",
            legend(colours) + _overview(run, models, colours, begin, end),
            f"Share of each of {_BINS} slices of time that models ran; blank is idle.",
        ),
        _section(
            "Lanes around the longest wait",
            legend(colours) + _close_up(run, models, colours),
            "Point at a box for its requests and blocks.",
        ),
        _section(
            "Latency",
            legend(colours) + _latency(run, colours),
            "Share of answers that took longer, by model; both axes are logarithmic.",
        ),
        _section(
            "Attainment over time",
            _attainment(run, begin, end),
            "Share of the requests of each fortieth of the run that were answered in time.",
        ),
    ]
    css = style("fusec.simulation", "page.css")
    title = f"fusec simulate: {escape(summary.policy)}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{css}</style></head><body><main>"
        f"<h1>{title}</h1>{''.join(sections)}</main></body></html>\n"
    )


def _colours(summary: Summary) -> dict[str, str]:
    """Give the models asked for most a colour each; the rest share one."""
    by_size = sorted(summary.models, key=lambda g: -g.requests)
    names = [g.name for g in by_size]
    colours = {name: f"c{i}" for i, name in enumerate(names[:_COLOURS])}
    return {**colours, "others": "rest"} if len(names) > _COLOURS else colours


def _section(title: str, body: str, note: str = "") -> str:
    said = f"<p>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def _figures(s: Summary) -> str:
    figures = {
        "attainment": f"{s.total.attainment:.2%}",
        "goodput": f"{rate(s.total.goodput_per_s)}/s",
        "p50": f"{ms(s.total.p50_ns)} ms",
        "p99": f"{ms(s.total.p99_ns)} ms",
        "p99.9": f"{ms(s.total.p999_ns)} ms",
        "utilisation": f"{s.utilisation:.1%}",
        "preemptions": str(s.preemptions),
        "requests": str(s.total.requests),
        "refused, expired": f"{s.total.refused}, {s.total.expired}",
        "requests a launch": f"{s.mean_batch:.2f}",
    }
    cells = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in figures.items())
    return f'<dl class="figures">{cells}</dl>'


def _table(groups: Iterable[Group], first: str) -> str:
    heads = (
        first,
        "requests",
        "refused",
        "expired",
        "attained",
        "good/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "mean ratio",
    )
    rows = []
    for g in groups:
        ratio = "-" if g.mean_ratio is None else f"{g.mean_ratio:.2f}"
        cells = (
            str(g.requests),
            str(g.refused),
            str(g.expired),
            f"{g.attainment:.1%}",
            rate(g.goodput_per_s),
            ms(g.p50_ns),
            ms(g.p99_ns),
            ms(g.p999_ns),
            ratio,
        )
        data = "".join(f"<td>{c}</td>" for c in cells)
        rows.append(f'<tr><th scope="row">{escape(g.name or "(none)")}</th>{data}</tr>')
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Figures by {first}">'
        f"<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _clock(begin: int, end: int, origin: int) -> list[str]:
    scale, unit = (1e9, "s") if end - origin > 3e9 else (1e6, "ms")
    return [f"{(begin + t * (end - begin) - origin) / scale:.4g} {unit}" for t in _TIMES]


def _names(lanes: int) -> list[str]:
    return [f"lane {i}" for i in range(lanes)]


def _overview(
    run: Run, models: Mapping[int, str], colours: Mapping[str, str], begin: int, end: int
) -> str:
    """Draw who was busy when, by slices; shares of models are stacked."""
    step = max(1, -(-(end - begin) // _BINS))
    busy: dict[tuple[int, int], dict[str, int]] = {}
    for span in run.spans:
        found = models[span.pack.requests[0]]
        model = found if found in colours else "others"
        for i in range((span.start_ns - begin) // step, (span.end_ns - 1 - begin) // step + 1):
            low, high = begin + i * step, begin + (i + 1) * step
            part = min(high, span.end_ns) - max(low, span.start_ns)
            slot = busy.setdefault((span.lane, i), {})
            slot[model] = slot.get(model, 0) + part
    boxes = []
    for (lane, i), shares in busy.items():
        names = sorted(shares, key=list(colours).index)
        text = f"{sum(shares.values()) / step:.0%} busy: " + ", ".join(
            f"{m} {shares[m] / step:.0%}" for m in names
        )
        bottom = 0.0
        for name in names:
            top = bottom + shares[name] / step
            place = (i / _BINS, (i + 1) / _BINS, lane)
            boxes.append(Box(*place, colours[name], text, bottom, top))
            bottom = top
    return strip(
        "What ran on each lane, all the time", boxes, _names(run.lanes), _clock(begin, end, begin)
    )


def _close_up(run: Run, models: Mapping[int, str], colours: Mapping[str, str]) -> str:
    done = [o for o in run.outcomes if o.result is Result.DONE]
    if not done:
        return "<p>Nothing was answered.</p>"
    worst = max(done, key=lambda o: (o.at_ns - o.request.arrival_ns) / _due(o))
    spans = sorted(run.spans, key=lambda s: s.start_ns)
    middle = next(i for i, s in enumerate(spans) if s.end_ns >= worst.at_ns)
    low = max(0, min(middle - _NEAR * 3 // 4, len(spans) - _NEAR))
    near = spans[low : low + _NEAR]
    begin, end = near[0].start_ns, max(s.end_ns for s in near)
    boxes = []
    for span in near:
        colour = colours.get(models[span.pack.requests[0]], "rest")
        wide = end - begin
        place = ((span.start_ns - begin) / wide, (span.end_ns - begin) / wide)
        mark = f"{colour} worst" if worst.request.id in span.pack.requests else colour
        boxes.append(Box(*place, span.lane, mark, _told(span, models)))
    o = worst
    note = (
        f"Outlined: request {o.request.id} of {escape(o.request.model)}, answered after "
        f"{ms(o.at_ns - o.request.arrival_ns)} ms."
    )
    origin = min(o.request.arrival_ns for o in run.outcomes)
    return f"<p>{note}</p>" + strip(
        "What ran on each lane around the longest wait",
        boxes,
        _names(run.lanes),
        _clock(begin, end, origin),
    )


def _due(outcome: Outcome) -> int:
    return max(1, outcome.due_ns - outcome.request.arrival_ns)


def _told(span: Span, models: Mapping[int, str]) -> str:
    numbers = [n for p in span.pack.parts for n in p.requests]
    names = sorted({models[n] for n in numbers})
    first = span.pack.next_block
    return (
        f"{', '.join(names)}: {len(numbers)} request{'s' * (len(numbers) != 1)}, blocks {first} to "
        f"{first + span.blocks}, {ms(span.end_ns - span.start_ns)} ms"
    )


def _latency(run: Run, colours: Mapping[str, str]) -> str:
    by_model: dict[str, list[int]] = {}
    for o in run.outcomes:
        if o.result is Result.DONE:
            model = o.request.model if o.request.model in colours else "others"
            by_model.setdefault(model, []).append(max(1, o.at_ns - o.request.arrival_ns))
    if not by_model:
        return "<p>Nothing was answered.</p>"
    low = math.floor(math.log10(min(min(v) for v in by_model.values())))
    high = math.ceil(math.log10(max(max(v) for v in by_model.values()) + 1))
    lines: list[Line] = []
    for model, times in sorted(by_model.items()):
        times.sort()
        points = [(_share(times[0], low, high), 1.0)]
        for share in _shares(len(times)):
            x = _share(quantile(times, 1 - share), low, high)
            points.append((x, 1 + math.log10(share) / 3))
        lines.append((model, colours[model], points))
    x_labels = [f"{10.0 ** (e - 6):g} ms" for e in range(low, high + 1)]
    return curves(
        "Share of answers that took longer, by model",
        lines,
        x_labels,
        ("0.1 %", "1 %", "10 %", "100 %"),
    )


def _share(ns: int, low: int, high: int) -> float:
    return (math.log10(ns) - low) / (high - low)


def _shares(n: int) -> Sequence[float]:
    """Give shares from 1 down to what n answers can tell, at most 1 in 1,000."""
    steps = 120
    least = max(1e-3, 1 / n)
    return [10 ** (math.log10(least) * i / steps) for i in range(1, steps + 1)]


def _attainment(run: Run, begin: int, end: int) -> str:
    bins = 40
    step = max(1, -(-(end - begin) // bins))
    counts = [[0, 0] for _ in range(bins)]
    for outcome in run.outcomes:
        slot = counts[min(bins - 1, (outcome.request.arrival_ns - begin) // step)]
        slot[0] += 1
        slot[1] += outcome.met
    points = [((i + 0.5) / bins, met / n) for i, (n, met) in enumerate(counts) if n]
    if not points:
        return "<p>No requests.</p>"
    return area("Share answered in time", points, _clock(begin, end, begin))
