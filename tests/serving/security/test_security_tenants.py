"""Two tenants and an admin on one gateway: nobody sees, scores, continues or uses up what is another's."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any

import pytest
from click.testing import CliRunner

from proteus_router.cli.keys import keys_group
from proteus_router.serving.provider import Provider
from tests.serving.gateways import SHAPES, UPSTREAM_KEY, Site, bearer, body_of, call, chat, wait_for

EVERYWHERE = [
    *(
        ("POST", path)
        for path in (*SHAPES, "/v1/route", "/v1/feedback", "/v1/admin/keys", "/v1/admin/reload")
    ),
    ("GET", "/v1/models"),
    ("GET", "/v1/decisions/dec_1"),
    ("GET", "/v1/admin/keys"),
    ("DELETE", "/v1/admin/keys/key_1"),
]


@pytest.fixture
def closed(site: Site) -> Site:
    """A gateway for holders of keys, which notices new ones quickly."""
    site.changes = {"auth": {"anonymous": False, "refresh_s": 0.1}}
    return site


def test_wrong_and_revoked_keys_open_nothing(closed: Site, provider: Provider) -> None:
    key_id, revoked = closed.make_key("gone")
    _, good = closed.make_key("good")
    _, admin = closed.make_key("root", admin=True)
    bad = {
        "none": {},
        "unknown": bearer("sk-proteus-" + "x" * 43),
        "no prefix": bearer(good.removeprefix("sk-proteus-")),
        "other case": bearer(good.swapcase()),
        "a prefix of it": bearer(good[:-1]),
        "more than it": bearer(good + "x"),
        "its hash": bearer(hashlib.sha256(good.encode()).hexdigest()),
        "its id": bearer(key_id),
        "not a bearer": {"authorization": f"Basic {good}"},
        "the upstream's": bearer(UPSTREAM_KEY),
        "revoked": bearer(revoked),
        "revoked, the other header": {"x-api-key": revoked},
    }
    with closed.in_thread() as address:
        assert chat(address, closed.questions[0], headers=bearer(revoked)).status == 200
        assert call(address, "DELETE", f"/v1/admin/keys/{key_id}", headers=bearer(admin)).status == 200
        provider.seen.requests.clear()
        answers = {
            (what, method, path): call(
                address, method, path, {} if method == "POST" else None, headers=headers
            )
            for (what, headers), (method, path) in itertools.product(bad.items(), EVERYWHERE)
        }
        assert {place: answer.status for place, answer in answers.items() if answer.status != 401} == {}
        assert (
            len({(a.json()["error"]["message"]) for a in answers.values()}) == 1
        )  # nothing to tell them apart
        assert chat(address, closed.questions[0], headers=bearer(good)).status == 200
    assert provider.seen.requests.total() == 1


def test_a_key_revoked_on_the_command_line_stops_working(closed: Site) -> None:
    key_id, token = closed.make_key()
    with closed.in_thread() as address:
        assert chat(address, closed.questions[0], headers=bearer(token)).status == 200
        store = closed.values()["store"]["url"]
        assert CliRunner().invoke(keys_group, ["revoke", key_id, "--store", store]).exit_code == 0
        wait_for(lambda: chat(address, closed.questions[0], headers=bearer(token)).status == 401, within_s=5)


def test_scopes_are_apart(closed: Site, provider: Provider) -> None:
    _, tenant = closed.make_key()
    _, admin = closed.make_key("root", admin=True)
    with closed.in_thread() as address:
        for path in SHAPES:
            body = body_of(path, closed.questions[0])
            assert call(address, "POST", path, body, headers=bearer(admin)).status == 403
        for method, path in EVERYWHERE:
            if "/admin/" in path:
                assert call(address, method, path, {}, headers=bearer(tenant)).status == 403
        assert provider.seen.requests.total() == 0
        made = call(address, "POST", "/v1/admin/keys", {"name": "new"}, headers=bearer(admin)).json()
        wait_for(lambda: chat(address, closed.questions[0], headers=bearer(made["token"])).status == 200)
        assert (
            made["token"] not in call(address, "GET", "/v1/admin/keys", headers=bearer(admin)).body.decode()
        )


def test_two_tenants_never_see_each_others_decisions(closed: Site) -> None:
    _, first = closed.make_key("first")
    _, second = closed.make_key("second")
    _, admin = closed.make_key("root", admin=True)
    with closed.in_thread() as address:
        mine: dict[str, list[str]] = {first: [], second: []}
        for place, (token, path) in enumerate(itertools.product((first, second), SHAPES)):
            body = body_of(path, closed.questions[0], stream=place % 2 == 0)
            answer = call(address, "POST", path, body, headers=bearer(token))
            mine[token].append(answer.headers["x-proteus-decision-id"])
        for stored in (
            False,
            True,
        ):  # while the decisions wait in the queue, and once they are in the database
            if stored:
                time.sleep(0.5)
            for owner, other in ((first, second), (second, first)):
                for decision_id in mine[owner]:
                    path = f"/v1/decisions/{decision_id}"
                    assert call(address, "GET", path, headers=bearer(owner)).status == 200
                    assert call(address, "GET", path, headers=bearer(admin)).status == 200
                    refused = call(address, "GET", path, headers=bearer(other))
                    unknown = call(address, "GET", f"/v1/decisions/dec_{'0' * 32}", headers=bearer(other))
                    assert (refused.status, unknown.status) == (404, 404)
                    assert _without_id(refused.json()) == _without_id(unknown.json())
                    item = {"decision_id": decision_id, "score": 0.0, "source": f"thief-{stored}"}
                    assert call(address, "POST", "/v1/feedback", item, headers=bearer(other)).status == 404
                    many = call(address, "POST", "/v1/feedback", [item], headers=bearer(other)).json()["data"]
                    assert many[0]["status"] == "not_found"
            assert call(address, "GET", f"/v1/decisions/{mine[first][0]}").status == 401
        item = {"decision_id": mine[first][0], "score": 1.0, "source": "thief-True"}
        assert call(address, "POST", "/v1/feedback", item, headers=bearer(first)).json()["status"] == "stored"


def test_a_tenant_neither_continues_anothers_session_nor_uses_up_its_limits(
    closed: Site, provider: Provider
) -> None:
    _, first = closed.make_key("first", requests_per_minute=3)
    _, second = closed.make_key("second", requests_per_minute=3)
    with closed.in_thread() as address:
        named = {"x-proteus-session-id": "the-same-name"}
        pool = [
            entry["id"] for entry in call(address, "GET", "/v1/models", headers=bearer(first)).json()["data"]
        ]
        assert pool
        for _ in range(3):
            answer = chat(address, closed.questions[0], headers={**bearer(first), **named})
            assert answer.status == 200
        assert chat(address, closed.questions[0], headers=bearer(first)).status == 429
        assert chat(address, closed.questions[0], headers={**bearer(second), **named}).status == 200
        sessions = _sessions(address)
        assert sessions == 2  # one each, of the same name


def _sessions(address: str) -> int:
    metrics = call(address, "GET", "/metrics").body.decode()
    line = next(line for line in metrics.splitlines() if line.startswith("proteus_sessions "))
    return int(float(line.split()[1]))


def _without_id(document: dict[str, Any]) -> str:
    text = str(document)
    start = text.find("dec_")
    return text[:start] + text[start + 36 :]
