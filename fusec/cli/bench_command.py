"""``fusec bench``: time fusec and its peers side by side, in a checkout."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import fusec
from fusec.cli.options import ThreadsOption
from fusec.cli.output import JsonFlag, say
from fusec.ir.errors import ConfigError

__all__ = ["bench", "find_benches"]

PREFIX = "cpu_"
NAMED = (
    "serve_clients",
    "serve_idle",
    "serve_live",
    "serve_preempt",
    "serve_soak",
    "serve_throughput",
    "sim_reality",
)
"""Run only if they are asked for by name: they tell of serving, and take minutes."""
QUICK_SECONDS = 2.0


def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BENCH[/CASE]]...",
            help="Only these; if none is named, all but those of serving, which take minutes.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"{QUICK_SECONDS:g} s per case, without peers that compile for minutes."
        ),
    ] = False,
    threads: ThreadsOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Per case, all peers together; 10 if absent."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Time fusec beside PyTorch, ONNX Runtime and OpenVINO; then print a table and write a page.

    Rows go to a file in bench/results named after the machine, where earlier ones stay. Works in a
    checkout only: what it runs is not in the wheel.
    """
    folder = find_benches(Path(fusec.__file__))
    known = {path.stem.removeprefix(PREFIX): path for path in sorted(folder.glob(f"{PREFIX}*.py"))}
    options = ["--quick"] * quick
    options += [] if threads is None else ["--threads", str(threads)]
    each = QUICK_SECONDS if quick and seconds is None else seconds
    options += [] if each is None else ["--seconds", str(each)]
    failed = []
    usual = list(known)
    known |= {name: folder / f"{name}.py" for name in NAMED}
    for name, only in _wanted(cases or usual, list(known)).items():
        say(f"{name}: {', '.join(only) or 'all cases'}", style="dim")
        chosen = [part for case in only for part in ("--case", case)]
        call = [sys.executable, str(known[name]), *options, *chosen]
        if subprocess.run(call).returncode != 0:
            failed.append(name)
    if failed:
        say(f"stopped before their end: {', '.join(failed)}", style="red")
    report = subprocess.run([sys.executable, str(folder / "report.py"), *["--json"] * json])
    if failed or report.returncode != 0:
        raise typer.Exit(1)


def find_benches(package: Path) -> Path:
    """Give the folder of benches that stands beside the package in a checkout.

    Args:
        package: a file in the package's folder.

    Raises:
        ConfigError: there is none; the package is installed.
    """
    folder = package.resolve().parents[1] / "bench"
    if not (folder / "harness.py").is_file():
        raise ConfigError(
            f"no benches at {folder}: they are not in the wheel; get a checkout of the sources and "
            "run `make bench` there"
        )
    return folder


def _wanted(cases: list[str], known: list[str]) -> dict[str, list[str]]:
    """Give the cases of each bench, an empty list for all of them.

    Raises:
        ConfigError: no such bench.
    """
    wanted: dict[str, list[str]] = {}
    for text in cases:
        name, slash, case = text.partition("/")
        if name not in known:
            raise ConfigError(f"no bench {name!r}; there are {', '.join(known)}")
        if name in wanted and (not slash or not wanted[name]):
            wanted[name] = []
        else:
            wanted.setdefault(name, []).extend([case] if slash else [])
    return wanted
