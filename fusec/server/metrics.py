"""Metrics as Prometheus reads them: Triton's families by its names and labels, fusec's beside.

Client libraries would add `_total` to the names of counters, which dashboards for Triton do not
look for; so the text is written here.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from fusec.runtime.sched.records import Result
from fusec.runtime.serving.spread import BOUNDS_NS
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
_COUNTERS = (
    ("submitted", "Requests that the runtime was given"),
    ("launches", "Launches on lanes"),
    ("packs", "Packs in launches, one of each template that runs in it"),
    ("packed", "Requests in packs; one that was interrupted is in several"),
    ("instances", "Instances in packs: rows of requests"),
    ("room", "Instances that those packs could have had"),
    ("preemptions", "Launches that left before their last block"),
    ("decisions", "Decisions of the policy"),
    ("promised", "Ended requests that had named a deadline"),
    ("kept", "Requests that were answered before the deadline they had named"),
)
_GAUGES = (
    ("in_flight", "Requests that have not ended"),
    ("queued", "Requests that wait"),
    ("lanes", "Lanes that there are"),
    ("running_lanes", "Lanes that run something"),
    ("attainment", "Share of ended requests that were answered in time, since the start"),
    ("mean_batch", "Requests in a pack, mean since the start"),
    ("mean_pack", "Packs in a launch, mean since the start"),
    ("batch_fill", "Share of instances used, of those that packs may have, since the start"),
    ("prediction_error", "Median error of expected times, as a share, of the last launches"),
)
_MOST_CHARS = 128
"""Of a label. Clients choose tenants' names."""

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
    lines += _runtime(runtime)
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


def _runtime(figures: Mapping[str, Any]) -> Iterable[str]:
    """Write what the runtime counts: counters end in `_total`, times are in seconds."""
    for name, text in _COUNTERS:
        if figures.get(name) is not None:
            yield from _family(f"fusec_{name}_total", text, "counter", [({}, figures[name])])
    for name, text in _GAUGES:
        if figures.get(name) is not None:
            yield from _family(f"fusec_{name}", text, "gauge", [({}, figures[name])])
    outcomes = {**dict.fromkeys(map(str, Result), 0), **figures.get("outcomes", {})}
    yield from _family(
        "fusec_outcomes_total",
        "Requests that ended, by result",
        "counter",
        [({"result": result}, n) for result, n in outcomes.items()],
    )
    if figures.get("busy_ns") is not None:
        busy = figures["busy_ns"] / 1e9
        text = "Time that lanes ran"
        yield from _family("fusec_busy_seconds_total", text, "counter", [({}, busy)])
    tenants = sorted((figures.get("tenant_ns") or {}).items())
    yield from _family(
        "fusec_tenant_seconds_total",
        "Device time of tenants; of those beyond a thousand, together, as 'other'",
        "counter",
        [({"tenant": tenant}, ns / 1e9) for tenant, ns in tenants],
    )
    caches = sorted((figures.get("caches") or {}).items())
    for kind, text in (("hits", "there"), ("misses", "made")):
        yield from _family(
            f"fusec_cache_{kind}_total",
            f"What caches of compiled code were asked for and was {text}",
            "counter",
            [({"cache": cache}, uses[kind]) for cache, uses in caches],
        )
    slack = figures.get("slack")
    if slack is not None:
        yield from _histogram(
            "fusec_slack_at_start_seconds",
            "How long before the deadline that they had named requests began to run",
            slack,
        )


def _histogram(name: str, text: str, spread: Mapping[str, Any]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    *upto, total = itertools.accumulate(spread["counts"])
    for bound_ns, n in zip(BOUNDS_NS, upto, strict=True):
        yield f'{name}_bucket{{le="{bound_ns / 1e9}"}} {n}'
    yield f'{name}_bucket{{le="+Inf"}} {total}'
    yield f"{name}_sum {spread['sum_ns'] / 1e9}"
    yield f"{name}_count {total}"


def _family(name: str, text: str, kind: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    by_labels: dict[str, float] = {}
    for labels, value in samples:
        shown = ",".join([f'{key}="{_escaped(of)}"' for key, of in labels.items()])
        # One series twice, say of names that are the same as far as they are shown, spoils all.
        by_labels[shown] = by_labels.get(shown, 0) + value
    for shown, value in by_labels.items():
        yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    text = text[:_MOST_CHARS]
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c == "\n" else "\ufffd" for c in text])
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
