"""The words of a super-kernel's runs: set up before the first, read after any."""

import numpy as np
from numpy.typing import NDArray

from fusec.ir.frozen import dataclass
from fusec.kernels.persistent import DUMP_WORDS, DUMPS, STATE_WORDS, Outcome, State
from fusec.runtime.persistent.program import PersistentProgram

__all__ = ["PATIENCE_POLLS", "Stuck", "Wait", "explain", "fresh_state", "outcome_of", "tasks_done"]

PATIENCE_POLLS = 1 << 22
"""Before a wait gives up: about three seconds, some thousand times the longest program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A wait that gave up."""

    program: int
    task: int
    stage: int
    entry: int
    counter: int
    signalled_by: tuple[int, ...]
    """Tasks that are to signal it."""
    value: int
    """Signals in this run, by then."""
    wanted: int

    def __str__(self) -> str:
        tasks = ", ".join(map(str, self.signalled_by[:4]))
        more = f" and {len(self.signalled_by) - 4} more" if len(self.signalled_by) > 4 else ""
        return (
            f"program {self.program}: task {self.task} (stage {self.stage}, entry {self.entry}) "
            f"waits for counter {self.counter}, signalled by tasks {tasks or 'none'}{more}: "
            f"{self.value} of {self.wanted} signals"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Why a run did not end."""

    gave_up: int
    """Waits in all; the first of them are described."""
    waits: tuple[Wait, ...]

    def __str__(self) -> str:
        lines = [f"{self.gave_up} waits of the super-kernel gave up:"]
        lines += [f"  {wait}" for wait in self.waits]
        return "\n".join(lines)


def fresh_state(tasks: int, patience_polls: int = PATIENCE_POLLS) -> NDArray[np.int64]:
    """Make the state of a program that has not run yet; its counters are to be zeros.

    Args:
        tasks: how many it has.
        patience_polls: polls of a wait before it gives up.
    """
    state = np.zeros(STATE_WORDS, np.int64)
    state[State.TASKS] = tasks
    state[State.PATIENCE] = patience_polls
    return state


def outcome_of(state: NDArray[np.int64]) -> Outcome:
    """Tell how the last launch ended."""
    return Outcome(int(state[State.OUTCOME]))


def tasks_done(state: NDArray[np.int64]) -> int:
    """Count the tasks that are done, after a launch: they are the first ones."""
    if outcome_of(state) is Outcome.RETREATED:
        return int(state[State.TICKET])
    return int(state[State.TASKS]) if outcome_of(state) is Outcome.DONE else 0


def explain(state: NDArray[np.int64], program: PersistentProgram) -> Stuck | None:
    """Say who waited for what, if a launch ended as `Outcome.STUCK`.

    Args:
        state: after the launch.
        program: what ran.
    """
    if outcome_of(state) is not Outcome.STUCK:
        return None
    gave_up, iteration = int(state[State.GAVE_UP]), int(state[State.ITERATION])
    signals = program.signals()
    rows = state[State.DUMP :].reshape(DUMPS, DUMP_WORDS)[: min(gave_up, DUMPS)]
    waits = []
    for number, task, counter, value, wanted in rows[:, :5].tolist():
        before = iteration * int(signals[counter])
        waits.append(
            Wait(
                program=number,
                task=task,
                stage=int(program.tasks[task, 5]),
                entry=int(program.tasks[task, 6]),
                counter=counter,
                signalled_by=tuple(np.flatnonzero(program.tasks[:, 4] == counter).tolist()),
                value=value - before,
                wanted=wanted - before,
            )
        )
    return Stuck(gave_up=gave_up, waits=tuple(waits))
