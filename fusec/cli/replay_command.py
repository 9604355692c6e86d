"""``fusec replay``: does a policy still decide what a log says it decided?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusec.cli.output import JsonFlag, counted, emit_json
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.log import read_log
from fusec.runtime.sched.replay import prediction_errors, replay

__all__ = ["replay_log"]


def replay_log(
    log: Annotated[Path, typer.Argument(help="Decision log.")],
    policy: Annotated[
        str | None, typer.Option(help="Ask this one in place of the log's own.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Ask the policy of a log again, and show the first decision that differs.

    Exits with 1 if one does.
    """
    read = read_log(log)
    difference = replay(find_policy(policy or read.policy), read.profile, read.decisions)
    errors = prediction_errors(read.profile, read.decisions) if difference is None else None
    if json:
        shown = None if difference is None else {**asdict(difference), "text": str(difference)}
        figures = None if errors is None else asdict(errors)
        emit_json({"decisions": len(read.decisions), "difference": shown, "predictions": figures})
    elif difference is None:
        typer.echo(f"{counted(len(read.decisions), 'decision')}, all the same")
        if errors is not None:
            typer.echo(str(errors))
    else:
        typer.echo(f"{log}: {difference}")
    if difference is not None:
        raise typer.Exit(1)
