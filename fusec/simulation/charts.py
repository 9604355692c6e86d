"""Charts as inline SVG; labels are HTML around it, so they keep their size on a narrow page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Box", "Line", "area", "curves", "legend", "strip"]

Line = tuple[str, str, Sequence[tuple[float, float]]]
"""Name, CSS class, points between 0 and 1, y upwards."""

_FLOORS = (0.0, 0.5, 0.9, 0.99)


def curves(
    title: str, lines: Sequence[Line], x_labels: Sequence[str], y_labels: Sequence[str]
) -> str:
    """Draw lines with labels at equal distances along both axes, the lowest first."""
    rules = [i / (len(y_labels) - 1) for i in range(len(y_labels))]
    grid = "".join(f'<path class="grid" d="M0 {100 - 100 * y:.2f}H1000"/>' for y in rules)
    grid += "".join(
        f'<path class="grid" d="M{1000 * i / (len(x_labels) - 1):.1f} 0V100"/>'
        for i in range(len(x_labels))
    )
    paths = "".join(_path(line) for line in lines if line[2])
    return _frame(_svg(title, grid + paths, 100), x_labels, y_labels)


def area(title: str, points: Sequence[tuple[float, float]], x_labels: Sequence[str]) -> str:
    """Draw one share, filled, from the lowest of a few round ones that shows all of it."""
    least = min(y for _, y in points)
    floor = max(f for f in _FLOORS if f <= least)
    points = [(x, (y - floor) / (1 - floor)) for x, y in points]
    y_labels = [f"{100 * y:.4g} %" for y in (floor, (1 + floor) / 2, 1.0)]
    body = "".join(f"L{1000 * x:.1f} {100 - 100 * y:.2f}" for x, y in points)
    first, last = 1000 * points[0][0], 1000 * points[-1][0]
    shape = f'<path class="fill" d="M{first:.1f} 100{body}L{last:.1f} 100Z"/>'
    grid = "".join(f'<path class="grid" d="M0 {y}H1000"/>' for y in (0, 50, 100))
    line = _path(("", "c0", points))
    return _frame(_svg(title, grid + shape + line, 100), x_labels, y_labels)


@dataclass(frozen=True, slots=True)
class Box:
    """A box on a row; start, end, bottom and top are between 0 and 1."""

    start: float
    end: float
    row: int
    css: str
    text: str
    """Shows when pointed at."""
    bottom: float = 0.0
    top: float = 1.0


def strip(title: str, boxes: Iterable[Box], names: Sequence[str], x_labels: Sequence[str]) -> str:
    """Draw boxes on rows with names, and labels at equal distances."""
    parts = []
    for box in boxes:
        x, width = 1000 * box.start, max(0.4, 1000 * (box.end - box.start))
        y, height = box.row * 24 + 3 + 18 * (1 - box.top), 18 * (box.top - box.bottom)
        place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        parts.append(f'<rect class="{box.css}" {place}><title>{escape(box.text)}</title></rect>')
    svg = _svg(title, "".join(parts), 24 * len(names), css="strip")
    return _frame(svg, x_labels, tuple(reversed(names)), css="rows", style=f"--rows:{len(names)}")


def legend(items: Mapping[str, str]) -> str:
    """Give names with the colours that stand for them."""
    marks = (f'<li><i class="{css}"></i>{escape(name)}</li>' for name, css in items.items())
    return f'<ul class="legend">{"".join(marks)}</ul>'


def _path(line: Line) -> str:
    name, css, points = line
    d = "".join(
        f"{'L' if i else 'M'}{1000 * x:.1f} {100 - 100 * y:.2f}" for i, (x, y) in enumerate(points)
    )
    return f'<path class="line {css}" d="{d}"><title>{escape(name)}</title></path>'


def _svg(title: str, body: str, height: int, css: str = "plot") -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 1000 {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def _frame(
    svg: str, x_labels: Sequence[str], y_labels: Sequence[str], css: str = "", style: str = ""
) -> str:
    ys = "".join(f"<span>{escape(text)}</span>" for text in reversed(y_labels))
    xs = "".join(f"<span>{escape(text)}</span>" for text in x_labels)
    return (
        f'<div class="chart {css}" style="{style}"><div class="ys">{ys}</div>{svg}'
        f'<div class="xs">{xs}</div></div>'
    )
