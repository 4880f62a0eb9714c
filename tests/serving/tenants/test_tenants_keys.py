"""Keys: shown once, stored as a hash, checked in memory, revoked everywhere within seconds."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proteus_router.errors import (
    AuthenticationError,
    InvalidKeyError,
    KeyNotFoundError,
    PermissionDeniedError,
    StoreUnavailableError,
)
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import (
    Keyring,
    issue_key,
    new_token,
    require_model,
    require_target,
    require_tier,
    token_sha256,
)
from tests.serving.store.helpers import FakeClock, opened, rows, until

FULL = ApiKey(
    id="",
    name="Team Ä",
    tier="standard",
    tiers=("standard", "premium"),
    models=("small", "large"),
    target_range=(0.7, 0.9),
    requests_per_minute=60,
    tokens_per_minute=100_000,
    budget_usd=12.5,
    budget_period="month",
)


class Source:
    """A store's keys, in memory."""

    def __init__(self, *keys: tuple[ApiKey, str]) -> None:
        self.keys = list(keys)
        self.away = self.broken = False
        self.asked = 0

    async def stored_keys(self) -> list[tuple[ApiKey, str]]:
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("away.")
        if self.broken:
            raise ValueError("not what it should be")
        return list(self.keys)


def key_and_token(name: str = "a", **changes: Any) -> tuple[ApiKey, str, tuple[ApiKey, str]]:
    token = new_token()
    key = ApiKey(id=f"key_{name}", name=name, **changes)
    return key, token, (key, token_sha256(token))


def test_a_token_is_random_prefixed_and_long_enough() -> None:
    tokens = {new_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    assert all(re.fullmatch(r"sk-proteus-[A-Za-z0-9_-]{43}", token) for token in tokens)  # 43 x 6 bits >= 256


def test_a_key_reads_back_as_it_was_issued_and_its_token_is_nowhere(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plain = ApiKey(id="", name="plain", admin=True)

    async def main() -> list[str]:
        async with opened(url) as store:
            begun = time.time()
            issued = [await issue_key(store, key) for key in (FULL, plain)]
            keys = [key for key, _ in issued]
            assert await store.list_keys() == keys
            for key, asked in zip(keys, (FULL, plain), strict=True):
                assert re.fullmatch(r"key_[0-9a-f]{16}", key.id)
                assert begun <= key.created_at <= time.time()
                assert replace(key, id="", created_at=0.0) == asked
            ring = Keyring(store)
            await ring.refresh()
            assert [ring.authenticate(token) for _, token in issued] == keys
            return [token for _, token in issued]

    tokens = asyncio.run(main())
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("proteus.db*"))
    everything = f"{stored!r} {rows(url, 'SELECT * FROM api_keys')} {caplog.text}"
    for token in tokens:
        assert token not in everything
        assert token_sha256(token) in everything


def test_a_key_works_until_it_is_revoked_and_revoking_is_for_good(url: str) -> None:
    async def main() -> None:
        async with opened(url) as here, opened(url) as there:
            ring = Keyring(here, refresh_s=1.0)
            await ring.start()
            key, token = await issue_key(there, ApiKey(id="", name="a"))
            await asyncio.sleep(1.0)
            assert ring.authenticate(token) == key
            revoked = await there.revoke_key(key.id)
            assert revoked.revoked_at is not None
            await asyncio.sleep(1.0)
            with pytest.raises(AuthenticationError):
                ring.authenticate(token)
            assert await there.revoke_key(key.id) == revoked  # the first date stands
            with pytest.raises(KeyNotFoundError):
                await there.revoke_key("key_unknown")
            await ring.close()

    asyncio.run(main())


@pytest.mark.parametrize("token", [None, "", "sk-proteus-", "sk-proteus-wrong", "\ud800", "x" * 100_000])
def test_a_wrong_token_is_refused_like_a_missing_one(token: str | None) -> None:
    async def main() -> None:
        ring = Keyring(Source(key_and_token()[2]))
        with pytest.raises(AuthenticationError):  # nothing read yet: nobody is let in
            ring.authenticate(token)
        await ring.refresh()
        with pytest.raises(AuthenticationError, match="missing, unknown or revoked") as caught:
            ring.authenticate(token)
        assert (caught.value.http_status, caught.value.code) == (401, "invalid_api_key")

    asyncio.run(main())


def test_a_token_almost_right_is_refused() -> None:
    async def main() -> None:
        _, token, entry = key_and_token()
        ring = Keyring(Source(entry))
        await ring.refresh()
        for wrong in (
            token[:-1],
            token + "A",
            token[:-1] + ("A" if token[-1] != "A" else "B"),
            token.lower(),
        ):
            with pytest.raises(AuthenticationError):
                ring.authenticate(wrong)

    asyncio.run(main())


def test_half_of_a_hash_is_not_enough() -> None:
    """Two tokens whose hashes agree in the half that is looked up: the whole decides."""

    async def main() -> None:
        key, token, (_, digest) = key_and_token()
        ring = Keyring(Source((key, digest[:32] + "0" * 32)))
        await ring.refresh()
        with pytest.raises(AuthenticationError):
            ring.authenticate(token)

    asyncio.run(main())


def test_hashes_are_compared_in_constant_time_known_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(given: str, known: str) -> bool:
        compared.append((given, known))
        return real(given, known)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)

    async def main() -> None:
        _, token, entry = key_and_token()
        ring = Keyring(Source(entry))
        await ring.refresh()
        ring.authenticate(token)
        with pytest.raises(AuthenticationError):
            ring.authenticate("unknown")
        assert [len(known) for _, known in compared] == [64, 64]

    asyncio.run(main())


