"""A concurrent interpreter of Triton kernels: a thread per program, and whoever is unlucky waits.

One thread runs at a time, so an atomic operation is one. At every access to memory a seeded draw
says whether another program goes on instead, so a run can be repeated.

Stores are late on purpose: what a program has stored is seen by others once it releases, and at
some other time otherwise. A signal that is no release, or one that comes before its stores, shows.
Whether threads within a program wait for each other does not: a program is one thread here.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import triton.runtime.interpreter as own
from fusec_testing.grouped import patched_once_a_module

__all__ = ["launch"]

_MOST_POINTS = 3_000_000
_SWITCH, _APPEAR = 0.03, 0.02
"""How probable it is, at an access, that another program goes on, and that late stores appear."""


def launch(
    kernel: Any,
    programs: int,
    arguments: Sequence[object],
    constants: Mapping[str, object],
    seed: int,
    raised: tuple[np.ndarray, int] | None = None,
) -> None:
    """Run programs of a kernel, all at the same time.

    Args:
        kernel: an interpreted function.
        programs: how many.
        arguments: tensors.
        constants: by name.
        seed: decides who goes on.
        raised: a flag, and after how many accesses it is set to 1; -1 is never.

    Raises:
        BaseException: what a program raised; TimeoutError if they never end.
    """
    function = kernel.rewrite()
    scope = own._patch_lang(function)
    try:
        constexprs = own.GridExecutor(function, kernel.arg_names, (programs,)).constexprs
        bound = inspect.getcallargs(function, *arguments, **constants)
        bound = {k: v if k in constexprs else own._implicit_cvt(v) for k, v in bound.items()}
        own.interpreter_builder.set_grid_dim(programs, 1, 1)
        schedule = _Schedule(programs, seed, raised)
        with schedule.watching(), patched_once_a_module():
            schedule.run(lambda: function(**bound))
    finally:
        scope.restore()


class _Schedule:
    def __init__(self, programs: int, seed: int, raised: tuple[np.ndarray, int] | None) -> None:
        self._raised = raised
        self._rng = np.random.default_rng(seed)
        self._gates = [threading.Semaphore(0) for _ in range(programs)]
        self._alive = list(range(programs))
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self._points = 0
        self._mine = threading.local()

    def run(self, body: Any) -> None:
        threads = [
            threading.Thread(target=self._program, args=(number, body), daemon=True)
            for number in range(len(self._gates))
        ]
        for thread in threads:
            thread.start()
        self._gates[self._draw()].release()
        self._ended.wait()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _draw(self) -> int:
        return self._alive[int(self._rng.integers(len(self._alive)))]

    def _program(self, number: int, body: Any) -> None:
        self._gates[number].acquire()
        self._mine.number, self._mine.late = number, []
        try:
            own.interpreter_builder.set_grid_idx(number, 0, 0)
            # Settings of numpy are a thread's own.
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                body()
            self._appear()
        except BaseException as error:  # noqa: BLE001  # raised again where all is over
            self._errors.append(error)
        self._alive.remove(number)
        if self._alive:
            self._gates[self._draw()].release()
        else:
            self._ended.set()

    def _point(self, switch: float) -> None:
        """Let another program go on, maybe."""
        self._points += 1
        if self._raised and self._points == self._raised[1]:
            self._raised[0][0] = 1
        if self._points > _MOST_POINTS:
            raise TimeoutError("the programs do not end")
        if self._rng.random() < _APPEAR:
            self._appear()
        if self._rng.random() < switch:
            me, other = self._mine.number, self._draw()
            if other != me:
                self._gates[other].release()
                self._gates[me].acquire()

    def _appear(self) -> None:
        for places, values, mask in self._mine.late:
            own._interpreter.store(places, values, mask)
        self._mine.late = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """See all accesses to memory."""
        builder = own.InterpreterBuilder
        load, rmw = builder.create_masked_load, builder.create_atomic_rmw

        def number(this: object) -> object:
            return getattr(self._mine, "grid", None)

        def set_number(this: object, value: object) -> None:
            self._mine.grid = value

        def create_masked_load(this: Any, ptrs: Any, *rest: Any) -> Any:
            self._point(_SWITCH)
            low, high = ptrs.data.min(), ptrs.data.max()
            if any(p.min() <= high and low <= p.max() for p, _, _ in self._mine.late):
                self._appear()
            return load(this, ptrs, *rest)

        def create_masked_store(this: Any, ptrs: Any, value: Any, mask: Any, policy: Any) -> None:
            self._point(_SWITCH)
            self._mine.late.append((ptrs.data, value.data, mask.data))

        def create_atomic_rmw(
            this: Any, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any
        ) -> Any:
            self._point(1.0)
            if "RELEASE" in str(sem).upper():
                self._appear()
            result = rmw(this, op, ptr, val, mask, sem, scope)
            self._point(1.0)
            return result

        with contextlib.ExitStack() as stack:
            for name, new in (
                ("grid_idx", property(number, set_number)),
                ("create_masked_load", create_masked_load),
                ("create_masked_store", create_masked_store),
                ("create_atomic_rmw", create_atomic_rmw),
            ):
                stack.enter_context(mock.patch.object(builder, name, new, create=True))
            yield
