"""OpenTelemetry: a span for each request and one for each of its stages, recorded when it has been answered.

Off unless the environment asks for it in OpenTelemetry's own words, and then without cost. The caller's
`traceparent` is continued.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from .._version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("modelport.serve")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
INSTALL = "pip install 'modelport[otel]'"


class Headers(Protocol):
    """A request's headers, by lower-case name."""

    def get(self, name: str, /) -> str | None:
        """The value, or None."""


class Tracer:
    """Records requests as spans.

    Args:
        provider: where the spans go; `close` shuts it down.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("modelport", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ) -> Tracer | None:
        """A tracer if the environment asks for one and the packages are there, or else None.

        Asked for by OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), or by
        OTEL_TRACES_EXPORTER=otlp or console; OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none refuse.
        Sampler, resource and limits are the SDK's to read from the environment.
        """
        kind = wanted(environ)
        if kind is None:
            return None
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

            exporter = _exporter(kind, environ)
        except ImportError as problem:
            log.warning("traces are asked for and cannot be sent: %s — hint: %s", problem, INSTALL)
            return None
        name = environ.get("OTEL_SERVICE_NAME") or "modelport"
        resource = Resource.create({"service.name": name, "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        each = SimpleSpanProcessor if kind == "console" else BatchSpanProcessor
        provider.add_span_processor(each(exporter))
        return cls(provider)

    def request(
        self,
        headers: Headers,
        name: str,
        start_ns: int,
        stages: Mapping[str, float],
        status: int,
        *,
        seconds: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Record one request that has been answered; its trace id, hexadecimal, or "" if it is not sampled.

        Args:
            headers: the request's, for `traceparent` and `tracestate`.
            name: method and route, `POST /predict/{name}`: of few kinds, so not the path.
            start_ns: when it came, in nanoseconds since 1970.
            stages: seconds of each stage, in the order in which they happened. Their lengths are measured;
                their places are one behind the other from the start, which leaves waits between them out.
            status: the HTTP status.
            seconds: from `start_ns` to the answer; until now by default.
            attributes: more to be said of it (`modelport.model.name`, …).
        """
        end = time.time_ns() if seconds is None else start_ns + round(seconds * 1e9)
        method, _, route = name.partition(" ")
        said: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
        if route:
            said["http.route"] = route
        if status >= 500:
            said["error.type"] = str(status)
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(headers, getter=_GETTER),
            kind=self._trace.SpanKind.SERVER,
            attributes=said | dict(attributes or {}),
            start_time=start_ns,
        )
        sampled = span.is_recording()
        if sampled:
            if status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
            self._stages(span, start_ns, stages)
        span.end(end)
        return format(span.get_span_context().trace_id, "032x") if sampled else ""

    def close(self) -> None:
        """Send what is still here."""
        self._provider.shutdown()

    def _stages(self, parent: Any, start_ns: int, stages: Mapping[str, float]) -> None:
        inside = self._trace.set_span_in_context(parent)
        at = start_ns
        for stage, seconds in stages.items():
            if seconds > 0:
                child = self._tracer.start_span(stage, context=inside, start_time=at)
                at += round(seconds * 1e9)
                child.end(at)


def wanted(environ: Mapping[str, str]) -> str | None:
    """`otlp`, `console` or None: what the environment asks for."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    kind = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not kind and any(environ.get(name) for name in ENDPOINTS):
        return "otlp"
    if kind in ("", "none"):
        return None
    if kind not in ("otlp", "console"):
        log.warning("OTEL_TRACES_EXPORTER: expected otlp, console or none, got %r: no traces", kind)
        return None
    return kind


def _exporter(kind: str, environ: Mapping[str, str]) -> SpanExporter:
    """The exporter; what it needs to know it reads from the environment.

    Raises:
        ImportError: its package is not installed.
    """
    if kind == "console":
        import sys

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol == "grpc":
        over_grpc: Any = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        exporter: SpanExporter = over_grpc.OTLPSpanExporter()
        return exporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class _Getter:
    """Headers as the propagator reads them."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        value = carrier.get(key.lower())
        return [value] if value else None

    def keys(self, carrier: Headers) -> list[str]:
        return []


_GETTER: Any = _Getter()
