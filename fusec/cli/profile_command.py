"""``fusec profile``: measure a plan's stages on this machine and store that with the plan."""

from pathlib import Path
from typing import Annotated

import typer

import fusec
from fusec.cli.options import ExecutorOption
from fusec.cli.output import JsonFlag, emit_json, emit_text, say

__all__ = ["profile"]


def profile(
    plan: Annotated[Path, typer.Argument(help="Plan file; the profile is written into it.")],
    seconds: Annotated[float, typer.Option(help="For each template.", min=0.01)] = 0.5,
    preempt_ms: Annotated[
        float, typer.Option(help="What a block of one request should take at most.", min=0.01)
    ] = 10.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave the file as it is.")] = False,
    executor: ExecutorOption = None,
    json: JsonFlag = False,
) -> None:
    """Time every stage of a plan, next to what this machine could do at most.

    Times blocks of batches, too, on one thread and on all: what `fusec simulate` reckons with.

    Only native code has stages. With --executor cpu another plan is measured, and its file then
    says that it runs natively.
    """
    loaded = fusec.load(plan, executor=executor)
    measured = loaded.profile(seconds=seconds, preempt_ms=preempt_ms)
    if not dry_run:
        loaded.save(plan)
        say(f"stored in {plan}", style="dim")
    if json:
        emit_json(measured.to_json())
    else:
        emit_text(str(measured))
