"""Metrics, logs and traces of the gateway. None of them holds prompt text, answers or keys."""

from proteus_router.serving.telemetry.logs import RequestLog, configure_logging
from proteus_router.serving.telemetry.metrics import Metrics
from proteus_router.serving.telemetry.tracing import NoTraces, Tracer, make_tracer

__all__ = ["Metrics", "NoTraces", "RequestLog", "Tracer", "configure_logging", "make_tracer"]
