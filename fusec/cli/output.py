"""Where text goes: results to standard output, everything else to standard error."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

__all__ = [
    "JsonFlag",
    "counted",
    "emit_json",
    "emit_text",
    "megabytes",
    "progress",
    "say",
    "stderr",
    "wrapped",
]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]


def emit_json(data: object) -> None:
    """Print one JSON value to standard output.

    Raises:
        ValueError: a float that JSON cannot spell.
    """
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def emit_text(text: str) -> None:
    """Print a report to standard output: wrapped for a terminal, as it is for other programs."""
    typer.echo(wrapped(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text)


_LABEL = re.compile(r" *(?:[A-Za-z]+: +)?")
_MOST_INDENT = 16


def wrapped(text: str, columns: int) -> str:
    """Break long lines between words; what goes on is below what the line is about.

    Args:
        text: lines, perhaps indented and with a label: "  inputs:    x: float32[rows, 3]".
        columns: no line is longer, unless a word is.
    """
    lines = []
    for line in text.split("\n"):
        label = _LABEL.match(line)
        about = label.end() if label else 0
        if about == len(line) - len(line.lstrip()) or about > _MOST_INDENT:
            about = len(line) - len(line.lstrip()) + 2
        lines += textwrap.wrap(
            line,
            columns,
            subsequent_indent=" " * about,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)


def stderr() -> Console:
    """Give a console on standard error; made anew, as the stream may have been redirected."""
    return Console(stderr=True)


def say(text: str, *, style: str = "") -> None:
    """Print a line to standard error; nothing in it is taken for markup."""
    stderr().print(Text(text, style=style), soft_wrap=True)


def megabytes(n_bytes: int) -> str:
    """Give a size for people."""
    return f"{n_bytes / 1e6:.2f} MB"


def counted(n: int, what: str) -> str:
    """Give a number of things for people."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[str, int], None]]:
    """Show a bar on standard error while the block runs, where that is a terminal.

    Yields:
        A function to call with what is done now and how many steps are behind.
    """
    console = stderr()
    columns = [SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")]
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, done: bar.update(task, description=_escape(what), completed=done)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
