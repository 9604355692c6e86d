"""Runs that go block by block: stop at the end of each, go on whenever, answer after the last.

    run = executor.begin(wanted, splits, inputs)
    while not run.done:
        run.step()          # here others may run
    answers = run.answers()

A run keeps its arena until it is done or closed. The bytes are those of the uncut run: it is made
of the same tasks.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np

from fusec.ir.errors import KernelError, VerifyError
from fusec.ir.split import Split
from fusec.ir.stage import Lowered
from fusec.ir.template import Template
from fusec.runtime.cache import LockedCache
from fusec.runtime.lending import Lender
from fusec.runtime.pool import pool
from fusec.runtime.request import Choice
from fusec.runtime.tile.answers import Memory
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.call import STATUS_TEXTS, Call
from fusec.runtime.tile.cut import cut_program, parts_of
from fusec.runtime.tile.engine import Job, Status, Word
from fusec.runtime.tile.executor import Answers, NativeExecutor, Rows, Wanted, templates_of
from fusec.runtime.tile.externs import RunExtern
from fusec.runtime.tile.layout import Arranged
from fusec.runtime.tile.memory import ArenaPool, Region
from fusec.runtime.tile.table import Table

__all__ = ["BlockCall", "BlockExecutor", "BlockRun"]


class BlockCall(Call):
    """A call with a job per block; all of them work on the same memory."""

    def __init__(
        self,
        program: Program,
        blocks: Sequence[Table],
        templates: Sequence[Template],
        rows: Rows,
        address: Callable[[str], int],
    ) -> None:
        """Lay out tables, ports and jobs.

        Args:
            program: as `cut_program` gives it.
            blocks: of the program.
            templates: of each class.
            rows: of each request, by class.
            address: kernel name -> address.
        """
        program = replace(program, table=blocks[0]) if blocks else program
        super().__init__(program, templates, rows, address)
        others = [
            Job(
                table,
                tables=self._tables.words.ctypes.data,
                tables_stride=self._tables.words.strides[0],
                services=self.services,
                workers=program.workers,
                retreat=self.job.retreat_address,
            )
            for table in blocks[1:]
        ]
        self.jobs = (self.job, *others)
        self._held: list[np.ndarray] = []
        self._outputs: list[list[Memory]] = []

    def enter(self, region: Region, inputs: Sequence[Sequence[np.ndarray]]) -> None:
        """Point tables at inputs, fresh outputs and an arena, which is kept by the caller."""
        for numbers, ports, rows in zip(self._parts, self._ports, self._blocks, strict=True):
            self._held += ports.enter_inputs(rows, [inputs[p] for p in numbers])
            self._outputs.append(ports.enter_outputs(rows))
        self._tables.settle(region)
        for job in self.jobs:
            job.words[Word.SCRATCH] = region.address + self._tables.scratch_start
            job.words[Word.SCRATCH_STRIDE] = self._tables.scratch_stride

    @property
    def n_bytes(self) -> int:
        """Of the region that a run needs."""
        return self._tables.n_bytes

    def check(self) -> None:
        """Look at what kernels reported.

        Raises:
            KernelError: bad data.
        """
        code = int(self._status[0])
        if code:
            self._status[0] = 0
            raise KernelError(STATUS_TEXTS.get(code, f"a kernel reports {code}"))

    def leave(self) -> Answers:
        """Give the answers and let go of inputs and outputs."""
        outputs, self._held, self._outputs = self._outputs, [], []
        return self._in_order(outputs)

    def abandon(self) -> None:
        """Forget a run that will not end."""
        self._held, self._outputs = [], []
        self._status[0] = 0
        for job in self.jobs:
            job.reset()


class BlockRun:
    """One run. For one thread at a time, which need not always be the same."""

    def __init__(
        self,
        call: BlockCall,
        arenas: ArenaPool,
        inputs: Sequence[Sequence[np.ndarray]],
        guard: Callable[[Call, Callable[[], Status]], Status],
        give: Callable[[BlockCall], None],
        choices: Sequence[Choice],
    ) -> None:
        """Begin; nothing is computed yet.

        Args:
            call: for this run alone, until it is given back.
            arenas: lends the memory.
            inputs: of each request; may be read until the last block is done.
            guard: runs, then raises what extern stages raised.
            give: takes the call back.
            choices: whose weights the call has addresses of; they live as long as this does.
        """
        self._choices = tuple(choices)
        self._call, self._arenas, self._guard, self._give = call, arenas, guard, give
        self._region: Region | None = arenas.take(call.n_bytes)
        self._answers: Answers | None = None
        self.block = 0
        """The next block, or the one that retreated."""
        call.enter(self._region, inputs)

    @property
    def blocks(self) -> int:
        """How many there are in all."""
        return len(self._call.jobs)

    @property
    def done(self) -> bool:
        """Tell whether all have run."""
        return self._answers is not None

    @property
    def retreat_address(self) -> int:
        """Where the flag is that stops a block half-way; see `raise_retreat`."""
        return self._call.job.retreat_address

    def lower_retreat(self) -> None:
        """Take the flag down: while it is up no step gets anywhere."""
        self._call.job.lower_retreat()

    def step(self) -> Status:
        """Run the next block, or go on with one that retreated.

        Returns:
            DONE, or RETREATED if the retreat flag was up; it stays up.

        Raises:
            KernelError: a kernel or an extern stage reports bad data; the run is over.
            VerifyError: the run is over already.
        """
        if self._region is None:
            raise VerifyError("a step of a run that is over")
        job = self._call.jobs[self.block]
        try:
            status = self._guard(self._call, lambda: pool().run(job, self._call.program.workers))
            if status is Status.DONE:
                self._call.check()
                self.block += 1
                if self.block == self.blocks:
                    self._answers = self._call.leave()
                    self.close()
        except BaseException:
            self.close()
            raise
        return status

    def answers(self) -> Answers:
        """Give the answers to all requests.

        Raises:
            VerifyError: blocks are left.
        """
        if self._answers is None:
            raise VerifyError(f"answers after {self.block} of {self.blocks} blocks")
        return self._answers

    def close(self) -> None:
        """Give memory back; what has not run never will. Closing twice is fine."""
        region, self._region = self._region, None
        if region is None:
            return
        if self._answers is None:
            self._call.abandon()
        self._arenas.give(region)
        self._give(self._call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlockExecutor(NativeExecutor):
    """The native executor, for runs that stop at the ends of blocks as well."""

    def __init__(
        self,
        lowered: Callable[[Template], Lowered],
        threads: int,
        run_extern: RunExtern,
        *,
        proved: bool = False,
    ) -> None:
        """Make an executor; see `NativeExecutor`."""
        super().__init__(lowered, threads, run_extern, proved=proved)
        self._lists: LockedCache[tuple[Arranged, Rows]] = LockedCache(limit=64)
        self._cut: LockedCache[Lender[BlockCall]] = LockedCache(limit=64)

    def begin(
        self,
        wanted: Sequence[Wanted],
        splits: Sequence[Split],
        inputs: Sequence[Sequence[np.ndarray]],
    ) -> BlockRun:
        """Begin a run: block j of it is block j of every request that has so many.

        Args:
            wanted: who is to run.
            splits: of each request's template; those of one template at the same extents are equal.
            inputs: of each request, C-contiguous, of the right dtypes and shapes.

        Raises:
            VerifyError: a split is not one of its template's stages.
        """
        key = tuple((w.choice, w.rows, tuple(w.extents.items())) for w in wanted)
        arranged, rows = self._lists.get(key, lambda: self.arrange(wanted))
        own = tuple(_split_of(numbers, splits) for numbers in arranged.parts)
        calls = self._cut.get(
            (arranged.shape, rows, tuple(map(_places_of, own))),
            lambda: Lender(self._block_maker(wanted, arranged, rows, own)),
        )
        call, choices = calls.take(), [w.choice for w in wanted]
        call.bind(arranged)
        return BlockRun(call, self._arenas, inputs, self._externs.guard, calls.give, choices)

    def forget(self, choices: Sequence[Choice]) -> None:
        """Drop what was planned for members that are gone, and their weights with it."""
        super().forget(choices)
        gone = set(map(id, choices))
        self._lists.drop(lambda key: any(id(entry[0]) in gone for entry in _entries(key)))

    def parts(self, wanted: Sequence[Wanted]) -> tuple[tuple[int, ...], ...]:
        """Give into how many parts each stage of each request can be cut, if they run together."""
        arranged, _ = self.arrange(wanted)
        program = build(arranged.classes, self._threads, self._address)
        found = {
            part: own
            for numbers, own in zip(arranged.parts, parts_of(program), strict=True)
            for part in numbers
        }
        return tuple(found.get(i, ()) for i in range(len(wanted)))

    def _block_maker(
        self, wanted: Sequence[Wanted], arranged: Arranged, rows: Rows, splits: Sequence[Split]
    ) -> Callable[[], BlockCall]:
        whole = build(arranged.classes, self._threads, self._address)
        program, blocks = cut_program(whole, splits)
        templates = templates_of(wanted, arranged)
        return partial(BlockCall, program, blocks, templates, rows, self._address)


def _split_of(parts: Sequence[int], splits: Sequence[Split]) -> Split:
    """Give the split of one class."""
    ways = {_places_of(splits[part]) for part in parts}
    if len(ways) > 1:
        raise VerifyError(f"requests of one template are split in {len(ways)} ways")
    return splits[parts[0]]


def _places_of(split: Split) -> Hashable:
    return split.parts, tuple((b.stop_stage, b.stop_part) for b in split.blocks)


def _entries(key: Hashable) -> Sequence[tuple[Choice, object]]:
    assert isinstance(key, tuple)
    return key