def test_the_admin_scope_is_apart() -> None:
    async def main() -> None:
        tenant, admin = key_and_token("tenant"), key_and_token("admin", admin=True)
        ring = Keyring(Source(tenant[2], admin[2]))
        await ring.refresh()
        assert ring.authenticate(tenant[1], admin=False) == tenant[0]
        assert ring.authenticate(admin[1], admin=True) == admin[0]
        for token, scope in ((tenant[1], True), (admin[1], False)):
            with pytest.raises(PermissionDeniedError) as caught:
                ring.authenticate(token, admin=scope)
            assert caught.value.http_status == 403

    asyncio.run(main())


def test_while_the_store_is_away_the_last_list_holds_and_its_age_is_told() -> None:
    async def main() -> None:
        clock = FakeClock()
        key, token, entry = key_and_token()
        source = Source(entry)
        ring = Keyring(source, refresh_s=0.02, clock=clock)
        await ring.start()
        source.away = True
        asked = source.asked
        clock.passes(30)
        await until(lambda: source.asked > asked + 2)
        assert ring.authenticate(token) == key
        assert ring.age_s == 30
        source.away, source.broken = False, True
        asked = source.asked
        await until(lambda: source.asked > asked + 2)  # it goes on asking
        source.keys, source.broken = [], False
        await until(lambda: ring.age_s == 0)
        assert ring.keys == []
        await ring.close()

    asyncio.run(main())


def test_without_a_store_at_the_start_there_is_no_keyring() -> None:
    async def main() -> None:
        source = Source()
        source.away = True
        with pytest.raises(StoreUnavailableError):
            await Keyring(source).start()

    asyncio.run(main())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": " "},
        {"name": "line\nbreak"},
        {"name": "x" * 129},
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"budget_usd": float("nan")},
        {"budget_usd": 0.0},
        {"budget_usd": None},
        {"budget_period": None},
        {"budget_period": "week"},
        {"target_range": (0.9, 0.7)},
        {"target_range": (0.0, 0.7)},
        {"target_range": (0.7, float("nan"))},
        {"tier": "economy"},
        {"tiers": (), "tier": None},
        {"models": ()},
        {"admin": True},
    ],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    class Nothing:
        async def create_key(self, key: ApiKey, token_sha256: str) -> None:
            raise AssertionError("it was stored")

    with pytest.raises(InvalidKeyError):
        asyncio.run(issue_key(Nothing(), replace(FULL, **changes)))


def test_permissions_of_a_key() -> None:
    anything = ApiKey(id="key_x", name="x")
    for key in (FULL, anything):
        require_tier(key, "premium")
        require_model(key, "small")
        for target in (0.7, 0.8, 0.9):
            require_target(key, target)
    require_tier(anything, "economy")
    require_model(anything, "huge")
    require_target(anything, 0.99)
    with pytest.raises(PermissionDeniedError, match="Allowed: standard, premium"):
        require_tier(FULL, "economy")
    with pytest.raises(PermissionDeniedError, match="Allowed: small, large"):
        require_model(FULL, "huge")
    for target in (0.69, 0.91):
        with pytest.raises(PermissionDeniedError, match=r"Allowed: 0\.7 to 0\.9"):
            require_target(FULL, target)
