"""The application: its commands, and the options that all of them have."""

from typing import Annotated

import typer

import fusec
from fusec.cli.bench_command import bench
from fusec.cli.compile_command import compile_models
from fusec.cli.demo_command import demo
from fusec.cli.explain_command import explain
from fusec.cli.guard import GuardedGroup
from fusec.cli.merge_command import merge
from fusec.cli.profile_command import profile
from fusec.cli.replay_command import replay_log
from fusec.cli.run_command import run
from fusec.cli.serve_command import serve_models
from fusec.cli.simulate_command import simulate

__all__ = ["app"]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fusec {fusec.__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and warnings; any command takes it.")
    ] = False,
) -> None:
    """Compile many trained models together and run them on one device."""
    del version, debug  # the first acts in its callback, the second in the group


app = typer.Typer(
    cls=GuardedGroup,
    callback=_common,
    no_args_is_help=True,
    # Errors are one line; `--debug` shows Python's own traceback.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compile")(compile_models)
app.command()(explain)
app.command()(run)
app.command()(profile)
app.command()(simulate)
app.command("serve")(serve_models)
app.command("replay")(replay_log)
app.command()(merge)
app.command()(demo)
app.command()(bench)
