"""The native CPU executor: requests in, answers out, one super-kernel call for any mix."""

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.ir.stage import Lowered
from fusec.ir.template import Template
from fusec.kernels.library import address, prepare
from fusec.runtime.cache import LockedCache
from fusec.runtime.lending import Lender
from fusec.runtime.pool import pool
from fusec.runtime.request import Choice
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.bounds import check_bounds
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.call import SERVICES, Call
from fusec.runtime.tile.code import EXTERN, TemplateCode
from fusec.runtime.tile.externs import Externs, RunExtern
from fusec.runtime.tile.layout import Arranged, Part, arrange
from fusec.runtime.tile.memory import ArenaPool

__all__ = [
    "NativeExecutor",
    "NativeRequest",
    "Prepared",
    "Rows",
    "Traced",
    "Wanted",
    "templates_of",
]

_ALWAYS = (*SERVICES, "arrays", "engine")
"""Kernels and libraries that every run needs."""

Answers = list[tuple[np.ndarray, ...]]

Rows = tuple[tuple[int | None, ...], ...]
"""Of each request, by class; None: it runs whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """One run with the times of its tasks."""

    answers: Answers
    events: np.ndarray
    """dtype EVENT; stages numbered as in the program."""
    program: Program


Guard = Callable[[Call, Callable[[], Answers]], Answers]
"""Runs a call, and raises what its extern stages raised."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Who is to run, without inputs: a member, its rows, the extents of the request."""

    choice: Choice
    rows: int | None
    extents: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NativeRequest:
    """One request with its inputs."""

    choice: Choice
    inputs: tuple[np.ndarray, ...]
    """C-contiguous, dtypes and shapes checked."""
    rows: int | None
    extents: Mapping[str, int]


class Prepared:
    """An instance list that was seen before: nothing is planned again. Safe from many threads."""

    def __init__(
        self,
        calls: Lender[Call],
        arranged: Arranged,
        arenas: ArenaPool,
        guard: Guard,
        choices: Sequence[Choice],
    ) -> None:
        """Keep what a run needs.

        Args:
            calls: of the list's program.
            arranged: the list.
            arenas: lends memory.
            guard: runs a call.
            choices: whose weights the list has addresses of; they live as long as this does.
        """
        self._calls, self._arranged, self._arenas, self._guard = calls, arranged, arenas, guard
        self._choices = tuple(choices)

    def run(
        self, inputs: Sequence[Sequence[np.ndarray]], addresses: np.ndarray | None = None
    ) -> Answers:
        """Answer every request.

        Args:
            inputs: of each request, C-contiguous, dtypes and shapes as prepared for.
            addresses: of all inputs, request after request, if the caller has them already.

        Raises:
            KernelError: a kernel or an extern stage reports bad data.
        """
        call = self._borrow()
        try:
            return self._guard(call, lambda: call.run(pool(), self._arenas, inputs, addresses))
        finally:
            self._calls.give(call)

    def trace(self, inputs: Sequence[Sequence[np.ndarray]]) -> Traced:
        """Answer every request and say when which task ran where.

        Args:
            inputs: as for `run`.
        """
        call = self._borrow()
        try:
            call.job.start_trace(len(call.program.table.tasks))
            answers = self._guard(call, lambda: call.run(pool(), self._arenas, inputs))
            return Traced(answers, call.job.stop_trace(), call.program)
        finally:
            self._calls.give(call)

    def _borrow(self) -> Call:
        call = self._calls.take()
        call.bind(self._arranged)
        return call


