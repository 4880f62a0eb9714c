"""Logs: one JSON object a line (or plain text), one line a request, nothing a caller wrote but ids."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal

import orjson

from proteus_router.serving.records import DecisionRecord

__all__ = ["RequestLog", "configure_logging"]

_access = logging.getLogger("proteus_router.access")
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure_logging(level: str, form: Literal["json", "text"]) -> None:
    """Send everything that is logged in this process to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("asyncio", "alembic", "sqlalchemy", "aiohttp.client", "urllib3", "opentelemetry"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class RequestLog:
    """Writes the line of each request."""

    def request(self, endpoint: str, method: str, status: int, seconds: float, request_id: str) -> None:
        """A request of an endpoint that decides nothing."""
        if _access.isEnabledFor(logging.INFO):
            _access.info(
                "%s %s %d",
                method,
                endpoint,
                status,
                extra={"request_id": request_id, "http_status": status, "latency_s": round(seconds, 6)},
            )

    def decision(self, endpoint: str, record: DecisionRecord) -> None:
        """A request that was decided."""
        if not _access.isEnabledFor(logging.INFO):
            return
        _access.info(
            "POST %s %d",
            endpoint,
            record.http_status,
            extra={
                "request_id": record.request_id,
                "decision_id": record.id,
                "key_id": record.key_id,
                "tier": record.tier,
                "accuracy_target": record.accuracy_target,
                "model": record.model,
                "certified": record.certified,
                "stream": record.stream,
                "status": record.status,
                "error_code": record.error_code,
                "http_status": record.http_status,
                "attempts": record.attempts,
                "input_tokens": record.input_tokens,
                "output_tokens": record.output_tokens,
                "cost_usd": record.cost_usd,
                "latency_s": round(record.latency_s, 6),
                "overhead_s": round(record.overhead_s, 6),
            },
        )


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(
            (name, value) for name, value in vars(record).items() if name not in _PLAIN and value is not None
        )
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode("utf-8")
        except TypeError:  # half a surrogate pair in a message: json escapes it
            return json.dumps(line, default=str)
