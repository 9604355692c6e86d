"""What is counted per model version, as Triton counts it. Touched by the event loop only.

A request's time in the queue ends with the launch in which it begins to run. Requests of a model
that begin in one launch are one execution, whatever runs beside them; its batch size is their rows.
"""

from asyncio import CancelledError
from collections import Counter
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class _Execution:
    """What is known of one by now."""

    rows: int
    size: int
    """What it is counted under: its rows, or 0 where there are too many sizes."""
    parts_ns: tuple[int, ...]
    """Of the slowest of its requests, by `_COMPUTE`."""


class Statistics:
    """Counters of one version of a model."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.pending = 0
        """Requests that are neither answered nor failed."""
        self.inferences = 0
        """Rows that were answered."""
        self.executions = 0
        self.last_ms = 0
        """When the last request was answered; 0: never."""
        self.counts: Counter[Phase] = Counter()
        self.ns: Counter[Phase] = Counter()
        self.failures: Counter[Reason] = Counter()
        self.batches: dict[int, Counter[str]] = {}
        self._open: dict[object, _Execution] = {}

    def answered(self, rows: int, times: Times, at_ms: int, launch: object | None = None) -> None:
        """Count an answer.

        Args:
            rows: of it.
            times: that it took.
            at_ms: when it was there.
            launch: whoever has the same one ran together; None: it ran alone.
        """
        self.inferences += rows
        self.last_ms = at_ms
        parts = (times.input_ns, times.infer_ns, times.output_ns)
        spent = ((Phase.SUCCESS, times.total_ns), (Phase.QUEUE, times.queue_ns))
        for phase, took in (*spent, *zip(_COMPUTE, parts, strict=True)):
            self.counts[phase] += 1
            self.ns[phase] += took
        self._executed(rows, parts, launch)

    def failed(self, reason: Reason, took_ns: int) -> None:
        """Count a request that was not answered."""
        self.failures[reason] += 1
        self.counts[Phase.FAIL] += 1
        self.ns[Phase.FAIL] += took_ns

    def to_json(self) -> dict[str, object]:
        """Give the figures as the statistics extension has them."""
        return {
            "last_inference": self.last_ms,
            "inference_count": self.inferences,
            "execution_count": self.executions,
            "inference_stats": {
                str(phase): {"count": self.counts[phase], "ns": self.ns[phase]} for phase in Phase
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": size,
                    **{str(p): {"count": batch["count"], "ns": batch[p]} for p in _COMPUTE},
                }
                for size, batch in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }

    def _executed(self, rows: int, parts_ns: tuple[int, ...], launch: object | None) -> None:
        """Count an execution, or make the one of the same launch larger."""
        before = None if launch is None else self._open.pop(launch, None)
        if before is None:
            self.executions += 1
        else:
            self._count(before, -1)
            rows += before.rows
            parts_ns = tuple(map(max, parts_ns, before.parts_ns))
        size = rows if rows in self.batches or len(self.batches) < _SIZES else 0
        execution = _Execution(rows, size, parts_ns)
        self._count(execution, 1)
        if launch is not None:
            self._open[launch] = execution
            if len(self._open) > _OPEN:
                del self._open[next(iter(self._open))]

    def _count(self, execution: _Execution, sign: int) -> None:
        batch = self.batches.setdefault(execution.size, Counter())
        batch["count"] += sign
        for phase, took_ns in zip(_COMPUTE, execution.parts_ns, strict=True):
            batch[phase] += sign * took_ns
        if not batch["count"]:
            del self.batches[execution.size]


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
