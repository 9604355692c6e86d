"""``fusec compile``: from files and folders of models to one plan file."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import fusec
from fusec.cli.building import Built, Choices, build
from fusec.cli.npz import read_arrays
from fusec.cli.options import (
    BatchAxisOption,
    BindOption,
    ExamplesOption,
    ExecutorOption,
    NameFromOption,
    Paths,
    RecursiveOption,
    SymbolOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    parse_batch_axes,
    parse_bind,
    parse_symbols,
)
from fusec.cli.output import JsonFlag, counted, emit_json, megabytes, say
from fusec.cli.sources import NameFrom, find_models
from fusec.ir.errors import ConfigError
from fusec.targets import TargetInfo, check_targets

__all__ = ["compile_models"]


def compile_models(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Plan file to write.")],
    recursive: RecursiveOption = False,
    name_from: NameFromOption = NameFrom.FILE,
    bind: BindOption = [],  # noqa: B006  # typer's way to say "may be given many times"
    symbol: SymbolOption = [],  # noqa: B006
    batch_axis: BatchAxisOption = [],  # noqa: B006
    examples: ExamplesOption = None,
    executor: ExecutorOption = None,
    threads: ThreadsOption = None,
    weights: WeightsOption = None,
    target: TargetOption = [],  # noqa: B006
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave out models that cannot be imported.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Compile models together into one plan file.

    Models of one architecture share a group, each with its own weights.
    If a model cannot be imported, nothing is written, unless --skip-failed is given.
    With --target, kernels for that kind of card are compiled, too, and stored in the file.
    """
    choices = Choices(
        bind=parse_bind(bind),
        symbols=parse_symbols(symbol),
        batch_axes=parse_batch_axes(batch_axis),
        examples={} if examples is None else read_arrays(examples),
        executor=executor,
        threads=threads,
        weights=weights,
    )
    # Known only after minutes of work otherwise.
    check_targets(target)
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: there is no folder {output.parent}; make it")
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; name a file, such as {output / 'plan.fusec'}")
    found = find_models(paths, recursive=recursive, name_from=name_from)
    for note in found.notes:
        say(f"note: {note}", style="dim")
    built = build(found, choices, skip_failed=skip_failed)
    targets = [_compiled_for(built.plan, name) for name in target]
    built.plan.save(output)
    built.plan.warm(_tell)
    for failure in built.failures:
        say(f"left out: {failure.path}: {failure.message}", style="yellow")
    explanation = built.plan.explain()
    if json:
        emit_json(_as_json(output, built, explanation, targets))
    else:
        _show(output, built, explanation, Console())
        for info in targets:
            typer.echo(info.summary())


def _compiled_for(plan: fusec.Plan, target: str) -> TargetInfo:
    begin_ns = monotonic_ns()
    info = plan.compile_for(target, _tell_kernel)
    took = (monotonic_ns() - begin_ns) / 1e9
    say(f"kernels for {info.name}: {took:.1f} s", style="dim")
    return info


def _tell(library: str, done: int, total: int) -> None:
    say(f"native code: {library} built, {done} of {total}; it is kept for later", style="dim")


def _tell_kernel(kernel: str, done: int, total: int) -> None:
    say(f"kernels for cards: {kernel} compiled, {done} of {total}; kept for later", style="dim")


def _as_json(
    output: Path, built: Built, explanation: "fusec.Explanation", targets: Sequence[TargetInfo]
) -> dict[str, object]:
    return {
        "plan": str(output),
        "bytes": output.stat().st_size,
        "models": len(built.plan.members),
        "failed": [failure.to_json() for failure in built.failures],
        "explanation": explanation.to_json(),
        "targets": [info.to_json() for info in targets],
    }


def _show(output: Path, built: Built, explanation: "fusec.Explanation", console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("group", "models", "weights", "members"):
        right = column in ("models", "weights")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for group in explanation.groups:
        members = ", ".join(group.members[:4]) + (", ..." if group.size > 4 else "")
        size = megabytes(group.weight_bytes)
        table.add_row(group.template[:12], str(group.size), size, Text(members))
    console.print(table)
    console.print(
        Text(
            f"{counted(len(built.plan.members), 'model')} in "
            f"{counted(len(explanation.groups), 'group')}, "
            f"{megabytes(output.stat().st_size)} in {output}"
        ),
        soft_wrap=True,
    )
    if explanation.refusals:
        console.print(
            Text(
                f"groups that are alike and yet apart: {len(explanation.refusals)}; "
                f"`fusec explain {output}` says why"
            ),
            soft_wrap=True,
        )
