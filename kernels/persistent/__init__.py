"""The persistent super-kernel: one launch runs a whole tile program, of many models and tenants.

    tiles     int32 [tasks, 4]   row of the stage's table, block of its rows, of columns, layer
    tasks     int32 [tasks, 8]   branch, table, wait, waits, signal, stage, instance, -
    waits     int32 [waits, 4]   counter, threshold, signals of a run, stage that signals
    table     int64              rows of all stages' tables, as their grouped kernels read them
    counters  int64              signals so far, of all runs; never reset
    state     int64              see `State`

Programs take tasks by ticket, in the order of the table. Each task waits for counters that earlier
tasks signal only, so whoever waits, waits for work that is already taken: no residency is assumed,
any number of programs runs any program to its end.

A branch is a tile function with all its constants. One compiled kernel has the branches that its
programs need; which of them a task takes is data.
"""

from enum import IntEnum

__all__ = ["DUMPS", "DUMP_WORDS", "STATE_WORDS", "TASK_WORDS", "WAIT_WORDS", "Outcome", "State"]

TASK_WORDS, WAIT_WORDS = 8, 4

DUMPS, DUMP_WORDS = 14, 8
"""Waits that gave up: how many are kept, each as program, task, counter, value, wanted."""


class State(IntEnum):
    """Positions in `state`; what different programs touch lies in different cache lines."""

    TICKET = 0
    """The next task. A run that retreated goes on from here: all before it are done."""
    LEFT = 16
    """Programs of this launch that have left; the last one ends the run."""
    ITERATION = 32
    """Runs that are done: what counters of this run begin from."""
    TASKS = 33
    """How many there are."""
    PATIENCE = 34
    """Polls of a wait before it gives up."""
    OUTCOME = 35
    """An `Outcome`, written by the last program."""
    GAVE_UP = 48
    """Waits that gave up."""
    DUMP = 64
    """Where the first of them are described."""


STATE_WORDS = State.DUMP + DUMPS * DUMP_WORDS


class Outcome(IntEnum):
    """How a launch ended."""

    NONE = 0
    DONE = 1
    RETREATED = 2
    """Stopped between tasks: the same launch goes on."""
    STUCK = 3
    """A wait gave up: the program is wrong, and its memory is to be set up anew."""
