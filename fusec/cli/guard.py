"""What every command shares: errors as one line, an exit code, and `--debug` anywhere."""

import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from fusec.cli.output import emit_json, say
from fusec.ir.errors import FusecError

__all__ = ["FAILED", "INTERRUPTED", "GuardedGroup"]

FAILED = 1
INTERRUPTED = 130
"""As the shell says of a program that Ctrl-C ended."""

_USAGE: Any = typer.BadParameter.__base__
"""Click's UsageError, which is in click or inside typer, by typer's version."""

_PASS = (typer.Exit, typer.Abort, _USAGE, BrokenPipeError)
"""Not failures of a command: typer turns them into exit codes."""


class GuardedGroup(TyperGroup):
    """A command group whose commands may raise; what they raise is told in one line.

    Contexts are `Any` for the reason that `_USAGE` gives.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` from any place before `--`, and note whether JSON is wanted."""
        end = args.index("--") if "--" in args else len(args)
        own, rest = args[:end], args[end:]
        ctx.meta["fusec.debug"] = "--debug" in own
        ctx.meta["fusec.json"] = "--json" in own
        moved = ["--debug"] * ctx.meta["fusec.debug"]
        return super().parse_args(ctx, [*moved, *(a for a in own if a != "--debug"), *rest])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with 1 on any error, 130 on Ctrl-C."""
        if ctx.meta["fusec.debug"]:
            return super().invoke(ctx)
        try:
            with warnings.catch_warnings():
                # Tracing warns about what the user can neither see nor change.
                warnings.simplefilter("ignore")
                return super().invoke(ctx)
        except _PASS:
            raise
        except KeyboardInterrupt as e:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from e
        except FusecError as e:
            raise _failed(ctx, type(e).__name__, str(e)) from e
        except Exception as e:  # the last one who can tell the user
            text = f"{type(e).__name__}: {e} (unexpected; `--debug` shows where)"
            raise _failed(ctx, "InternalError", text) from e


def _failed(ctx: Any, kind: str, text: str) -> typer.Exit:
    say(f"error: {text}", style="red")
    if ctx.meta["fusec.json"]:
        emit_json({"error": {"kind": kind, "message": text}})
    return typer.Exit(FAILED)
