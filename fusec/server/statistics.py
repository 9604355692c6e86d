"""What is counted per model version, as Triton counts it. Touched by the event loop only."""

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

    def answered(self, rows: int, times: Times, at_ms: int) -> None:
        """Count an answer."""
        self.inferences += rows
        self.executions += 1
        self.last_ms = at_ms
        parts = (times.input_ns, times.infer_ns, times.output_ns)
        spent = ((Phase.SUCCESS, times.total_ns), (Phase.QUEUE, times.queue_ns))
        for phase, took in (*spent, *zip(_COMPUTE, parts, strict=True)):
            self.counts[phase] += 1
            self.ns[phase] += took
        # Clients choose their batches, so only so many sizes are told apart.
        size = rows if rows in self.batches or len(self.batches) < 256 else 0
        batch = self.batches.setdefault(size, Counter())
        batch["count"] += 1
        for phase, took in zip(_COMPUTE, parts, strict=True):
            batch[phase] += took

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


def reason_of(error: BaseException) -> Reason:
    """Sort a failure."""
    if isinstance(error, Rejected):
        return Reason.REJECTED
    if isinstance(error, ServerError):
        return Reason.REJECTED if error.fault is Fault.UNAVAILABLE else Reason.OTHER
    return Reason.OTHER if isinstance(error, ConfigError) else Reason.BACKEND
