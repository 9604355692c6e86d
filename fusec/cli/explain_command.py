"""``fusec explain``: what was grouped, and why the rest was not."""

from pathlib import Path
from typing import Annotated

import typer

import fusec
from fusec.cli.building import Built, Choices, build
from fusec.cli.npz import read_arrays
from fusec.cli.options import (
    BatchAxisOption,
    BindOption,
    ExamplesOption,
    ExecutorOption,
    NameFromOption,
    RecursiveOption,
    SymbolOption,
    parse_batch_axes,
    parse_bind,
    parse_symbols,
)
from fusec.cli.output import JsonFlag, emit_json, say
from fusec.cli.sources import NameFrom, find_models

__all__ = ["explain"]


def explain(
    paths: Annotated[
        list[Path], typer.Argument(help="One plan file; or models, as `fusec compile` takes them.")
    ],
    recursive: RecursiveOption = False,
    name_from: NameFromOption = NameFrom.FILE,
    bind: BindOption = [],  # noqa: B006  # typer's way to say "may be given many times"
    symbol: SymbolOption = [],  # noqa: B006
    batch_axis: BatchAxisOption = [],  # noqa: B006
    examples: ExamplesOption = None,
    executor: ExecutorOption = None,
    cost: Annotated[
        bool,
        typer.Option("--cost", help="Show each stage's work, its limit and its measured time."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show groups with their members, near-twins that are apart and why, and notes.

    Models that cannot be imported are listed and the rest is explained; the exit code is 1 then.
    """
    choices = Choices(
        bind=parse_bind(bind),
        symbols=parse_symbols(symbol),
        batch_axes=parse_batch_axes(batch_axis),
        examples={} if examples is None else read_arrays(examples),
        executor=executor,
        threads=None,
    )
    if len(paths) == 1 and paths[0].suffix.lower() == ".fusec":
        built = Built(fusec.load(paths[0], executor=executor), ())
    else:
        found = find_models(paths, recursive=recursive, name_from=name_from)
        for note in found.notes:
            say(f"note: {note}", style="dim")
        built = build(found, choices, skip_failed=True)
    explanation = built.plan.explain()
    costs = (built.plan.costs() or built.plan.profile(seconds=0.2)) if cost else None
    if json:
        failed = [f.to_json() for f in built.failures]
        shown = {} if costs is None else {"cost": costs.to_json()}
        emit_json({**explanation.to_json(), "failed": failed, **shown})
    else:
        typer.echo(str(explanation))
        if costs is not None:
            typer.echo(f"\n{costs}")
    for failure in built.failures:
        say(f"not imported: {failure.path}: {failure.message}", style="yellow")
    if built.failures:
        raise typer.Exit(1)
