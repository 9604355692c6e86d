"""Compiling processes: jobs go to as many as there are processors, answers come when ready."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread, Timer
from typing import Any

from fusec.ir.errors import KernelError

__all__ = ["WORKER", "answers"]

WORKER = "fusec.kernels.cuda.worker"
"""The module that such a process runs."""

_CHILD = f"import sys; sys.path[:] = sys.argv[1:]; from {WORKER} import main; main()"
_JOB_SECONDS = 120
"""Assembling the worst configurations takes 20."""


def answers(jobs: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Have jobs answered.

    Args:
        jobs: lines of JSON, see `worker`.

    Yields:
        Number of a job and its answer, as they become ready. A process that dies or takes too
        long answers its job with an error, and another one goes on.

    Raises:
        KernelError: processes do not start.
    """
    todo: SimpleQueue[tuple[int, str]] = SimpleQueue()
    done: SimpleQueue[tuple[int, dict[str, Any]] | OSError] = SimpleQueue()
    for job in enumerate(jobs):
        todo.put(job)
    count = min(len(jobs), len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="fusec-") as folder:
        threads = [Thread(target=_serve, args=(todo, done, folder)) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            for _ in jobs:
                answer = done.get()
                if isinstance(answer, OSError):
                    raise KernelError(f"no process to compile in can be started: {answer}")
                yield answer
        finally:
            _drain(todo)
            for thread in threads:
                thread.join()


def _drain(todo: "SimpleQueue[tuple[int, str]]") -> None:
    while True:
        try:
            todo.get_nowait()
        except Empty:
            return


def _serve(
    todo: "SimpleQueue[tuple[int, str]]",
    done: "SimpleQueue[tuple[int, dict[str, Any]] | OSError]",
    folder: str,
) -> None:
    child: _Child | None = None
    try:
        while True:
            number, job = todo.get_nowait()
            if child is None:
                child = _Child(folder)
            answer = child.ask(job)
            if answer is None:
                answer = {"error": child.end(), "lasting": False}
                child = None
            done.put((number, answer))
    except Empty:
        pass
    except OSError as error:
        done.put(error)
    finally:
        if child is not None:
            child.end()


class _Child:
    """A process that compiles."""

    def __init__(self, folder: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
        settings = {
            # The cache is fusec's.
            "TRITON_CACHE_DIR": os.path.join(folder, "cache"),
            # Where sources lie is nobody's business who gets the code.
            "TRITON_DISABLE_LINE_INFO": "1",
            "TRITON_DUMP_PTXAS_LOG": "1",
        }
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed in `end`
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, *sys.path],
                env={**kept, **settings},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        except OSError:
            self._errors.close()
            raise

    def ask(self, job: str) -> dict[str, Any] | None:
        """Give the answer to a job; None if there is none: the process is then to be ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        clock = Timer(_JOB_SECONDS, self._process.kill)
        clock.start()
        try:
            stdin.write(job + "\n")
            stdin.flush()
            line = stdout.readline()
            return json.loads(line) if line else None
        except (BrokenPipeError, ValueError):
            return None
        finally:
            clock.cancel()

    def end(self) -> str:
        """End the process, and say how it ended."""
        with self._process:
            self._process.kill()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        self._errors.close()
        return f"the compiler ended with code {self._process.returncode}: {last[:300]}"
