"""The application: routes, and errors that belong to none of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from proteus_router._version import __version__
from proteus_router.routing.router import Router
from proteus_router.serving import console
from proteus_router.serving.app import admin, audits, endpoints
from proteus_router.serving.app.completions import Completions
from proteus_router.serving.app.endpoints import Answer, Endpoint, Handler
from proteus_router.serving.app.gateway import Gateway, KeyringPort, LimitsPort, StorePort, UpstreamPort
from proteus_router.serving.app.problems import Problem, unexpected
from proteus_router.serving.clock import Clock, SystemClock
from proteus_router.serving.records import ApiShape
from proteus_router.serving.settings import Configuration
from proteus_router.serving.telemetry import NoTraces, Tracer

__all__ = ["create_app", "openapi_document"]

_COMPLETIONS: tuple[tuple[str, ApiShape], ...] = (
    ("/v1/chat/completions", "chat"),
    ("/v1/responses", "responses"),
    ("/v1/messages", "messages"),
)
_PLAIN: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/v1/models", endpoints.models),
    ("POST", "/v1/route", endpoints.route),
    ("GET", "/v1/decisions/{decision_id}", endpoints.decision),
    ("POST", "/v1/feedback", endpoints.feedback),
    ("GET", "/v1/audits", audits.audits),
    ("GET", "/v1/tiers", audits.tiers),
    ("POST", "/v1/admin/tiers/{tier}/reset", audits.reset_tier),
    ("POST", "/v1/admin/models/{model}/release", audits.release_model),
    ("POST", "/v1/admin/reload", admin.reload),
    ("DELETE", "/v1/admin/keys/{key_id}", admin.revoke_key),
    ("GET", "/v1/admin/overview", console.overview),
    ("GET", "/console", console.page),
    ("GET", "/console/console.js", console.script),
    ("GET", "/console/console.css", console.style),
    ("GET", "/console/icon.svg", console.icon),
    ("GET", "/healthz", endpoints.healthz),
    ("GET", "/readyz", endpoints.readyz),
    ("GET", "/metrics", endpoints.metrics),
)


def create_app(
    configuration: Configuration,
    *,
    router: Router,
    store: StorePort,
    keyring: KeyringPort,
    limits: LimitsPort,
    upstream: UpstreamPort,
    clock: Clock | None = None,
    tracer: Tracer | None = None,
    keys_made: bool = False,
    load: Callable[[], tuple[Configuration, Router]] | None = None,
    rng: random.Random | None = None,
) -> Starlette:
    """The gateway as an ASGI application over collaborators that the caller starts and closes.

    Parameters
    ----------
    load
        Reads configuration and router anew, for ``POST /v1/admin/reload``; None refuses reloads.
    keys_made
        Whether a key was ever made in the store.

    Returns
    -------
    Starlette
        ``app.state.gateway`` is the `Gateway` behind it, for reloads by signal.

    Raises
    ------
    ConfigError
        The configuration does not fit the router.
    """
    gateway = Gateway(
        configuration,
        router=router,
        store=store,
        keyring=keyring,
        limits=limits,
        upstream=upstream,
        clock=clock or SystemClock(),
        tracer=tracer or NoTraces(),
        keys_made=keys_made,
        load=load,
        rng=rng,
    )
    document = openapi_document()

    async def openapi(gateway: Gateway, request: Request) -> Answer:
        return Answer(document)

    completions = {path: Completions(gateway, api, path) for path, api in _COMPLETIONS}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in completions.items()]
    routes += [
        Route(path, Endpoint(gateway, path, handler), methods=[method])
        for method, path, handler in (*_PLAIN, ("GET", "/openapi.json", openapi))
    ]
    by_method = {
        "GET": Endpoint(gateway, "/v1/admin/keys", admin.list_keys),
        "POST": Endpoint(gateway, "/v1/admin/keys", admin.create_key),
    }
    routes.append(Route("/v1/admin/keys", _ByMethod(by_method), methods=list(by_method)))
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _not_routed, Exception: _unexpected},
    )
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    app.middleware_stack = _Direct(completions, app.build_middleware_stack())
    return app


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of this release."""
    text = files("proteus_router.serving.app").joinpath("openapi.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    document["info"]["version"] = __version__
    return document


class _Direct:
    """The endpoints that models are called by, found without middleware and routes: they handle their own errors."""

    def __init__(self, endpoints: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        self._endpoints, self._rest = endpoints, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._rest
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"], self._rest)
        await endpoint(scope, receive, send)


class _ByMethod:
    """Two endpoints at one path."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints[method](scope, receive, send)


async def _not_routed(request: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = f"{error.detail}: {request.method} has nothing here; GET /openapi.json lists what there is."
    problem = unexpected(error.status_code, message, code, api=_shape(request))
    return _response(problem, error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    return _response(unexpected(api=_shape(request)))


def _shape(request: Request) -> ApiShape:
    return "messages" if request.url.path.startswith("/v1/messages") else "chat"


def _response(problem: Problem, headers: Any = None) -> Response:
    return Response(problem.body, problem.status, dict(headers or {}), problem.content_type.decode("latin-1"))
