"""The command line: `fusec compile`, `explain`, `run`, `merge`, `demo`.

Results go to standard output, all else to standard error. Exit codes: 0 done, 1 failed (said why),
2 the command line cannot be understood, 130 interrupted.
"""

from fusec.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line of this process and exit."""
    app(prog_name="fusec")