class NativeExecutor:
    """Runs instances of any templates as one tile program."""

    def __init__(
        self,
        lowered: Callable[[Template], Lowered],
        threads: int,
        run_extern: RunExtern,
        *,
        proved: bool = False,
    ) -> None:
        """Make an executor.

        Args:
            lowered: template -> stages; injected, since the runtime does not know the passes.
            threads: workers of a run.
            run_extern: runs what has no kernel.
            proved: prove every program before it runs first; for tests and for finding faults.
        """
        self._lowered, self._threads, self._proved = lowered, threads, proved
        self._codes: LockedCache[TemplateCode] = LockedCache(limit=None)
        self._bindings: LockedCache[Binding] = LockedCache(limit=128)
        self._prepared: LockedCache[Prepared] = LockedCache(limit=64)
        self._calls: LockedCache[Lender[Call]] = LockedCache(limit=64)
        self._addresses: weakref.WeakKeyDictionary[Choice, np.ndarray] = weakref.WeakKeyDictionary()
        self._arenas = ArenaPool()
        self._externs = Externs(run_extern)

    def run(self, requests: Sequence[NativeRequest]) -> Answers:
        """Answer each request, in order."""
        wanted = [Wanted(r.choice, r.rows, r.extents) for r in requests]
        return self.prepare(wanted).run([r.inputs for r in requests])

    def prepare(self, wanted: Sequence[Wanted]) -> Prepared:
        """Plan an instance list, or find that it was planned before."""
        key = tuple((w.choice, w.rows, tuple(w.extents.items())) for w in wanted)
        return self._prepared.get(key, partial(self._plan, wanted))

    def forget(self, choices: Sequence[Choice]) -> None:
        """Drop what was planned for members that are gone, and their weights with it."""
        gone = set(map(id, choices))
        self._prepared.drop(lambda key: any(id(entry[0]) in gone for entry in _entries(key)))

    def code(self, template: Template) -> TemplateCode:
        """Give a template's encoded stages, made once."""
        return self._codes.get(template.key, partial(self._coded, template))

    def binding(self, template: Template, extents: Mapping[str, int]) -> Binding:
        """Give a template's code for one set of extents, made once while it comes again."""
        key = (template.key, tuple(extents.items()))
        return self._bindings.get(key, lambda: self._bind(template, extents))

    def arrange(self, wanted: Sequence[Wanted]) -> tuple[Arranged, Rows]:
        """Sort an instance list into classes.

        Returns:
            The list, and the rows of each request by class; programs depend on its shape and these.
        """
        arranged = arrange(
            [
                Part(self.binding(w.choice.template, w.extents), self._weights(w.choice), _count(w))
                for w in wanted
            ]
        )
        return arranged, tuple(tuple(wanted[p].rows for p in own) for own in arranged.parts)

    def _plan(self, wanted: Sequence[Wanted]) -> Prepared:
        arranged, rows = self.arrange(wanted)
        calls = self._calls.get(
            (arranged.shape, rows), lambda: Lender(self._maker(wanted, arranged, rows))
        )
        has_extern = any(c.binding.code.externs for c in arranged.classes)
        guard = self._externs.guard if has_extern else _plainly
        return Prepared(calls, arranged, self._arenas, guard, [w.choice for w in wanted])

    def _maker(
        self, wanted: Sequence[Wanted], arranged: Arranged, rows: Rows
    ) -> Callable[[], Call]:
        program = build(arranged.classes, self._threads, self._address)
        if self._proved:
            _prove(program)
        return partial(Call, program, templates_of(wanted, arranged), rows, self._address)

    def _coded(self, template: Template) -> TemplateCode:
        code = TemplateCode(self._lowered(template))
        prepare({*_ALWAYS, *(s.kernel for s in code.stages if s.kernel != EXTERN)})
        return code

    def _bind(self, template: Template, extents: Mapping[str, int]) -> Binding:
        code = self.code(template)
        check_bounds(code.lowered, extents)
        binding = Binding(code, extents)
        self._externs.enter(binding)
        return binding

    def _weights(self, choice: Choice) -> np.ndarray:
        found = self._addresses.get(choice)
        if found is None:
            arrays = [np.frombuffer(blob.data, dtype=np.uint8) for blob in choice.weights]
            found = np.array([a.ctypes.data for a in arrays], dtype=np.int64)
            self._addresses[choice] = found
        return found

    def _address(self, kernel: str) -> int:
        return self._externs.address if kernel == EXTERN else address(kernel)


def _prove(program: Program) -> None:
    from fusec.runtime.tile.tables import Tables
    from fusec.runtime.tile.uses import uses_of
    from fusec.runtime.tile.validate import validate

    validate(program.table, uses_of(program, Tables(program)))


def templates_of(wanted: Sequence[Wanted], arranged: Arranged) -> list[Template]:
    """Give the template of each class of an instance list."""
    return [wanted[own[0]].choice.template for own in arranged.parts]


def _entries(key: Hashable) -> Sequence[tuple[Choice, int | None, object]]:
    assert isinstance(key, tuple)
    return key


def _count(wanted: Wanted) -> int:
    return 1 if wanted.rows is None else wanted.rows


def _plainly(_: Call, run: Callable[[], Answers]) -> Answers:
    return run()
