"""Traces as the SDK's exporters get them: a span a request, one a stage, the caller's trace continued."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from modelport.serve.trace import Tracer, wanted

pytest.importorskip("opentelemetry.sdk", reason="the tests of traces need opentelemetry-sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
START = 1_795_000_000_000_000_000
STAGES = {"decode": 0.001, "pre": 0.002, "queue": 0.0, "net": 0.005, "post": 0.0005}
Memory = tuple[Tracer, InMemorySpanExporter]


@pytest.fixture
def memory() -> Memory:
    """A tracer, and the exporter that keeps what it records."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(provider), exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_with_its_stages_inside(memory: Memory) -> None:
    tracer, exporter = memory
    about = {"modelport.model.name": "digits", "modelport.batch.rows": 8}
    told = tracer.request({}, "POST /predict/{name}", START, STAGES, 200, seconds=0.010, attributes=about)
    spans = by_name(exporter)
    whole = spans.pop("POST /predict/{name}")
    assert whole.kind is SpanKind.SERVER and whole.parent is None
    assert whole.context is not None and format(whole.context.trace_id, "032x") == told
    assert (whole.start_time, whole.end_time) == (START, START + 10_000_000)
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict/{name}",
        "http.response.status_code": 200,
        **about,
    }
    assert list(spans) == ["decode", "pre", "net", "post"]  # the queue took no time
    assert spans["net"].start_time == START + 3_000_000 and spans["net"].end_time == START + 8_000_000
    assert all(span.parent and span.parent.span_id == whole.context.span_id for span in spans.values())


def test_the_callers_trace_goes_on(memory: Memory) -> None:
    tracer, exporter = memory
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "acme=1"}
    assert tracer.request(headers, "POST /x", START, {}, 200) == TRACE
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None and format(span.parent.span_id, "016x") == PARENT
    assert span.context is not None and span.context.trace_state.get("acme") == "1"
    assert span.end_time is not None and span.end_time > START


def test_a_caller_who_does_not_sample_is_heeded(memory: Memory) -> None:
    tracer, exporter = memory
    assert tracer.request({"traceparent": f"00-{TRACE}-{PARENT}-00"}, "POST /x", START, STAGES, 200) == ""
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("traceparent", ["", "x", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "\x00" * 200])
def test_a_broken_traceparent_begins_a_new_trace(memory: Memory, traceparent: str) -> None:
    tracer, exporter = memory
    assert tracer.request({"traceparent": traceparent}, "POST /x", START, {}, 200) != ""
    assert exporter.get_finished_spans()[0].parent is None


@pytest.mark.parametrize(
    ("status", "code"), [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (503, StatusCode.ERROR)]
)
def test_only_the_servers_faults_are_errors(memory: Memory, status: int, code: StatusCode) -> None:
    tracer, exporter = memory
    tracer.request({}, "POST /x", START, {}, status)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is code
    assert (span.attributes or {}).get("error.type") == ("503" if status == 503 else None)


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, None),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, None),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "console"}, None),
    ],
)
def test_the_environment_decides(environ: dict[str, str], kind: str | None) -> None:
    assert wanted(environ) == kind


def test_off_imports_nothing_and_without_the_packages_it_says_so() -> None:
    code = """
import sys
from modelport.serve.trace import Tracer
assert Tracer.open({}) is None and "opentelemetry" not in sys.modules
sys.modules["opentelemetry.sdk.trace"] = None  # as if it were not installed
assert Tracer.open({"OTEL_TRACES_EXPORTER": "otlp"}) is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "modelport[otel]" in done.stderr


def test_the_console_gets_a_line_a_span() -> None:
    code = """
from modelport.serve.trace import Tracer
tracer = Tracer.open({"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "shop"})
tracer.request({}, "POST /x", 1, {"net": 0.5}, 200)
tracer.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    spans = [json.loads(line) for line in done.stderr.splitlines()]
    assert [span["name"] for span in spans] == ["net", "POST /x"] and done.stdout == ""
    assert spans[0]["resource"]["attributes"]["service.name"] == "shop"


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.got.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def test_an_otlp_collector_gets_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the OTLP exporter")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    class Here(Collector):
        got = []  # noqa: RUF012

    with HTTPServer(("127.0.0.1", 0), Here) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{collector.server_port}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            tracer = Tracer.open()
            assert tracer is not None
            tracer.request({"traceparent": f"00-{TRACE}-{PARENT}-01"}, "POST /x", START, {"net": 0.1}, 200)
            tracer.close()
        finally:
            collector.shutdown()
            thread.join(10)
    ((path, body),) = Here.got
    sent = ExportTraceServiceRequest.FromString(body).resource_spans[0]
    named = {item.key: item.value.string_value for item in sent.resource.attributes}
    assert path == "/v1/traces" and named["service.name"] == "modelport"
    spans = sent.scope_spans[0].spans
    assert {span.name for span in spans} == {"net", "POST /x"}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
