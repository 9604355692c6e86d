"""Plots as inline SVG: lines, a roofline, bars. Colours are classes that the page's style fills."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44
COLOURS = {
    "fusec cpu": "ours",
    "onnxruntime": "c1",
    "openvino": "c2",
    "torch": "c3",
    "torch.func": "c4",
    "torch.func compiled": "c5",
    "torch.compile": "c6",
    "fusec isolated": "c7",
    "fusec merged": "c7",
}


def colour(impl: str) -> str:
    """Return the class of an implementation."""
    if impl.startswith("limit"):
        return "limit"
    return COLOURS.get(impl, "ours" if impl.startswith("fusec cpu") else "c8")


@dataclass(frozen=True, slots=True)
class Axes:
    """Two logarithmic scales over what is shown."""

    x: tuple[float, float]
    y: tuple[float, float]

    @staticmethod
    def over(points: Sequence[Point]) -> Axes:
        """Return scales that hold all points, with some room."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        return Axes((min(xs) / 1.15, max(xs) * 1.15), (min(ys) / 1.4, max(ys) * 1.4))

    def at(self, point: Point) -> Point:
        """Return where a point is drawn."""
        x, y = (
            (math.log(v) - math.log(low)) / ((math.log(high) - math.log(low)) or 1.0)
            for v, (low, high) in zip(point, (self.x, self.y), strict=True)
        )
        return (
            LEFT + x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM),
        )


def ticks(low: float, high: float) -> list[float]:
    """Return round values of a logarithmic scale, few enough to read."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(values) <= 7:
            break
    return values


def lines(
    series: Mapping[str, Sequence[Point]], x_name: str, y_name: str, title: str, *, exact: bool
) -> str:
    """Draw one line per implementation.

    Args:
        series: points by implementation.
        x_name: of the horizontal axis.
        y_name: of the vertical axis.
        title: for who cannot see it.
        exact: whether to label the values of x that occur rather than round ones.
    """
    points = [p for line in series.values() for p in line]
    axes = Axes.over(points)
    marks = sorted({x for x, _ in points}) if exact else ticks(*axes.x)
    parts = _frame(axes, marks, x_name, y_name)
    for impl, line in reversed(list(series.items())):
        shown = sorted(line)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(axes.at, shown))
        parts.append(f'<polyline class="line {colour(impl)}" points="{path}"/>')
        for point in shown:
            hint = f"{impl}: {point[1]:.3g} {y_name} at {point[0]:.3g} {x_name}"
            parts.append(_dot(axes.at(point), colour(impl), hint))
    return _svg(parts, WIDTH, HEIGHT, title)


def roofline(
    points: Mapping[str, Sequence[tuple[str, Point]]],
    read: float,
    arithmetic: float,
    title: str,
) -> str:
    """Draw achieved GFLOP/s against flops per byte, under the two limits of the machine.

    Args:
        points: (case, point) by implementation.
        read: GB/s of memory.
        arithmetic: GFLOP/s in registers.
        title: for who cannot see it.
    """
    ridge = arithmetic / read
    shown = [p for named in points.values() for _, p in named]
    xs = [*(x for x, _ in shown), ridge]
    corners = [(min(xs) / 2, min(xs) / 2 * read), (ridge, arithmetic), (max(xs) * 2, arithmetic)]
    axes = Axes.over([*shown, *corners])
    parts = _frame(axes, ticks(*axes.x), "flops per byte", "GFLOP/s")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(axes.at, corners))
    parts.append(f'<polyline class="line limit" points="{path}"/>')
    for impl, named in reversed(list(points.items())):
        for case, point in named:
            hint = f"{case}, {impl}: {point[1]:.3g} GFLOP/s at {point[0]:.3g} flops per byte"
            parts.append(_dot(axes.at(point), colour(impl), hint))
    return _svg(parts, WIDTH, HEIGHT, title)


def bars(values: Mapping[str, float], unit: str, title: str) -> str:
    """Draw horizontal bars from zero, the value beside each."""
    left, step = 172, 21
    height = step * len(values) + 6
    room = WIDTH - left - 78
    top = max(values.values()) or 1.0
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y = 3 + i * step
        kind = colour(name)
        length = max(1.0, value / top * room)
        short = name if len(name) <= 27 else name[:26] + "…"
        parts += [
            f'<text class="name" x="{left - 6}" y="{y + 14}" text-anchor="end">'
            f"{escape(short)}<title>{escape(name)}</title></text>",
            f'<rect class="bar {kind}" x="{left}" y="{y + 3}" width="{length:.1f}" height="14"/>',
            f'<text x="{left + length + 5:.1f}" y="{y + 14}">{_short(value)} {unit}</text>',
        ]
    return _svg(parts, WIDTH, height, title)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _frame(axes: Axes, marks: Sequence[float], x_name: str, y_name: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(*axes.y):
        y = axes.at((axes.x[0], value))[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    for value in marks:
        x = axes.at((value, axes.y[0]))[0]
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_short(value)}</text>'
        )
    middle = (LEFT + right) / 2
    parts += [
        f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{bottom}"/>',
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_name)}</text>',
    ]
    return parts


def _dot(at: Point, kind: str, hint: str) -> str:
    return (
        f'<circle class="dot {kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4">'
        f"<title>{escape(hint)}</title></circle>"
    )


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
