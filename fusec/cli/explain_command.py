"""``fusec explain``: what was grouped, and why the rest was not."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from fusec.cli.output import JsonFlag, emit_json, emit_text, say
from fusec.cli.sources import NameFrom, find_models
from fusec.kernels.cuda.cards import card_of
from fusec.profile import Profile
from fusec.targets import TargetInfo

if TYPE_CHECKING:
    from fusec.explain import Explanation  # which imports PyTorch

__all__ = ["explain"]

_SECONDS = 0.2
"""For each template that has no stored profile."""


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
    target: Annotated[
        str | None,
        typer.Option(
            metavar="cuda:sm_NN",
            help="Show what kernels take of that kind of card; compiled if the plan has none.",
        ),
    ] = None,
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
    costs = _costs(built.plan, explanation) if cost else None
    card = None if target is None else _target(built.plan, target)
    if json:
        failed = [f.to_json() for f in built.failures]
        shown = {} if costs is None else {"cost": costs.to_json()}
        shown |= {} if card is None else {"target": card.to_json()}
        emit_json({**explanation.to_json(), "failed": failed, **shown})
    else:
        emit_text(str(explanation))
        if costs is not None:
            emit_text(f"\n{costs}")
        if card is not None:
            emit_text(f"\n{card}")
    for failure in built.failures:
        say(f"not imported: {failure.path}: {failure.message}", style="yellow")
    if built.failures:
        raise typer.Exit(1)


def _target(plan: fusec.Plan, target: str) -> TargetInfo:
    """Take what the plan has; compile where it has nothing, or not all."""
    stored = plan.targets().get(card_of(target).target)
    if stored is not None and (not stored.stale or find_spec("triton") is None):
        return stored
    say("compiled now; `fusec compile --target` stores it in the plan", style="dim")
    return plan.compile_for(target)


def _costs(plan: fusec.Plan, explanation: "Explanation") -> Profile:
    """Take the profile from the plan; measure where there is none or models joined since."""
    native = {g.template for g in explanation.groups if g.native and g.native.whole is None}
    stored = plan.costs()
    if stored is not None and native <= set(stored.templates):
        return stored
    say("measured now; `fusec profile` measures longer and stores it in the plan", style="dim")
    return plan.profile(seconds=_SECONDS, preempt_ms=None)
