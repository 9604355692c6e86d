"""Requests through the native executor; through PyTorch where a template has no stages."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fusec.ir.dtypes import NO_NUMPY, numpy_dtype
from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.ir.symbols import evaluate
from fusec.ir.template import Template
from fusec.runtime.arrays import Array, array_of, tensor_of_array, widened
from fusec.runtime.request import Choice, Request
from fusec.runtime.tile.executor import Prepared, Wanted

__all__ = [
    "Answers",
    "Planned",
    "ThroughNative",
    "TileExecutor",
    "WholeRequests",
    "given_back",
    "inputs_of",
    "no_rows",
    "wanted_of",
]

Answers = list[tuple[np.ndarray, ...]]


class Planned(Protocol):
    """An instance list that an executor has planned."""

    def run(
        self, inputs: Sequence[Sequence[np.ndarray]], addresses: np.ndarray | None = None
    ) -> Answers:
        """Answer every request; rows are joined.

        Args:
            inputs: of each request, C-contiguous, dtypes and shapes as planned for.
            addresses: of all inputs, request after request, if the caller has them already.
        """


class TileExecutor(Protocol):
    """What runs stages: the native executor, or the reference that tests compare it with."""

    def prepare(self, wanted: Sequence[Wanted]) -> Planned:
        """Plan an instance list, or find that it was planned before."""

    def forget(self, choices: Sequence[Choice]) -> None:
        """Drop what was planned for members that are gone."""


class WholeRequests(Protocol):
    """What answers requests, each as it wants: NumPy arrays or torch tensors."""

    def run(self, requests: Sequence[Request]) -> list[tuple[Array, ...]]:
        """Answer each request, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class TracedRun:
    """Answers of one run, and the times of its tasks."""

    answers: list[tuple[Array, ...]]
    events: np.ndarray
    stage_names: list[str]


class ThroughNative:
    """Runs whole requests."""

    def __init__(
        self,
        executor: TileExecutor,
        has_stages: Callable[[Template], bool],
        others: WholeRequests,
    ) -> None:
        """Take executors.

        Args:
            executor: of stages.
            has_stages: tells whether a template could be lowered.
            others: answers requests of templates that could not.
        """
        self.executor = executor
        self._has_stages, self._others = has_stages, others

    def run(self, requests: Sequence[Request]) -> list[tuple[Array, ...]]:
        """Answer each request, in order; see `answer`."""
        return self.answer(requests)[0]

    def trace(self, requests: Sequence[Request]) -> "TracedRun":
        """Answer each request and say when which task ran where.

        Raises:
            UnsupportedError: PyTorch runs one of the models whole, or the executor cannot trace.
        """
        apart = [r.target.name for r in requests if not self._has_stages(r.choice.template)]
        planned = self.executor.prepare(list(map(wanted_of, requests)))
        if apart or not isinstance(planned, Prepared):
            raise UnsupportedError(f"{', '.join(apart) or 'this executor'}: nothing to trace")
        traced = planned.trace(list(map(inputs_of, requests)))
        return TracedRun(
            [
                given_back(r, no_rows(r, o) if r.rows == 0 else o)
                for r, o in zip(requests, traced.answers, strict=True)
            ],
            traced.events,
            [
                str(stage.op) if stage.extern is None else stage.extern.row.op
                for cls in traced.program.classes
                for stage in cls.binding.code.lowered.stages
            ],
        )

    def answer(self, requests: Sequence[Request]) -> tuple[list[tuple[Array, ...]], Planned | None]:
        """Answer each request, in order.

        Returns:
            The answers, and what gives them again for other inputs of the same shapes; None where
            the executor does not give all of them.

        Raises:
            KernelError: a kernel or an extern stage refuses values.
            RuntimeError: or another of Python's errors, where PyTorch refuses values.
        """
        answers: list[tuple[Array, ...]] = [()] * len(requests)
        own, others = [], []
        for i, request in enumerate(requests):
            if not self._has_stages(request.choice.template):
                others.append(i)
            elif request.rows == 0 and None not in request.choice.template.output_axes:
                answers[i] = given_back(request, no_rows(request, ()))
            else:
                own.append(i)
        planned = None
        if own:
            mine = [requests[i] for i in own]
            planned = self.executor.prepare(list(map(wanted_of, mine)))
            outputs = planned.run(list(map(inputs_of, mine)))
            for i, request, output in zip(own, mine, outputs, strict=True):
                joined = no_rows(request, output) if request.rows == 0 else output
                answers[i] = given_back(request, joined)
        if others:
            given = self._others.run([requests[i] for i in others])
            for i, answer in zip(others, given, strict=True):
                answers[i] = answer
        return answers, planned if len(own) == len(requests) else None


def wanted_of(request: Request) -> Wanted:
    """Give who is to run; of no rows, one."""
    return Wanted(request.choice, 1 if request.rows == 0 else request.rows, request.extents)


def inputs_of(request: Request) -> tuple[np.ndarray, ...]:
    """Give inputs as native code takes them; in place of no rows, one of zeros."""
    if request.rows != 0:
        return tuple(map(array_of, request.inputs))
    # An output that is the same whatever the rows is there without any: ask with zeros.
    axes = request.choice.template.input_axes
    return tuple(
        array_of(t) if axis is None else _one_of_zeros(array_of(t), axis)
        for t, axis in zip(request.inputs, axes, strict=True)
    )


def _one_of_zeros(array: np.ndarray, axis: int) -> np.ndarray:
    return np.zeros([1 if i == axis else n for i, n in enumerate(array.shape)], array.dtype)


def no_rows(request: Request, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Give outputs of zero rows; those without a batch axis as they came out."""
    template = request.choice.template
    empty = []
    for i, (spec, axis) in enumerate(zip(template.outputs, template.output_axes, strict=True)):
        if axis is None:
            empty.append(outputs[i])
            continue
        shape = [evaluate(str(d), request.extents) for d in spec.shape]
        shape[axis] = 0
        empty.append(np.empty(shape, dtype=numpy_dtype(spec.dtype)))
    return tuple(empty)


def given_back(request: Request, outputs: Sequence[np.ndarray]) -> tuple[Array, ...]:
    """Give answers in the caller's kind of array."""
    specs = request.choice.template.outputs
    if request.wants_numpy:
        return tuple(
            [
                widened(o, s.dtype) if s.dtype in NO_NUMPY else o
                for o, s in zip(outputs, specs, strict=True)
            ]
        )
    return tuple([tensor_of_array(o, s.dtype) for o, s in zip(outputs, specs, strict=True)])
