"""What an admin key may do over HTTP: keys and reloads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from proteus_router.errors import InvalidRequestError, ProteusError, UnknownModelError
from proteus_router.serving.app.asgi import header_map
from proteus_router.serving.app.endpoints import Answer, read_json
from proteus_router.serving.app.gateway import Gateway
from proteus_router.serving.app.problems import problem_of
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import issue_key

__all__ = ["create_key", "list_keys", "reload", "revoke_key"]

_LARGEST = 1e15
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "tier": (str,),
    "tiers": (list,),
    "models": (list,),
    "target_range": (list,),
    "requests_per_minute": (int,),
    "tokens_per_minute": (int,),
    "budget_usd": (int, float),
    "budget_period": (str,),
    "budget_paced": (bool,),
    "admin": (bool,),
}


async def list_keys(gateway: Gateway, request: Request) -> Answer:
    """All keys, revoked ones too; never a token."""
    gateway.caller(header_map(request.scope), admin=True)
    keys = await gateway.store.list_keys()
    return Answer(
        {"object": "list", "data": [{**asdict(key), "spent_usd": _spent(gateway, key)} for key in keys]}
    )


async def create_key(gateway: Gateway, request: Request) -> Answer:
    """A new key; its token is shown in this answer and never again."""
    gateway.caller(header_map(request.scope), admin=True)
    key = _key(await read_json(gateway, request))
    live = gateway.live
    for tier in (*((key.tier,) if key.tier else ()), *(key.tiers or ())):
        if tier not in live.tiers:
            raise UnknownModelError(f"no tier {tier[:100]!r}; there are {', '.join(live.tiers)}.")
    for model in key.models or ():
        if model not in live.entries:
            raise UnknownModelError(f"no model {model[:100]!r}; there are {', '.join(live.entries)}.")
    issued, token = await issue_key(gateway.store, key)
    await gateway.keyring.refresh()
    return Answer({**asdict(issued), "token": token}, status=201)


async def revoke_key(gateway: Gateway, request: Request) -> Answer:
    """Revoke a key for good; requests under way go on to their end."""
    gateway.caller(header_map(request.scope), admin=True)
    revoked = await gateway.store.revoke_key(str(request.path_params["key_id"])[:100])
    await gateway.keyring.refresh()
    return Answer(asdict(revoked))


async def reload(gateway: Gateway, request: Request) -> Answer:
    """Read router and configuration anew; a bad one is refused (422) and the old goes on."""
    gateway.caller(header_map(request.scope), admin=True)
    try:
        live = await gateway.reload()
    except ProteusError as error:
        problem = problem_of(error)
        return Answer(problem.body, status=422)
    return Answer(
        {"generation": live.generation, "router": live.fingerprint, "warnings": list(live.warnings)}
    )


def _spent(gateway: Gateway, key: ApiKey) -> float | None:
    """In the present period of its budget, requests in flight counted; None without a budget."""
    left_usd = gateway.limits.remaining_usd(key)
    return None if left_usd is None or key.budget_usd is None else key.budget_usd - left_usd


def _key(body: dict[str, Any]) -> ApiKey:
    for name, value in body.items():
        kinds = _FIELDS.get(name)
        if kinds is None:
            raise InvalidRequestError(
                f"a key has no field {name[:100]!r}.", hint=f"It may hold {', '.join(_FIELDS)}."
            )
        if value is not None and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            raise InvalidRequestError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}.")
        if isinstance(value, int | float) and not -_LARGEST < value < _LARGEST:
            raise InvalidRequestError(f"{name} is out of range.")
    given = {name: value for name, value in body.items() if value is not None}
    if "name" not in given:
        raise InvalidRequestError("name is missing.")
    for name in ("tiers", "models"):
        if name in given:
            if not all(isinstance(item, str) for item in given[name]):
                raise InvalidRequestError(f"{name} must be a list of names.")
            given[name] = tuple(given[name])
    if "target_range" in given:
        pair = given["target_range"]
        if len(pair) != 2 or not all(
            isinstance(end, int | float) and not isinstance(end, bool) for end in pair
        ):
            raise InvalidRequestError("target_range must be [lowest, highest].")
        given["target_range"] = (float(pair[0]), float(pair[1]))
    return ApiKey(id="", **given)
