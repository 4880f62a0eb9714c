"""Keys, limits, and whose decisions one may see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import issue_key
from tests.serving.app.helpers import EASY, HARD, Harness, make_settings

CLOSED: dict[str, Any] = {"auth": {"anonymous": False}}


def _admin(gateway: Harness) -> dict[str, str]:
    async def add() -> str:
        _, token = await issue_key(gateway.store, ApiKey(id="", name="root", admin=True))
        await gateway.keyring.refresh()
        return token

    return {"authorization": f"Bearer {asyncio.run(add())}"}


@pytest.fixture
def closed() -> Harness:
    return Harness(make_settings(**CLOSED))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/route"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/models"),
        ("GET", "/v1/decisions/dec_1"),
        ("GET", "/v1/admin/keys"),
        ("POST", "/v1/admin/keys"),
        ("DELETE", "/v1/admin/keys/key_1"),
        ("POST", "/v1/admin/reload"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-proteus-wrong"},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer "},
        {"x-api-key": "wrong"},
        {"x-api-key": "\xff\xfe"},
    ],
)
def test_without_a_good_key_everything_is_401(
    closed: Harness, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = asyncio.run(closed.request(method, path, b"{", headers=headers))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not closed.store.records


def test_a_key_comes_as_bearer_or_as_x_api_key(closed: Harness) -> None:
    bearer = closed.add_key()
    token = bearer["authorization"].removeprefix("Bearer ")
    for headers in (bearer, {"authorization": f"bearer {token}"}, {"x-api-key": token}):
        assert closed.chat(EASY, headers=headers).status == 200


def test_a_revoked_key_is_refused(closed: Harness) -> None:
    headers, admin = closed.add_key(), _admin(closed)
    key_id = closed.store.stored[0][0].id
    assert closed.chat(EASY, headers=headers).status == 200
    revoked = closed.get(f"/v1/admin/keys/{key_id}", headers=admin, method="DELETE")
    assert (revoked.status, revoked.json()["revoked_at"]) == (200, 1.0)
    assert closed.chat(EASY, headers=headers).status == 401
    assert closed.get("/v1/admin/keys/key_none", headers=admin, method="DELETE").status == 404


def test_admins_and_tenants_are_apart(closed: Harness) -> None:
    tenant, admin = closed.add_key(), _admin(closed)
    assert closed.chat(EASY, headers=admin).status == 403
    assert closed.get("/v1/admin/keys", headers=tenant).status == 403
    assert closed.post("/v1/admin/reload", {}, headers=tenant).status == 403
    assert closed.get("/v1/admin/keys", headers=admin).status == 200


def test_an_admin_may_ask_how_a_request_would_be_decided(closed: Harness) -> None:
    body = {"model": "proteus", "messages": [{"role": "user", "content": EASY}]}
    answer = closed.post("/v1/route", body, headers=_admin(closed))
    assert answer.status == 200
    assert answer.json()["model"] in ("small", "middle")  # a coin lies between them
    assert not closed.upstream.calls
    assert not closed.store.records


def test_keys_are_made_over_http_and_shown_once(closed: Harness) -> None:
    admin = _admin(closed)
    wanted = {"name": "acme", "tier": "economy", "tiers": ["economy"], "target_range": [0.6, 0.75]}
    made = closed.post("/v1/admin/keys", wanted, headers=admin)
    assert made.status == 201
    token = made.json()["token"]
    listed = closed.get("/v1/admin/keys", headers=admin)
    assert token.encode() not in listed.body
    assert listed.json()["data"][-1]["name"] == "acme"
    answer = closed.chat(EASY, headers={"authorization": f"Bearer {token}"})
    assert answer.headers["x-proteus-accuracy-target"] == "0.7"


def test_the_list_of_keys_says_what_each_has_spent_of_its_budget(closed: Harness) -> None:
    admin = _admin(closed)
    headers = closed.add_key(budget_usd=5.0, budget_period="month", budget_paced=True)
    closed.add_key()
    paid = float(closed.chat(EASY, headers=headers).headers["x-proteus-cost-usd"])
    listed = closed.get("/v1/admin/keys", headers=admin).json()["data"]
    with_budget = next(key for key in listed if key["budget_usd"])
    assert with_budget["spent_usd"] == pytest.approx(paid)
    assert with_budget["budget_paced"] is True
    assert {key["spent_usd"] for key in listed if key is not with_budget} == {None}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "a", "budget_paced": "yes"}, 400),
        ({"name": "a", "budget_paced": True}, 400),
        ({"name": "a", "tiers": ["premuim"]}, 404),
        ({"name": "a", "tier": "gold"}, 404),
        ({"name": "a", "models": ["gpt"]}, 404),
        ({"name": "a", "tiers": "economy"}, 400),
        ({"name": "a", "tiers": [1]}, 400),
        ({"name": "a", "target_range": [0.5]}, 400),
        ({"name": "a", "target_range": [0.9, 0.5]}, 400),
        ({"name": "a", "requests_per_minute": True}, 400),
        ({"name": "a", "requests_per_minute": 10**400}, 400),
        ({"name": "a", "budget_usd": 1}, 400),
        ({"name": "a", "bugdet_usd": 1}, 400),
        ({"name": "a", "admin": True, "tier": "economy"}, 400),
        ([], 400),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(closed: Harness, body: Any, status: int) -> None:
    answer = closed.post("/v1/admin/keys", body, headers=_admin(closed))
    assert (answer.status, len(closed.store.stored)) == (status, 1)


def test_a_key_made_while_the_database_is_away_is_not_acknowledged(closed: Harness) -> None:
    admin = _admin(closed)
    closed.store.down = True
    assert closed.post("/v1/admin/keys", {"name": "a"}, headers=admin).status == 503
    assert len(closed.store.stored) == 1


def test_a_key_is_held_to_its_tiers_models_and_targets(closed: Harness) -> None:
    headers = closed.add_key(
        tiers=("economy",), tier="economy", models=("small", "middle"), target_range=(0.6, 0.75)
    )
    assert closed.chat(EASY, headers=headers).status == 200
    for refused in (
        closed.chat(EASY, model="proteus/standard", headers=headers),
        closed.chat(EASY, model="large", headers=headers),
        closed.chat(EASY, proteus={"models": ["large"]}, headers=headers),
        closed.chat(EASY, proteus={"accuracy_target": 0.80}, headers=headers),
        closed.chat(EASY, headers={**headers, "x-proteus-accuracy-target": "0.55"}),
    ):
        assert refused.status == 403
        assert refused.json()["error"]["type"] == "permission_error"
    assert closed.chat(EASY, proteus={"accuracy_target": 0.75}, headers=headers).status == 200
    # "hello" goes up to large, which this key may not use; nothing else is predicted to do as well.
    assert closed.chat("hello", headers=headers).status == 503
    listed = {entry["id"] for entry in closed.get("/v1/models", headers=headers).json()["data"]}
    assert listed == {"proteus", "proteus/economy", "small", "middle"}


def test_a_key_whose_tier_is_gone_is_not_served_a_lower_floor(closed: Harness) -> None:
    headers = closed.add_key(tier="premium")
    answer = closed.chat(EASY, headers=headers)
    assert answer.status == 404
    assert "premium" in answer.json()["error"]["message"]


def test_requests_and_tokens_per_minute(closed: Harness) -> None:
    headers = closed.add_key(requests_per_minute=2)
    assert [closed.chat(EASY, headers=headers).status for _ in range(3)] == [200, 200, 429]
    refused = closed.chat(EASY, headers=headers)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    closed.clock.now += 31
    assert closed.chat(EASY, headers=headers).status == 200
    tokens = closed.add_key(tokens_per_minute=30)
    assert [closed.chat(EASY, headers=tokens).status for _ in range(2)] == [200, 429]  # 30 tokens each


def test_a_budget_limits_the_models_and_then_ends(closed: Harness) -> None:
    headers = closed.add_key(budget_usd=2e-4, budget_period="day")
    refused = closed.chat(HARD, headers=headers)  # large is predicted to cost 1e-3
    assert refused.status == 429
    assert refused.json()["error"]["code"] == "budget_exhausted"
    assert int(refused.headers["retry-after"]) > 0
    assert not closed.upstream.calls
    assert closed.chat(EASY, model="proteus/economy", headers=headers).status == 200
    for _ in range(100):
        if closed.chat(EASY, model="middle", headers=headers).status == 429:
            break
    else:
        pytest.fail("the budget never ended")
    key = closed.store.stored[0][0]
    assert closed.limits.remaining_usd(key) is not None
    assert closed.limits.remaining_usd(key) == pytest.approx(
        2e-4 - sum(r.cost_usd or 0 for r in closed.store.records)
    )


def test_what_is_reserved_is_given_back_when_a_request_fails(closed: Harness) -> None:
    from proteus_router.errors import UpstreamConnectError

    headers = closed.add_key(budget_usd=1.0, budget_period="month")
    closed.upstream.script = {
        name: UpstreamConnectError("no.", model=name) for name in ("small", "middle", "large")
    }
    assert closed.chat(EASY, headers=headers).status == 502
    assert closed.limits.remaining_usd(closed.store.stored[0][0]) == 1.0


def test_tenants_see_their_own_decisions_only(closed: Harness) -> None:
    first, second, admin = closed.add_key(), closed.add_key(), _admin(closed)
    closed.chat(EASY, headers=first)
    path = "/v1/decisions/" + closed.store.last.id
    assert closed.get(path, headers=first).json()["id"] == closed.store.last.id
    assert closed.get(path, headers=second).status == 404
    assert closed.get(path, headers=admin).status == 200
    item = {"decision_id": closed.store.last.id, "score": 1}
    closed.post("/v1/feedback", item, headers=second)
    assert closed.store.feedback[-1].key_id == closed.store.stored[1][0].id  # the store compares
    closed.post("/v1/feedback", item, headers=admin)
    assert closed.store.feedback[-1].key_id is None


def test_anonymous_use_ends_with_the_first_key() -> None:
    gateway = Harness(make_settings(auth={}))
    assert gateway.chat(EASY).status == 200
    assert gateway.store.last.key_id == "anonymous"
    headers = gateway.add_key()
    assert gateway.chat(EASY).status == 401
    assert gateway.chat(EASY, headers=headers).status == 200
    asyncio.run(gateway.store.revoke_key(gateway.store.stored[0][0].id))
    asyncio.run(gateway.keyring.refresh())
    assert gateway.chat(EASY).status == 401  # keys were made once: the door does not open again by itself
    assert Harness(make_settings(auth={}), keys_made=True).chat(EASY).status == 401


def test_nobody_is_anonymous_beyond_loopback() -> None:
    for auth in ({}, {"anonymous": True}):
        gateway = Harness(make_settings(auth=auth, server={"host": "0.0.0.0"}))
        assert gateway.chat(EASY).status == 401


def test_anonymous_callers_are_one_tenant_and_no_admin(gateway: Harness) -> None:
    headers = gateway.add_key()
    gateway.chat(EASY, headers=headers)
    assert gateway.get("/v1/decisions/" + gateway.store.last.id).status == 404
    gateway.chat(EASY, headers={"authorization": "Bearer whatever-sdks-insist-on"})
    assert gateway.get("/v1/decisions/" + gateway.store.last.id).status == 200
    assert gateway.get("/v1/admin/keys").status == 401


def test_metrics_are_for_admins_beyond_loopback() -> None:
    def asked(**settings: Any) -> list[int]:
        gateway = Harness(make_settings(**settings))
        return [
            gateway.get("/metrics", headers=headers).status
            for headers in (None, gateway.add_key(), _admin(gateway))
        ]

    assert asked() == [200, 200, 200]
    assert asked(server={"host": "0.0.0.0"}) == [401, 403, 200]
    assert asked(server={"host": "0.0.0.0"}, observability={"metrics_public": True}) == [200, 200, 200]


def test_a_database_that_is_away_stops_feedback_and_not_answers(gateway: Harness) -> None:
    gateway.store.down = True
    assert gateway.chat(EASY).status == 200
    answer = gateway.post("/v1/feedback", {"decision_id": "dec_1", "score": 1})
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "store_unavailable"
    ready = gateway.get("/readyz")
    assert (ready.status, ready.json()["store"]) == (200, "unavailable")
