"""Spans of requests for OpenTelemetry, if its own variables ask for them and it is installed.

infer (from its first byte read to its answer; continues the trace of the request's headers)
  queue (until the launch in which it begins)
  run (until its answer is there)

Without these variables nothing is imported, and a request costs no more than looking at None.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.statistics import Reason, Times

__all__ = ["Call", "Spans", "asks_for_spans", "start_spans"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = "OTEL_TRACES_EXPORTER"


@dataclass(frozen=True, slots=True)
class Call:
    """What spans tell of a request beside its times."""

    model: str
    version: int
    tenant: str
    parent: Any
    """Of OpenTelemetry's contexts; None: the request begins a trace."""


class Spans:
    """Writes spans once a request has ended, when all times are known."""

    def __init__(
        self, provider: Any, now: Callable[[], int] = time.time_ns, *, own: bool = False
    ) -> None:
        """Take a provider of tracers.

        Args:
            provider: OpenTelemetry's.
            now: gives nanoseconds since 1970.
            own: whether to shut it down at the end.
        """
        from opentelemetry import propagate, trace

        self._trace, self._extract, self._now, self._own = trace, propagate.extract, now, own
        self._provider, self._tracer = provider, provider.get_tracer("fusec.server")

    def parent(self, headers: Mapping[str, str]) -> Any:
        """Give the context that a request's headers tell of: `traceparent`, or as OTEL_PROPAGATORS.

        Headers that make no sense are as good as none.
        """
        from opentelemetry.context import Context

        return self._extract(headers, Context())

    def answered(self, call: Call, rows: int, times: Times) -> None:
        """Write the spans of a request that was answered by now."""
        end = self._now()
        span = self._start(call, end - times.total_ns, "done")
        if span.is_recording():
            span.set_attribute("fusec.rows", rows)
            inside = self._trace.set_span_in_context(span)
            at = end - times.total_ns + times.input_ns
            for name, took_ns in (("queue", times.queue_ns), ("run", times.infer_ns)):
                part = self._tracer.start_span(name, inside, start_time=at)
                at += took_ns
                part.end(at)
        span.end(end)

    def failed(self, call: Call, reason: Reason, text: str, took_ns: int) -> None:
        """Write the span of a request that failed just now."""
        end = self._now()
        span = self._start(call, end - took_ns, reason.lower())
        span.set_status(self._trace.StatusCode.ERROR, text)
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        if self._own:
            self._provider.shutdown()

    def _start(self, call: Call, at_ns: int, outcome: str) -> Any:
        attributes = {
            "fusec.model": call.model,
            "fusec.version": call.version,
            "fusec.tenant": call.tenant,
            "fusec.outcome": outcome,
        }
        parent = self.parent({}) if call.parent is None else call.parent
        kind = self._trace.SpanKind.SERVER
        return self._tracer.start_span("infer", parent, kind, attributes, start_time=at_ns)


def asks_for_spans(environment: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry's variables ask for spans: an exporter, or where to send to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get(_EXPORTERS, "").strip()
    return exporter != "none" and any(environment.get(k) for k in (_EXPORTERS, *_ENDPOINTS))


def start_spans(environment: Mapping[str, str], say: Callable[[str], None]) -> Spans | None:
    """Make what writes spans; None if nobody asks for them, or what they need is not there.

    A provider that the process has already, as `opentelemetry-instrument` gives it one, is used as
    it is. Else the SDK's is made, which reads its own variables.

    Args:
        environment: variables.
        say: is told why there are none, if somebody asks for them.
    """
    if not asks_for_spans(environment):
        return None
    try:
        from opentelemetry import trace

        provider = trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            return Spans(provider)
        return Spans(_provider(environment), own=True)
    except ImportError as e:
        say(f"note: no spans, for {e}: pip install 'fusec[otel]'")
        return None


def _provider(environment: Mapping[str, str]) -> Any:
    """Make a provider with the exporters that are asked for.

    Raises:
        ImportError: one of them, or the SDK, is not installed.
    """
    from importlib.metadata import entry_points

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in environment or "service.name" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "fusec"}))
    for wanted in map(str.strip, (environment.get(_EXPORTERS) or "otlp").split(",")):
        found = entry_points(group="opentelemetry_traces_exporter", name=wanted)
        if not found:
            raise ImportError(f"exporter {wanted!r} is not installed")
        provider.add_span_processor(BatchSpanProcessor(next(iter(found)).load()()))
    return provider
