"""The page without figures: they are filled in by its script, from data that come with it."""

from html import escape

__all__ = ["shell"]

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%232f6fde'/%3E%3Cpath d='M3 5h6M5 8h8M3 11h5' "
    "stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)
_FIGURES = (
    ("rate", "Answers a second", True),
    ("attained", "Deadlines kept", True),
    ("queued", "Waiting", True),
    ("busy", "Lanes busy", True),
    ("took", "Mean answer", False),
    ("batch", "Requests a pack", False),
    ("done", "Answered", False),
    ("missed", "Not answered", False),
)
_COLUMNS = (
    ("", "model"),
    ("wide", "version"),
    ("", "answers/s"),
    ("", "mean ms"),
    ("wide", "pending"),
    ("", "answered"),
    ("wide", "failed"),
)


def shell(css: str, script: str, data: str, version: str) -> str:
    """Give the page.

    Args:
        css: its style sheet.
        script: fills it in.
        data: what it is filled with at first, as JSON that is safe in HTML.
        version: of fusec.
    """
    cards = "".join(
        f'<div><dt>{name}</dt><dd id="{key}">\u2013</dd><small id="{key}-more"></small>'
        + (f'<svg id="{key}-line" class="spark" aria-hidden="true"></svg>' if line else "")
        + "</div>"
        for key, name, line in _FIGURES
    )
    heads = "".join(f'<th scope="col" class="{css_}">{name}</th>' for css_, name in _COLUMNS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fusec</title><link rel="icon" href="{_ICON}"><style>{css}</style></head>
<body><main>
<header><h1>fusec <small>{escape(version)}</small></h1>
<p id="about"></p><p id="state" role="status"></p></header>
<noscript><p>This page needs JavaScript; the same figures are at /v2/models/stats and, on the
metrics port, at /metrics.</p></noscript>
<dl class="figures" id="figures">{cards}</dl>
<section aria-labelledby="lanes-title">
<div class="bar"><h2 id="lanes-title">Lanes</h2>
<div class="controls"><label>Window <select id="window"><option value="2">2 s</option>
<option value="10" selected>10 s</option></select></label>
<button type="button" id="pause" aria-pressed="false">Pause</button></div></div>
<ul class="legend" id="legend" aria-label="Colours of groups"></ul>
<div class="lanes"><ul id="names" aria-label="How busy each lane is"></ul>
<div><canvas id="lanes" tabindex="0" role="application" aria-label="Timeline of lanes: arrow keys
step through what ran"></canvas><div class="times" id="times" aria-hidden="true"></div></div></div>
<output id="told" aria-live="polite">Point at the timeline, or use arrow keys on it, to see what
ran. Height is the share of time that a lane was busy.</output>
</section>
<section aria-labelledby="models-title">
<div class="bar"><h2 id="models-title">Models</h2>
<div class="controls"><label>Find <input id="find" type="search" autocomplete="off"
spellcheck="false"></label></div></div>
<table><caption class="hidden">Models in groups of one architecture</caption>
<thead><tr>{heads}</tr></thead><tbody id="none" hidden><tr><td colspan="7">None.</td></tr></tbody>
</table><p id="more"></p>
</section>
<section id="reasons" aria-labelledby="reasons-title" hidden>
<h2 id="reasons-title">Why requests were not answered</h2><ul id="why"></ul></section>
</main>
<script type="application/json" id="data">{data}</script><script>{script}</script></body></html>
"""
