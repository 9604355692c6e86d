"""Spans: whose they are, how long they took, and that headers make no trouble."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusec_testing.live_server import ask, live, model, request
from fusec_testing.serving import FakeStore
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import Rejected
from fusec.server.caller import NOBODY, Callers
from fusec.server.running import Options
from fusec.server.statistics import Reason, Times
from fusec.server.tracing import Call, Spans, asks_for_spans, start_spans

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{PARENT}-01"
NOW = 1_700_000_000_000_000_000


class Kept:
    """Spans, and all that was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = Spans(provider, lambda: NOW)

    def by_name(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_request_is_a_span_with_its_waiting_and_running_inside(kept: Kept) -> None:
    parent = kept.spans.parent({"traceparent": HEADER})
    kept.spans.answered(Call("m", 3, "ann", parent), 5, Times(1000, 2000, 4000, 500))
    spans = kept.by_name()
    whole, queue, run = spans["infer"], spans["queue"], spans["run"]
    assert f"{whole.context.trace_id:032x}" == TRACE  # type: ignore[union-attr]
    assert f"{whole.parent.span_id:016x}" == PARENT  # type: ignore[union-attr]
    assert (whole.start_time, whole.end_time) == (NOW - 7500, NOW)
    assert (queue.start_time, queue.end_time) == (NOW - 6500, NOW - 4500)
    assert (run.start_time, run.end_time) == (NOW - 4500, NOW - 500)
    for part in (queue, run):
        assert part.parent == whole.context
    assert whole.kind is SpanKind.SERVER
    assert dict(whole.attributes or {}) == {
        "fusec.model": "m",
        "fusec.version": 3,
        "fusec.tenant": "ann",
        "fusec.outcome": "done",
        "fusec.rows": 5,
    }


def test_a_failure_is_one_span_with_its_reason(kept: Kept) -> None:
    kept.spans.failed(Call("m", 1, "ann", None), Reason.REJECTED, "Request timeout expired", 900)
    (span,) = kept.exporter.get_finished_spans()
    assert (span.start_time, span.end_time) == (NOW - 900, NOW)
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "Request timeout expired",
    )
    assert (span.attributes or {})["fusec.outcome"] == "rejected"
    assert span.parent is None


def test_a_trace_that_is_not_sampled_is_not_written(kept: Kept) -> None:
    parent = kept.spans.parent({"traceparent": HEADER[:-2] + "00"})
    kept.spans.answered(Call("m", 1, "", parent), 1, Times(1, 1, 1, 1))
    assert kept.exporter.get_finished_spans() == ()


HEADERS = st.dictionaries(
    st.sampled_from([b"traceparent", b"tracestate", b"baggage", b"x-tenant", b"x"]),
    st.one_of(
        st.binary(max_size=200),
        st.from_regex(rb"[0-9a-fA-F]{2}-[0-9a-fA-F]{30,34}-[0-9a-f]{15,17}-[0-9a-z]{0,3}.{0,5}"),
        st.binary(max_size=6).map(lambda noise: HEADER.encode() + noise),
        st.integers(0, 54).map(lambda i: HEADER.encode()[:i] + b"-" + HEADER.encode()[i + 1 :]),
        st.just(b"0" * 100_000),
        st.just(b"k=v," * 20_000),
    ),
)


@given(HEADERS)
def test_headers_of_any_kind_begin_or_continue_a_trace(headers: dict[bytes, bytes]) -> None:
    kept = Kept()
    caller = Callers("X-Tenant", kept.spans).of_http(headers)
    assert caller.tenant is None or 0 < len(caller.tenant) <= 4096
    kept.spans.answered(Call("m", 1, "t", caller.parent), 1, Times(1, 1, 1, 1))
    for span in kept.exporter.get_finished_spans():
        assert span.context is not None
        assert span.context.is_valid


def test_only_a_header_as_it_should_be_is_a_parent(kept: Kept) -> None:
    from opentelemetry.trace import get_current_span

    for wrong in (
        "",
        "00",
        HEADER.upper(),
        HEADER[:-1],
        f"ff{HEADER[2:]}",
        f"00-{'0' * 32}-{PARENT}-01",
    ):
        context = kept.spans.parent({"traceparent": wrong})
        assert not get_current_span(context).get_span_context().is_valid, wrong
    right = get_current_span(kept.spans.parent({"traceparent": HEADER})).get_span_context()
    assert f"{right.span_id:016x}" == PARENT


def test_nothing_is_read_where_nothing_is_of_interest() -> None:
    class Untouchable:
        """Fails whoever looks."""

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    unread: Any = Untouchable()
    assert Callers().of_http(unread) is NOBODY
    assert Callers().of_grpc(unread) is NOBODY


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_who_asks_for_spans(variables: dict[str, str], wanted: bool) -> None:
    assert asks_for_spans(variables) is wanted


def test_exporters_that_are_not_there_are_told_of_and_do_no_harm() -> None:
    said: list[str] = []
    assert start_spans({"OTEL_TRACES_EXPORTER": "nope"}, said.append) is None
    assert said == [
        "note: no spans, for exporter 'nope' is not installed: pip install 'fusec[otel]'"
    ]
    assert start_spans({}, said.append) is None
    assert len(said) == 1


def test_nothing_is_imported_that_nobody_asks_for() -> None:
    code = (
        "import sys, fusec.server.tracing as t, fusec.server.service\n"
        "assert t.start_spans({}, print) is None\n"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    kept = Kept()
    monkeypatch.setattr("fusec.server.running.start_spans", lambda *_: kept.spans)
    yield kept


def test_a_server_writes_spans_of_both_protocols(tmp_path: Path, written: Kept) -> None:
    library = pytest.importorskip("tritonclient.grpc")
    model(tmp_path, "m")
    store = FakeStore()
    options = Options(repositories=[tmp_path], tenant_header="X-Tenant")
    with live(options, store) as server:
        body = json.dumps(request(2, parameters={"tenant": "liar"})).encode()
        headers = {"traceparent": HEADER, "X-Tenant": "ann"}
        assert ask(server, "POST", "/v2/models/m/infer", body, **headers)[0] == 200
        assert store.calls[-1]["tenant"] == "ann"
        assert ask(server, "POST", "/v2/models/m/infer", body)[0] == 200
        assert store.calls[-1]["tenant"] == "liar"
        client = library.InferenceServerClient(server.grpc)
        x = library.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(np.zeros((1, 4), dtype=np.float32))
        client.infer("m", [x], headers={"traceparent": HEADER, "x-tenant": "bob"})
        client.close()
        assert store.calls[-1]["tenant"] == "bob"
        store.error = Rejected("late", "expired")
        assert ask(server, "POST", "/v2/models/m/infer", body)[0] == 504
    spans = [s for s in written.exporter.get_finished_spans() if s.name == "infer"]
    tenants = [(s.attributes or {})["fusec.tenant"] for s in spans]
    assert tenants == ["ann", "liar", "bob", "liar"]
    outcomes = [(s.attributes or {})["fusec.outcome"] for s in spans]
    assert outcomes == ["done", "done", "done", "rejected"]
    traces = [f"{s.context.trace_id:032x}" == TRACE for s in spans if s.context]
    assert traces == [True, False, True, False]
