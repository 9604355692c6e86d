"""The super-kernel itself: a loop over tickets around the tiles of the grouped kernels.

Words that others change are read by `atomic_add(.., 0)`, which is a load by one thread that all
others get from it: threads of a program that read a word themselves could see different values.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import triton
import triton.language as tl

from fusec.kernels.attention.triton import attention_tile
from fusec.kernels.conv.triton import conv_tile, depthwise_tile
from fusec.kernels.gather.triton import gather_tile
from fusec.kernels.gemm.triton import gemm_tile
from fusec.kernels.matmul.triton import matmul_tile
from fusec.kernels.norm.triton import norm_tile
from fusec.kernels.persistent import DUMP_WORDS, DUMPS, TASK_WORDS, WAIT_WORDS, Outcome, State
from fusec.kernels.pointwise.triton import pointwise_tile
from fusec.kernels.pool.triton import pool_tile
from fusec.kernels.reduce.triton import reduce_tile, scan_tile
from fusec.kernels.rnn.triton import rnn_tile
from fusec.kernels.softmax.triton import softmax_tile

__all__ = ["persistent"]

_TASK_WORDS, _WAIT_WORDS = tl.constexpr(TASK_WORDS), tl.constexpr(WAIT_WORDS)
_DUMPS, _DUMP_WORDS = tl.constexpr(DUMPS), tl.constexpr(DUMP_WORDS)
_TICKET, _LEFT = tl.constexpr(int(State.TICKET)), tl.constexpr(int(State.LEFT))
_ITERATION, _TASKS = tl.constexpr(int(State.ITERATION)), tl.constexpr(int(State.TASKS))
_PATIENCE, _OUTCOME = tl.constexpr(int(State.PATIENCE)), tl.constexpr(int(State.OUTCOME))
_GAVE_UP, _DUMP = tl.constexpr(int(State.GAVE_UP)), tl.constexpr(int(State.DUMP))
_DONE, _RETREATED = tl.constexpr(int(Outcome.DONE)), tl.constexpr(int(Outcome.RETREATED))
_STUCK = tl.constexpr(int(Outcome.STUCK))
_NO_MORE = tl.constexpr(1 << 40)
"""Added to the ticket once a wait gave up: nobody takes a task any more."""


def _several(values: list[int | str]) -> object:
    if triton.knobs.runtime.interpret:
        return tuple(values)
    return tl.tuple([tl.constexpr(value) for value in values])


class _Branches:
    """What compile-time functions call. A class, since Triton copies what else they refer to."""

    call: ClassVar[Mapping[str, Any]] = {"read": json.loads, "several": _several}
    tiles: ClassVar[Mapping[str, Any]] = {
        "attention": attention_tile, "conv": conv_tile, "depthwise": depthwise_tile,
        "gather": gather_tile, "gemm": gemm_tile, "matmul": matmul_tile, "norm": norm_tile,
        "pointwise": pointwise_tile, "pool": pool_tile, "reduce": reduce_tile, "rnn": rnn_tile,
        "scan": scan_tile, "softmax": softmax_tile,
    }  # fmt: skip


@triton.constexpr_function
def _count(branches):
    return len(_Branches.call["read"](branches))


@triton.constexpr_function
def _tile(branches, number):
    return _Branches.tiles[_Branches.call["read"](branches)[number][0]]


@triton.constexpr_function
def _constants(branches, number):
    return _Branches.call["several"](_Branches.call["read"](branches)[number][1])


@triton.jit
def persistent(
    table,
    tiles,
    tasks,
    waits,
    counters,
    state,
    status,
    retreat,
    BRANCHES: tl.constexpr,
):
    """Run tasks until there are none, or until `retreat` is not 0; see the package."""
    at = _next(state, retreat)
    while at >= 0:
        if _fulfilled(waits, counters, state, tasks + at * _TASK_WORDS, at):
            branch = tl.load(tasks + at * _TASK_WORDS)
            rows = table + tl.load(tasks + at * _TASK_WORDS + 1).to(tl.int64)
            for number in tl.static_range(_count(BRANCHES)):
                if branch == number:
                    _tile(BRANCHES, number)(rows, tiles, at, status, *_constants(BRANCHES, number))
            # What all threads of the program have written is covered by the release of one.
            tl.debug_barrier()
            signal = tl.load(tasks + at * _TASK_WORDS + 4)
            if signal >= 0:
                tl.atomic_add(counters + signal, 1, sem="release", scope="gpu")
        at = _next(state, retreat)
    _leave(state)


@triton.jit
def _next(state, retreat):
    """Take the next task; -1 if there is none, or somebody wants the card."""
    at = tl.full((), -1, tl.int32)
    if tl.atomic_add(retreat, 0, sem="relaxed", scope="sys") == 0:
        ticket = tl.atomic_add(state + _TICKET, 1, sem="relaxed", scope="gpu")
        # Read anew, like all that would else be in registers through every tile.
        if ticket < tl.load(state + _TASKS):
            at = ticket.to(tl.int32)
    return at


@triton.jit
def _fulfilled(waits, counters, state, task, at):
    """Wait for all that a task needs; say whether it came."""
    first = tl.load(task + 2)
    good = at >= 0
    for number in range(first, first + tl.load(task + 3)):
        wait = waits + number * _WAIT_WORDS
        counter = counters + tl.load(wait)
        wanted = tl.load(state + _ITERATION) * tl.load(wait + 2) + tl.load(wait + 1)
        polls = tl.load(state + _PATIENCE)
        value = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        while (value < wanted) & (polls > 0):
            value = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
            polls -= 1
        if value < wanted:
            _give_up(state, at, tl.load(wait), value, wanted)
        good = good & (value >= wanted)
    return good


@triton.jit
def _give_up(state, at, counter, value, wanted):
    """Describe a wait that nobody fulfils, and let nobody take a task any more."""
    place = tl.atomic_add(state + _GAVE_UP, 1, sem="relaxed", scope="gpu")
    if place < _DUMPS:
        dump = state + _DUMP + place * _DUMP_WORDS
        tl.store(dump, tl.program_id(0))
        tl.store(dump + 1, at)
        tl.store(dump + 2, counter)
        tl.store(dump + 3, value)
        tl.store(dump + 4, wanted)
    tl.atomic_add(state + _TICKET, _NO_MORE, sem="relaxed", scope="gpu")


@triton.jit
def _leave(state):
    """Leave; the last program says how the run ended and sets up the next one."""
    left = tl.atomic_add(state + _LEFT, 1, sem="acq_rel", scope="gpu")
    if left == tl.num_programs(0) - 1:
        ticket = tl.atomic_add(state + _TICKET, 0, sem="acquire", scope="gpu")
        tl.store(state + _LEFT, 0)
        if ticket >= _NO_MORE:
            tl.store(state + _OUTCOME, _STUCK)
        elif ticket >= tl.load(state + _TASKS):
            tl.store(state + _TICKET, 0)
            tl.store(state + _ITERATION, tl.load(state + _ITERATION) + 1)
            tl.store(state + _OUTCOME, _DONE)
        else:
            tl.store(state + _OUTCOME, _RETREATED)
