"""What is counted per model version, as Triton counts it. Touched by the event loop only.

A request's time in the queue ends with the launch in which it begins to run. Requests of a model
that begin in one launch are one execution, whatever runs beside them; its batch size is their rows.
"""

from asyncio import CancelledError
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from operator import add
from typing import TypeAlias

from fusec.ir.errors import ConfigError, Rejected
from fusec.ir.frozen import dataclass
from fusec.server.errors import Fault, ServerError

__all__ = ["Phase", "Reason", "Statistics", "Times", "reason_of"]


class Reason(StrEnum):
    """Why a request failed."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"


class Phase(StrEnum):
    """What a request's time goes to."""

    SUCCESS = "success"
    FAIL = "fail"
    QUEUE = "queue"
    COMPUTE_INPUT = "compute_input"
    COMPUTE_INFER = "compute_infer"
    COMPUTE_OUTPUT = "compute_output"
    CACHE_HIT = "cache_hit"
    CACHE_MISS = "cache_miss"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one request that was answered, in nanoseconds."""

    input_ns: int
    queue_ns: int
    infer_ns: int
    output_ns: int

    @property
    def total_ns(self) -> int:
        """From its first byte read to its answer."""
        return self.input_ns + self.queue_ns + self.infer_ns + self.output_ns


_COMPUTE = (Phase.COMPUTE_INPUT, Phase.COMPUTE_INFER, Phase.COMPUTE_OUTPUT)
_SIZES = 256
"""Batch sizes that are told apart; clients choose them."""
_OPEN = 16
"""Executions of which more answers may come: those of each lane, and of what was interrupted."""

Batches: TypeAlias = dict[int, list[int]]
"""By size, or 0 for those beyond that many sizes: how many executions, and times by `_COMPUTE`."""


class Statistics:
    """Counters of one version of a model. Plain numbers: each request touches all of them."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.pending = 0
        """Requests that are neither answered nor failed."""
        self.inferences = 0
        """Rows that were answered."""
        self.executions = 0
        self.last_ms = 0
        """When the last request was answered; 0: never."""
        self.failures: Counter[Reason] = Counter()
        self._answers = self._failed_ns = 0
        self._input_ns = self._queue_ns = self._infer_ns = self._output_ns = 0
        self._batches: Batches = {}
        self._open: dict[object, list[int]] = {}
        """By launch: rows, and times of the slowest request, by `_COMPUTE`."""

    def answered(self, rows: int, times: Times, at_ms: int, launch: object | None = None) -> None:
        """Count an answer.

        Args:
            rows: of it.
            times: that it took.
            at_ms: when it was there.
            launch: whoever has the same one ran together; None: it ran alone.

        Cost: 1 us.
        """
        took_in, took, took_out = times.input_ns, times.infer_ns, times.output_ns
        self._answers += 1
        self.inferences += rows
        self.last_ms = at_ms
        self._input_ns += took_in
        self._queue_ns += times.queue_ns
        self._infer_ns += took
        self._output_ns += took_out
        known = None if launch is None else self._open.get(launch)
        if known is not None:
            known[0] += rows
            known[1:] = max(known[1], took_in), max(known[2], took), max(known[3], took_out)
            return
        self.executions += 1
        if launch is None:
            _enter(self._batches, [rows, took_in, took, took_out])
            return
        self._open[launch] = [rows, took_in, took, took_out]
        if len(self._open) > _OPEN:
            _enter(self._batches, self._open.pop(next(iter(self._open))))

    def failed(self, reason: Reason, took_ns: int) -> None:
        """Count a request that was not answered."""
        self.failures[reason] += 1
        self._failed_ns += took_ns

    @property
    def counts(self) -> dict[Phase, int]:
        """Requests, by what they spent time on."""
        every = dict.fromkeys((Phase.SUCCESS, Phase.QUEUE, *_COMPUTE), self._answers)
        return {**dict.fromkeys(Phase, 0), **every, Phase.FAIL: self.failures.total()}

    @property
    def ns(self) -> dict[Phase, int]:
        """What they spent, in all."""
        parts = {
            Phase.QUEUE: self._queue_ns,
            Phase.COMPUTE_INPUT: self._input_ns,
            Phase.COMPUTE_INFER: self._infer_ns,
            Phase.COMPUTE_OUTPUT: self._output_ns,
        }
        known = {**parts, Phase.SUCCESS: sum(parts.values()), Phase.FAIL: self._failed_ns}
        return {**dict.fromkeys(Phase, 0), **known}

    @property
    def batches(self) -> Batches:
        """Executions by size."""
        found = {size: list(row) for size, row in self._batches.items()}
        for execution in self._open.values():
            _enter(found, execution)
        return found

    def to_json(self) -> dict[str, object]:
        """Give the figures as the statistics extension has them."""
        counts, ns = self.counts, self.ns
        return {
            "last_inference": self.last_ms,
            "inference_count": self.inferences,
            "execution_count": self.executions,
            "inference_stats": {str(p): {"count": counts[p], "ns": ns[p]} for p in Phase},
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": size,
                    **{
                        str(phase): {"count": count, "ns": took_ns}
                        for phase, took_ns in zip(_COMPUTE, times_ns, strict=True)
                    },
                }
                for size, (count, *times_ns) in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }


def _enter(batches: Batches, execution: Sequence[int]) -> None:
    """Count an execution by its size."""
    rows, *times_ns = execution
    size = rows if rows in batches or len(batches) < _SIZES else 0
    row = batches.setdefault(size, [0, 0, 0, 0])
    row[:] = row[0] + 1, *map(add, row[1:], times_ns)


def reason_of(error: BaseException) -> Reason:
    """Sort a failure."""
    if isinstance(error, CancelledError):
        return Reason.CANCELED
    if isinstance(error, Rejected):
        return Reason.REJECTED
    if isinstance(error, ServerError):
        late = error.fault in (Fault.UNAVAILABLE, Fault.EXPIRED)
        return Reason.REJECTED if late else Reason.OTHER
    return Reason.OTHER if isinstance(error, ConfigError) else Reason.BACKEND
