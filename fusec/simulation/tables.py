"""A summary as text."""

from collections.abc import Iterable

from rich.table import Table

from fusec.runtime.summary import Group, Summary

__all__ = ["group_table", "headline", "ms", "rate"]


def ms(ns: float | None) -> str:
    """Give a time for people."""
    return "-" if ns is None else _digits(ns / 1e6, 3)


def rate(per_s: float) -> str:
    """Give how many a second."""
    return _digits(per_s, 4)


def headline(summary: Summary) -> str:
    """Give what lanes did, in two lines."""
    s = summary
    return (
        f"policy {s.policy}, {s.lanes} lane{'s' * (s.lanes != 1)}, {s.seconds:.3g} s simulated: "
        f"attainment {s.total.attainment:.2%}, goodput {s.total.goodput_per_s:.4g}/s\n"
        f"utilisation {s.utilisation:.1%}, {s.preemptions} preemptions ({s.retreats} in mid-block, "
        f"{s.overhead:.2%} of running time), {s.launches} launches of {s.mean_batch:.2f} requests "
        f"on average, {s.decisions} decisions"
    )


def group_table(title: str, groups: Iterable[Group], first: str) -> Table:
    """Give figures of groups; times are milliseconds."""
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold", min_width=8)
    names = (
        "requests",
        "refused",
        "expired",
        "attained",
        "good/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "mean ratio",
        "> 4",
    )
    for name in names:
        table.add_column(name, justify="right")
    for g in groups:
        ratio = "-" if g.mean_ratio is None else f"{g.mean_ratio:.2f}"
        over = "-" if g.over_4 is None else f"{g.over_4:.1%}"
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
            over,
        )
        table.add_row(g.name or "(none)", *cells)
    return table


def _digits(x: float, n: int) -> str:
    """Give so many digits, zeros at the end included: columns of numbers are compared."""
    return f"{x:.0f}" if x >= 10 ** (n - 1) else f"{x:#.{n}g}".rstrip(".")
