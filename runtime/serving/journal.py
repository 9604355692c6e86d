"""A decision log that is written while decisions are made, by a thread of its own."""

from collections.abc import Iterable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from fusec.ir.errors import ConfigError
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.log import decision_line, log_lines
from fusec.runtime.sched.profile import Profile

__all__ = ["Journal"]


class Journal:
    """Writes decisions to a file. A full disk ends the log, not the serving."""

    def __init__(self, path: Path, policy: str, profile: Profile) -> None:
        """Begin a log.

        Args:
            path: of the file; one that is there is overwritten.
            policy: name of the policy.
            profile: costs at the start.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as e:
            raise ConfigError(f"log {path}: cannot be written: {e}") from e
        self._queue: SimpleQueue[Decision | None] = SimpleQueue()
        self.problem = ""
        """Why the log ended before its time."""
        self._write(f"{line}\n" for line in log_lines(policy, profile, ()))
        self._thread = Thread(target=self._main, name="fusec-journal", daemon=True)
        self._thread.start()

    def add(self, decision: Decision) -> None:
        """Have a decision written soon."""
        self._queue.put(decision)

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _main(self) -> None:
        while (decision := self._queue.get()) is not None:
            if not self.problem:
                self._write([f"{decision_line(decision)}\n"])

    def _write(self, lines: Iterable[str]) -> None:
        try:
            self._file.writelines(lines)
        except OSError as e:
            self.problem = str(e)
