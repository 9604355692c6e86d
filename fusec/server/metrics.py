"""Metrics as Prometheus reads them: Triton's families by its names and labels, fusec's beside.

Client libraries would add `_total` to the names of counters, which dashboards for Triton do not
look for; so the text is written here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fusec.server.models import Table, Version
from fusec.server.statistics import Phase, Reason

__all__ = ["render"]

_DURATIONS = (
    ("nv_inference_request_duration_us", "Cumulative inference request duration", Phase.SUCCESS),
    ("nv_inference_queue_duration_us", "Cumulative inference queuing duration", Phase.QUEUE),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration",
        Phase.COMPUTE_INPUT,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration",
        Phase.COMPUTE_INFER,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration",
        Phase.COMPUTE_OUTPUT,
    ),
)
_RUNTIME = (
    ("submitted", "counter", "Requests that the runtime was given"),
    ("in_flight", "gauge", "Requests that have not ended"),
    ("queued", "gauge", "Requests that wait"),
    ("running_lanes", "gauge", "Lanes that run something"),
    ("launches", "counter", "Launches on lanes"),
    ("preemptions", "counter", "Launches that left before their last block"),
    ("busy_ns", "counter", "Time that lanes ran, in nanoseconds"),
    ("decisions", "counter", "Decisions of the policy"),
    ("attainment", "gauge", "Share of ended requests that were answered in time"),
    ("promised", "counter", "Ended requests that had named a deadline"),
    ("kept", "counter", "Requests that were answered before the deadline they had named"),
    ("mean_batch", "gauge", "Requests in a pack"),
    ("mean_pack", "gauge", "Packs in a launch"),
    ("batch_fill", "gauge", "Share of instances used, of those that packs may have"),
    ("prediction_error", "gauge", "Mean error of expected times"),
)
_LABELLED = (
    ("outcomes", "result", "Requests that ended, by result"),
    ("tenant_ns", "tenant", "Device time of tenants, in nanoseconds"),
)

Sample = tuple[Mapping[str, str], float | int]


def render(table: Table, runtime: Mapping[str, Any]) -> str:
    """Write all metrics.

    Args:
        table: of models.
        runtime: figures of the runtime, as its `to_json` gives them.
    """
    served = [
        ({"model": name, "version": str(number)}, version)
        for name, model in sorted(table.models.items())
        for number, version in sorted(model.versions.items())
    ]
    lines: list[str] = []
    lines += _models(served)
    for name, kind, text in _RUNTIME:
        if runtime.get(name) is not None:
            lines += _family(f"fusec_{name}", text, kind, [({}, runtime[name])])
    for name, label, text in _LABELLED:
        given = runtime.get(name) or {}
        samples: list[Sample] = [({label: key}, n) for key, n in sorted(given.items())]
        lines += _family(f"fusec_{name}", text, "counter", samples)
    return "\n".join(lines) + "\n"


def _models(served: list[tuple[dict[str, str], Version]]) -> Iterable[str]:
    """Write Triton's families."""
    yield from _family(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        "counter",
        [(labels, v.statistics.counts[Phase.SUCCESS]) for labels, v in served],
    )
    yield from _family(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
        "counter",
        [
            ({**labels, "reason": str(reason)}, v.statistics.failures[reason])
            for labels, v in served
            for reason in Reason
        ],
    )
    yield from _family(
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        "counter",
        [(labels, v.statistics.inferences) for labels, v in served],
    )
    yield from _family(
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        "counter",
        [(labels, v.statistics.executions) for labels, v in served],
    )
    for name, text, phase in _DURATIONS:
        yield from _family(
            name,
            f"{text} in microseconds (includes cached requests)",
            "counter",
            [(labels, v.statistics.ns[phase] // 1000) for labels, v in served],
        )
    yield from _family(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        "gauge",
        [(labels, v.statistics.pending) for labels, v in served],
    )


def _family(name: str, text: str, kind: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(of)}"' for key, of in labels.items())
        yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
