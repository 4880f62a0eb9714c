"""The console: three files of the package, and one endpoint that only an operator may read."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.requests import Request

from proteus_router.errors import PermissionDeniedError
from proteus_router.serving.app.asgi import header_map
from proteus_router.serving.app.audits import tiers
from proteus_router.serving.app.endpoints import Answer
from proteus_router.serving.app.gateway import Gateway

__all__ = ["icon", "overview", "page", "script", "style"]

_DAY_S = 86_400.0
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


async def page(gateway: Gateway, request: Request) -> Answer:
    """The page itself holds nothing of anybody: what it shows it asks for with the operator's key."""
    return _file("index.html", b"text/html; charset=utf-8")


async def script(gateway: Gateway, request: Request) -> Answer:
    return _file("console.js", b"text/javascript; charset=utf-8")


async def icon(gateway: Gateway, request: Request) -> Answer:
    return _file("icon.svg", b"image/svg+xml")


async def style(gateway: Gateway, request: Request) -> Answer:
    return _file("console.css", b"text/css; charset=utf-8")


async def overview(gateway: Gateway, request: Request) -> Answer:
    """Everything the console shows of the last day, for an admin key, or for whoever calls where there are no keys.

    What was said of each tier over time comes with ``?history=1`` only: the page asks for it every six minutes.
    """
    _, sees = gateway.reader(header_map(request.scope))
    if sees is not None and not gateway.is_operator(sees):
        raise PermissionDeniedError("the console is for operators.", hint="Sign in with an admin key.")
    live = gateway.live
    found = await gateway.store.overview(gateway.clock.wall() - _DAY_S)
    shown: Any = (await tiers(gateway, request)).content
    if request.query_params.get("history") == "1":
        found["history"] = {name: gateway.control.history.of(name) for name in live.tiers}
    return Answer(
        {
            **found,
            "now": gateway.clock.wall(),
            "tiers": shown["data"],
            "models": shown.get("models", []),
            "inputs": shown.get("inputs"),
            "frontier": _frontier(gateway),
            "fixed": _fixed(gateway),
            "generation": live.generation,
            "stale_reason": live.stale_reason,
            "warnings": list(live.warnings),
        }
    )


def _frontier(gateway: Gateway) -> dict[str, Any]:
    """Estimated mean score and USD per request along the frontier, and how far certificates reach."""
    target_map = gateway.live.router.target_map
    points = np.stack((target_map.internal_targets, target_map.expected_costs_usd), axis=1)[
        target_map.on_frontier
    ]
    return {"points": points[points[:, 0].argsort()[::-1]].tolist(), **target_map.certified_range}


def _fixed(gateway: Gateway) -> list[dict[str, Any]]:
    """Each model alone, as the router's outcomes have it."""
    entries = gateway.live.router.manifest.get("models", [])
    names = ("name", "mean_score", "mean_cost_usd")
    return [{name: entry.get(name) for name in names} for entry in entries]


@cache
def _content(name: str) -> bytes:
    return files("proteus_router.serving.console").joinpath(name).read_bytes()


def _file(name: str, content_type: bytes) -> Answer:
    return Answer(_content(name), headers=_HEADERS, content_type=content_type)
