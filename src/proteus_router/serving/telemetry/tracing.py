"""OpenTelemetry spans with ``gen_ai.*`` attributes, where the operator configured a collector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from proteus_router._version import __version__
from proteus_router.errors import ConfigError
from proteus_router.serving.records import DecisionRecord

__all__ = ["NoTraces", "OtlpTraces", "Tracer", "make_tracer"]


class Tracer(Protocol):
    """Follows one request from its headers to its decision."""

    def begin(self, headers: Mapping[bytes, bytes]) -> Any:
        """A token for the request, or None."""
        ...

    def upstream_headers(self, token: Any) -> Mapping[str, str]:
        """Headers that let the upstream's spans join the trace."""
        ...

    def end(self, token: Any, record: DecisionRecord) -> None: ...

    def close(self) -> None: ...


class NoTraces:
    """Nothing is traced."""

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        return None

    def upstream_headers(self, token: Any) -> Mapping[str, str]:
        return {}

    def end(self, token: Any, record: DecisionRecord) -> None:
        return None

    def close(self) -> None:
        return None


def make_tracer(endpoint: str | None, *, service_name: str, sample_ratio: float) -> Tracer:
    """A tracer that exports to `endpoint` over OTLP/HTTP; `NoTraces` without one.

    Raises
    ------
    ConfigError
        The extra ``otel`` is not installed.
    """
    if endpoint is None:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ModuleNotFoundError as error:
        raise ConfigError(
            "observability.otel.endpoint is set, but OpenTelemetry is not installed.",
            hint="pip install 'proteus-router[otel]'",
        ) from error
    resource = Resource.create({"service.name": service_name, "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OtlpTraces(provider)


class OtlpTraces:
    """Spans through an OpenTelemetry SDK provider; it owns the provider and no global state."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("proteus_router", __version__)
        self._context = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    def begin(self, headers: Mapping[bytes, bytes]) -> Any:
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        parent = self._context.extract(carrier) if carrier else None
        return self._tracer.start_span("chat proteus", context=parent, kind=self._kind)

    def upstream_headers(self, token: Any) -> Mapping[str, str]:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._context.inject(carrier, context=set_span_in_context(token))
        return carrier

    def end(self, token: Any, record: DecisionRecord) -> None:
        from opentelemetry.trace import Status, StatusCode

        token.update_name(f"chat {record.model or 'proteus'}")
        token.set_attributes(
            {
                name: value
                for name, value in {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": record.requested_model[:100],
                    "gen_ai.response.model": record.model,
                    "gen_ai.usage.input_tokens": record.input_tokens,
                    "gen_ai.usage.output_tokens": record.output_tokens,
                    "http.response.status_code": record.http_status,
                    "error.type": record.error_code,
                    "proteus.decision_id": record.id,
                    "proteus.tier": record.tier,
                    "proteus.accuracy_target": record.accuracy_target,
                    "proteus.certified": record.certified,
                    "proteus.predicted_score": record.predicted_score,
                    "proteus.cost_usd": record.cost_usd,
                    "proteus.attempts": record.attempts,
                    "proteus.overhead_s": record.overhead_s,
                }.items()
                if value is not None
            }
        )
        if record.status != "ok":
            token.set_status(Status(StatusCode.ERROR, record.error_code or record.status))
        token.end()

    def close(self) -> None:
        self._provider.shutdown()
