"""The closed loop over HTTP: audits that wait, what they say of each tier, and what an operator may do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from proteus_router.errors import InvalidRequestError, UnknownModelError
from proteus_router.serving.app.asgi import header_map
from proteus_router.serving.app.endpoints import Answer
from proteus_router.serving.app.gateway import Gateway

__all__ = ["audits", "release_model", "reset_tier", "tiers"]

_MOST_AUDITS, _MOST_SOURCE_CHARS = 1_000, 64
_LARGEST = 2**62
_PARAMETERS = ("tier", "limit", "after", "without_score_of")


async def audits(gateway: Gateway, request: Request) -> Answer:
    """Audits that wait for a score, oldest first: a tenant's own, for an admin everybody's."""
    _, sees = gateway.reader(header_map(request.scope))
    given = request.query_params
    for name in given:
        if name not in _PARAMETERS:
            raise InvalidRequestError(
                f"audits have no parameter {name[:100]!r}.", hint=f"There are {', '.join(_PARAMETERS)}."
            )
    tier, source = given.get("tier"), given.get("without_score_of")
    if tier is not None and tier not in gateway.live.tiers:
        raise UnknownModelError(f"no tier {tier[:100]!r}.", hint="GET /v1/tiers lists what there is.")
    if source is not None and not (0 < len(source) <= _MOST_SOURCE_CHARS and source.isprintable()):
        raise InvalidRequestError(f"without_score_of must be a name of 1 to {_MOST_SOURCE_CHARS} characters.")
    limit = _number(given.get("limit", "100"), "limit", 1, _MOST_AUDITS)
    found = await gateway.store.loop.audits(
        key_id=sees,
        tier=tier,
        after=_number(given.get("after", "0"), "after", 0, _LARGEST),
        limit=limit,
        without_score_of=source,
    )
    return Answer(
        {"object": "list", "data": [asdict(audit) for audit in found], "has_more": len(found) == limit}
    )


async def tiers(gateway: Gateway, request: Request) -> Answer:
    """The tiers this key may use, with what their audits say; for an operator also the models."""
    key, sees = gateway.reader(header_map(request.scope))
    live, control = gateway.live, gateway.control
    entries: list[dict[str, Any]] = []
    for name, settings in live.tiers.items():
        if sees is not None and key.tiers is not None and name not in key.tiers:
            continue
        view = control.views.get(name)
        entry: dict[str, Any] = {
            "id": name,
            "object": "proteus.tier",
            "accuracy_target": settings.accuracy_target,
            "tracked": settings.tracking.enabled,
            "offline_certificate_covers": not settings.tracking.enabled,
            "state": None,
            "max_latency_s": settings.max_latency_s,
            "budget": gateway.budgets.view(name),
            "shadow": None if gateway.shadow is None else gateway.shadow.view(name),
        }
        entries.append(entry if view is None else {**entry, **view.to_dict()})
    answer: dict[str, Any] = {"object": "list", "data": entries}
    if sees is None or gateway.is_operator(sees):
        answer |= {"models": _models(gateway), "inputs": control.inputs()}
    return Answer(answer)


async def reset_tier(gateway: Gateway, request: Request) -> Answer:
    """Begin a tier's evidence anew (admin)."""
    gateway.caller(header_map(request.scope), admin=True)
    name = str(request.path_params["tier"])
    await gateway.control.reset(name)
    view = gateway.control.views.get(name)
    return Answer({"id": name, "object": "proteus.tier", **({} if view is None else view.to_dict())})


async def release_model(gateway: Gateway, request: Request) -> Answer:
    """Take a model out of quarantine (admin)."""
    gateway.caller(header_map(request.scope), admin=True)
    name = str(request.path_params["model"])
    await gateway.control.release(name)
    return Answer({"id": name, "object": "proteus.model", "quarantined": name in gateway.control.quarantined})


def _models(gateway: Gateway) -> list[dict[str, Any]]:
    control = gateway.control
    return [
        {
            "id": name,
            "offset": control.fold.loop.recalibration.offset_of(name),
            "quarantined": name in control.quarantined,
            "collapse": control.fold.collapsed.get(name),
            "changes": [change for change in control.fold.changes if change["model"] == name],
        }
        for name in gateway.live.entries
    ]


def _number(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise InvalidRequestError(f"{name} must be a whole number from {least} to {most}.")
    return int(text)
