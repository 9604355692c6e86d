"""``fusec merge``: several models as one model file that runs wherever PyTorch or ONNX runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fusec.cli.inputs import check_all_used
from fusec.cli.options import (
    BindOption,
    NameFromOption,
    Paths,
    RecursiveOption,
    SymbolOption,
    parse_bind,
    parse_symbols,
)
from fusec.cli.output import JsonFlag, emit_json, progress, say
from fusec.cli.sources import NameFrom, find_models
from fusec.ir.errors import ConfigError

__all__ = ["merge"]


class Io(StrEnum):
    """How the merged model is called."""

    STACKED = "stacked"
    NAMED = "named"


def merge(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help=".onnx or .pt2 file to write.")],
    io: Annotated[
        Io,
        typer.Option(
            help='named: inputs and outputs "model.input"; stacked: one tensor, models on axis 0.'
        ),
    ] = Io.NAMED,
    shared_inputs: Annotated[
        bool, typer.Option("--shared-inputs", help="All models are fed the same tensors.")
    ] = False,
    recursive: RecursiveOption = False,
    name_from: NameFromOption = NameFrom.FILE,
    bind: BindOption = [],  # noqa: B006  # typer's way to say "may be given many times"
    symbol: SymbolOption = [],  # noqa: B006
    json: JsonFlag = False,
) -> None:
    """Merge models into one, like operators of different models running as one.

    Models need not be alike: they are merged up to where they differ, and apart from there on.
    """
    bound, symbols = parse_bind(bind), parse_symbols(symbol)
    if output.suffix.lower() not in (".onnx", ".pt2"):
        raise ConfigError(f"{output}: cannot tell the format; end the name with .onnx or .pt2")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: there is no folder {output.parent}; make it")
    found = find_models(paths, recursive=recursive, name_from=name_from)
    for note in found.notes:
        say(f"note: {note}", style="dim")
    if len(found.models) < 2:
        raise ConfigError(f"only one model, {next(iter(found.models))!r}: nothing to merge with")
    with progress(len(found.models)) as show:
        show("loading PyTorch", 0)
        # Seconds of imports, which `fusec --help` must not wait for.
        from fusec.cli.merging import export_program, merge_files

        check_all_used("--bind", bound, found.models)
        check_all_used("--symbol", symbols, found.models)
        merged, report = merge_files(
            found.models, bound, symbols, io=io.value, shared_inputs=shared_inputs, show=show
        )
        show(f"writing {output.name}", len(found.models))
        export_program(merged, output)
    if json:
        emit_json(
            {
                "output": str(output),
                "models": list(found.models),
                "inputs": list(merged.input_names),
                "outputs": list(merged.output_names),
                "rules": dict(report.counts),
                "notes": list(report.notes),
                "apart": list(report.apart),
            }
        )
        return
    typer.echo(report.text())
    typer.echo(f"inputs:  {_some(merged.input_names)}")
    typer.echo(f"outputs: {_some(merged.output_names)}")
    typer.echo(f"{len(found.models)} models in {output}")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
