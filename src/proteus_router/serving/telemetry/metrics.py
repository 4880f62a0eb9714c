"""Prometheus metrics. Label values come from the configuration, never from a request: no client can make more series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from proteus_router.errors import UpstreamError
from proteus_router.serving.records import DecisionRecord

__all__ = ["Gauge", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_OVERHEAD = (0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_COUNTED_TOGETHER = 64

Gauge = tuple[str, str, tuple[str, ...], Callable[[], Iterable[tuple[tuple[str, ...], float]]]]
"""Name, help, label names, and what to ask at each scrape for label values and number."""


class Metrics:
    """All metrics of one gateway, in a registry of its own.

    Parameters
    ----------
    gauges
        States that are read when Prometheus asks: breakers, floors, the store.
    """

    content_type = b"text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, gauges: Iterable[Gauge] = ()) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        new: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter(
            "proteus_requests_total", "Requests answered.", ("endpoint", "status"), **new
        )
        self._latency = Histogram(
            "proteus_request_seconds",
            "From request to the end of the answer.",
            ("endpoint",),
            buckets=_SECONDS,
            **new,
        )
        self._first_byte = Histogram(
            "proteus_upstream_first_byte_seconds",
            "From call to first byte.",
            ("model",),
            buckets=_SECONDS,
            **new,
        )
        self._overhead = Histogram(
            "proteus_overhead_seconds", "Spent in the gateway itself, by request.", buckets=_OVERHEAD, **new
        )
        self._decisions = Counter(
            "proteus_decisions_total",
            "Decisions by tier, model, certified and status.",
            ("tier", "model", "certified", "status"),
            **new,
        )
        self._cost = Counter("proteus_cost_usd_total", "Billed or estimated USD.", ("tier", "model"), **new)
        self._tokens = Counter(
            "proteus_tokens_total", "Tokens as upstreams counted.", ("model", "kind"), **new
        )
        self._upstream_errors = Counter(
            "proteus_upstream_errors_total", "Failed series of attempts.", ("model", "code"), **new
        )
        self._attempts = Counter("proteus_upstream_attempts_total", "Calls to upstreams.", ("model",), **new)
        self._feedback = Counter("proteus_feedback_total", "Feedback items by outcome.", ("status",), **new)
        self._reloads = Counter(
            "proteus_reloads_total", "Reloads of router and configuration.", ("result",), **new
        )
        self._children: dict[tuple[Any, ...], Any] = {}
        self._waiting: list[tuple[str, int, float, DecisionRecord | None]] = []
        self.registry.register(_Gauges(tuple(gauges)))

    def request(
        self, endpoint: str, status: int, seconds: float, decision: DecisionRecord | None = None
    ) -> None:
        """One answered request of any endpoint, with its decision where one was made.

        Counted a little later, many at a time: one by one, counting would cost a request as much as its
        routing.
        """
        self._waiting.append((endpoint, status, seconds, decision))
        if len(self._waiting) >= _COUNTED_TOGETHER:
            self._count()

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        for endpoint, status, seconds, decision in waiting:
            self._child(self._requests, endpoint, f"{status}").inc()
            self._child(self._latency, endpoint).observe(seconds)
            if decision is not None:
                self._count_decision(decision)

    def _count_decision(self, record: DecisionRecord) -> None:
        """Its model and tier are names of the configuration."""
        tier, model = record.tier or "none", record.model or "none"
        certified = "true" if record.certified else "false"
        self._child(self._decisions, tier, model, certified, record.status).inc()
        self._overhead.observe(record.overhead_s)
        if record.cost_usd:
            self._child(self._cost, tier, model).inc(record.cost_usd)
        if record.first_byte_s is not None:
            self._child(self._first_byte, model).observe(record.first_byte_s)
        if record.input_tokens is not None and record.output_tokens is not None:
            self._child(self._tokens, model, "input").inc(record.input_tokens)
            self._child(self._tokens, model, "output").inc(record.output_tokens)

    def attempts(self, model: str, count: int) -> None:
        if count:
            self._child(self._attempts, model).inc(count)

    def upstream_error(self, error: UpstreamError) -> None:
        self._child(self._upstream_errors, error.model, error.code).inc()

    def feedback(self, status: str) -> None:
        self._child(self._feedback, status).inc()

    def reload(self, result: str) -> None:
        self._child(self._reloads, result).inc()

    def exposition(self) -> bytes:
        """What /metrics answers."""
        self._count()
        return generate_latest(self.registry)

    def _child(self, metric: Any, *labels: str) -> Any:
        """`metric.labels(...)`, which is slow for what it does, remembered."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


class _Gauges(Collector):
    def __init__(self, gauges: tuple[Gauge, ...]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, text, labels, ask in self._gauges:
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric: Any = family(name, text, labels=labels)
            for values, number in ask():
                metric.add_metric(values, number)
            yield metric
