"""The provider's endpoints beside the three APIs: models, known prompts, grading, orders, statistics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proteus_router.serving.provider.answers import BadRequestError
from proteus_router.serving.provider.orders import Orders, parse_order
from proteus_router.serving.provider.shapes.chat import error
from proteus_router.serving.provider.truth import Truth

__all__ = ["admin_app"]


def admin_app(truth: Truth, orders: Orders, statistics: Callable[[], dict[str, Any]]) -> Starlette:
    async def models(request: Request) -> Response:
        entries = [
            {"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in truth.models
        ]
        return _json({"object": "list", "data": entries})

    async def prompts(request: Request) -> Response:
        count = int(request.query_params.get("n", "100"))
        return _json(
            {
                "prompts": [
                    {"query_id": k.query_id, "query": k.text, "task": k.task}
                    for k in islice(truth.known(), count)
                ]
            }
        )

    async def grade(request: Request) -> Response:
        content = await _object(request)
        items = content.get("items", [content])
        try:
            scores = [truth.grade(item["query"], item["answer"]) for item in items]
        except (KeyError, TypeError, AttributeError) as problem:
            raise BadRequestError('each item needs texts under "query" and "answer"') from problem
        return _json({"scores": scores} if "items" in content else {"score": scores[0]})

    async def order(request: Request) -> Response:
        if request.method == "DELETE":
            orders.clear()
        elif request.method == "PUT":
            content = await _object(request)
            model = content.pop("model", "*")
            orders.set(str(model), parse_order(orjson.dumps(content)))
        return _json({model: item.model_dump(mode="json") for model, item in orders.current().items()})

    async def stats(request: Request) -> Response:
        return _json(statistics())

    async def health(request: Request) -> Response:
        return _json({"status": "ok", "simulated": True})

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/healthz", health),
            Route("/prompts", prompts),
            Route("/grade", grade, methods=["POST"]),
            Route("/admin/orders", order, methods=["GET", "PUT", "DELETE"]),
            Route("/admin/stats", stats),
        ],
        exception_handlers={BadRequestError: _bad_request},
    )


async def _object(request: Request) -> dict[str, Any]:
    try:
        content = orjson.loads(await request.body())
    except orjson.JSONDecodeError as problem:
        raise BadRequestError(f"the body is not JSON: {problem}") from problem
    if not isinstance(content, dict):
        raise BadRequestError("the body must be a JSON object")
    return content


def _bad_request(request: Request, problem: Exception) -> Response:
    return Response(error(400, "invalid_request", str(problem)), 400, media_type="application/json")


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
