"""Logs: one JSON object a line (or plain text), one line a request, nothing a caller wrote but ids."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

import orjson

from proteus_router.serving.records import DecisionRecord

__all__ = ["RequestLog", "configure_logging"]

_access = logging.getLogger("proteus_router.access")
_FLUSH_S = 0.2
_FLUSH_LINES = 200


def configure_logging(level: str, form: Literal["json", "text"]) -> None:
    """Send everything that is logged in this process to stderr in one form."""
    handler = _GatheringHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonFormatter() if form == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What no line shows need not be looked up for every request (the logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("asyncio", "alembic", "sqlalchemy", "aiohttp.client", "urllib3", "opentelemetry"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class RequestLog:
    """Writes the line of each request."""

    def request(self, endpoint: str, method: str, status: int, seconds: float, request_id: str) -> None:
        """A request of an endpoint that decides nothing."""
        if _access.isEnabledFor(logging.INFO):
            fields = {"request_id": request_id, "http_status": status, "latency_s": round(seconds, 6)}
            _access.info("%s %s %d", method, endpoint, status, extra={"fields": fields})

    def decision(self, endpoint: str, record: DecisionRecord) -> None:
        """A request that was decided."""
        if not _access.isEnabledFor(logging.INFO):
            return
        fields = {
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
        }
        _access.info("POST %s %d", endpoint, record.http_status, extra={"fields": fields})


class _GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes lines of requests some at a time, and at once whatever needs attention.

    What is gathered is written within `_FLUSH_S`, before any warning, and when the process ends in good order.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._flush_is_coming = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
            if record.levelno > logging.INFO or len(self._lines) >= _FLUSH_LINES or not self._later():
                self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        finally:
            self.release()

    def _later(self) -> bool:
        """Whether a flush is coming; none can be where no event loop runs in this thread."""
        if not self._flush_is_coming:
            try:
                asyncio.get_running_loop().call_later(_FLUSH_S, self._flush_now)
            except RuntimeError:
                return False
            self._flush_is_coming = True
        return True

    def _flush_now(self) -> None:
        self._flush_is_coming = False
        self.flush()


class _JsonFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._second, self._stamp = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line: dict[str, Any] = {
            "time": f"{self._stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode("utf-8")
        except TypeError:  # half a surrogate pair in a message: json escapes it
            return json.dumps(line, default=str)
