"""``fusec run``: inputs from a file, through a plan, outputs to a file."""

from pathlib import Path
from typing import Annotated

import typer

import fusec
from fusec.cli.npz import Arrays, assign, read_arrays, write_arrays
from fusec.cli.options import ExecutorOption, ThreadsOption
from fusec.cli.output import JsonFlag, counted, emit_json
from fusec.ir.errors import ConfigError

__all__ = ["run"]


def run(
    plan: Annotated[Path, typer.Argument(help="Plan file.")],
    inputs: Annotated[
        Path,
        typer.Option(
            "--inputs", "-i", help='.npz with keys "model/input", "model", or "input" for all.'
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help='.npz to write, with keys "model/output".')
    ],
    member: Annotated[
        list[str],
        typer.Option(help="A model to run; all that the inputs are for if none is named."),
    ] = [],  # noqa: B006  # typer's way to say "may be given many times"
    executor: ExecutorOption = None,
    threads: ThreadsOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="JSON file to write a timeline to, for https://ui.perfetto.dev."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run models of a plan on arrays from a file."""
    arrays = read_arrays(inputs)
    loaded = fusec.load(plan, executor=executor, threads=threads)
    names = {name: info.input_names for name, info in loaded.members.items()}
    requests = assign(arrays, names, member)
    if not requests:
        raise ConfigError(f"{inputs}: no array in it, so there is nothing to run")
    results = loaded.run(requests) if trace is None else loaded.trace(requests, trace)
    answers = {
        f"{name}/{key}": array
        for name, outputs in results.items()
        for key, array in outputs.items()
    }
    write_arrays(output, answers)
    _report(output, len(requests), answers, as_json=json)


def _report(output: Path, n_models: int, answers: Arrays, *, as_json: bool) -> None:
    shapes = {k: {"dtype": str(a.dtype), "shape": list(a.shape)} for k, a in answers.items()}
    if as_json:
        emit_json({"output": str(output), "models": n_models, "arrays": shapes})
        return
    for key, array in answers.items():
        typer.echo(f"{key}: {array.dtype}{list(array.shape)}")
    typer.echo(f"{counted(n_models, 'model')}, {counted(len(answers), 'array')} in {output}")
