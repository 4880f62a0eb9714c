"""Reloads: the new takes over as a whole, a bad one is refused, requests under way keep what they began with."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from proteus_router.errors import ArtifactIntegrityError, ConfigError
from proteus_router.routing.router import Router
from proteus_router.serving.records import ApiKey
from proteus_router.serving.settings import Configuration
from proteus_router.serving.tenants import issue_key
from tests.serving.app.helpers import EASY, HARD, ROUTER, Harness, make_router, make_settings, model_entry


class Files:
    """What stands on disk, as far as a reload sees."""

    def __init__(self) -> None:
        self.configuration, self.router = make_settings(), ROUTER
        self.error: Exception | None = None

    def __call__(self) -> tuple[Configuration, Router]:
        if self.error is not None:
            raise self.error
        return self.configuration, self.router


def _reload(gateway: Harness) -> Any:
    async def admin() -> str:
        _, token = await issue_key(gateway.store, ApiKey(id="", name="root", admin=True))
        await gateway.keyring.refresh()
        return token

    return gateway.post("/v1/admin/reload", {}, headers={"authorization": f"Bearer {asyncio.run(admin())}"})


def test_a_reload_takes_over_tiers_pool_and_router() -> None:
    files = Files()
    gateway = Harness(load=files)
    assert gateway.chat(EASY, model="proteus/gold").status == 404
    pool = [
        model_entry("small"),
        model_entry("middle"),
        model_entry("large"),
        model_entry("big", proteus_model="large"),
    ]
    files.configuration = make_settings(
        tiers={"gold": {"accuracy_target": 0.85}}, default_tier="gold", model_list=pool
    )
    answer = _reload(gateway)
    assert (answer.status, answer.json()["generation"]) == (200, 2)
    assert gateway.chat(EASY).headers["x-proteus-accuracy-target"] == "0.85"
    assert gateway.chat(EASY, model="big").status == 200
    assert gateway.chat(EASY, model="proteus/economy").status == 404


@pytest.mark.parametrize(
    "error", [ConfigError("proteus.yaml: unknown key 'tires'."), ArtifactIntegrityError("router/: edited.")]
)
def test_a_bad_one_is_refused_and_the_old_goes_on(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    files = Files()
    gateway = Harness(load=files)
    files.error = error
    answer = _reload(gateway)
    assert answer.status == 422
    assert str(error) in answer.json()["error"]["message"]
    assert "reload refused" in caplog.text
    assert gateway.chat(EASY).status == 200
    assert gateway.gateway.live.generation == 1
    assert b'proteus_reloads_total{result="refused"} 1.0' in gateway.get("/metrics").body


def test_a_pool_that_does_not_fit_the_router_is_refused() -> None:
    files = Files()
    gateway = Harness(load=files)
    files.configuration = make_settings(model_list=[model_entry("small"), model_entry("tiny")])
    answer = _reload(gateway)
    assert answer.status == 422
    message = answer.json()["error"]["message"]
    assert "'tiny'" in message
    assert "small, middle, large" in message
    assert gateway.chat(EASY, model="middle").status == 200


def test_an_unexpected_failure_leaves_the_old_one_too() -> None:
    files = Files()
    gateway = Harness(load=files)
    files.error = ValueError("boosts and prices must be finite")
    assert _reload(gateway).status == 500
    assert gateway.chat(EASY).status == 200


def test_a_request_under_way_ends_as_it_began() -> None:
    files = Files()
    gateway = Harness(load=files)

    async def run() -> None:
        gateway.upstream.wait = asyncio.Event()
        body = {"model": "proteus/economy", "messages": [{"role": "user", "content": EASY}]}
        request = asyncio.ensure_future(gateway.request("POST", "/v1/chat/completions", body))
        while not gateway.upstream.calls:  # noqa: ASYNC110 - the fake has nothing to wait on
            await asyncio.sleep(0.01)
        files.configuration = make_settings(tiers={"gold": {"accuracy_target": 0.85}}, default_tier="gold")
        await gateway.gateway.reload()
        gateway.upstream.wait.set()
        answer = await request
        assert (answer.status, answer.headers["x-proteus-accuracy-target"]) == (200, "0.7")

    asyncio.run(run())


def test_sessions_outlive_a_reload() -> None:
    gateway = Harness(load=Files())
    named = {"x-proteus-session-id": "s"}
    assert gateway.chat(HARD, model="proteus/economy", headers=named).headers["x-proteus-model"] == "middle"
    asyncio.run(gateway.gateway.reload())
    assert gateway.chat(EASY, model="proteus/economy", headers=named).headers["x-proteus-model"] == "middle"


def test_what_a_running_process_cannot_change_is_said(caplog: pytest.LogCaptureFixture) -> None:
    files = Files()
    gateway = Harness(load=files)
    files.configuration = make_settings(server={"port": 9}, store={"keep_text": True})
    with caplog.at_level(logging.WARNING):
        asyncio.run(gateway.gateway.reload())
    assert "after a restart only: server.port, store" in caplog.text


def test_without_files_a_reload_is_refused() -> None:
    assert _reload(Harness()).status == 422


def test_a_missing_model_voids_the_certificates(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Harness(make_settings(model_list=[model_entry("small"), model_entry("large")]))
    assert "the pool offers no middle" in caplog.text
    assert "tier economy: every request will be refused" in caplog.text
    assert gateway.chat(EASY, model="proteus/economy").status == 422
    served = gateway.chat(EASY, model="proteus/relaxed")
    assert (served.status, served.headers["x-proteus-certified"]) == (200, "false")
    assert gateway.chat(EASY, model="small").status == 200
    assert b'proteus_floor_status{tier="economy"} -1.0' in gateway.get("/metrics").body


@pytest.mark.parametrize(("factor", "stale"), [(1.0, False), (1.09, False), (1.12, True), (0.85, True)])
def test_billing_prices_that_moved_make_certificates_stale(
    factor: float, stale: bool, caplog: pytest.LogCaptureFixture
) -> None:
    models = [
        {"name": name, "mean_cost_usd": 300 * price, "mean_input_tokens": 100, "mean_output_tokens": 200}
        for name, price in (("small", 1e-7), ("middle", 1e-6), ("large", 1e-5))
    ]
    pool = [
        model_entry("small"),
        model_entry("middle", input_cost_per_token=1e-6 * factor, output_cost_per_token=1e-6 * factor),
        model_entry("large"),
    ]
    gateway = Harness(make_settings(model_list=pool), router=make_router(manifest={"models": models}))
    assert ("certificates are stale: middle is billed" in caplog.text) == stale
    body = {"model": "proteus/economy", "messages": [{"role": "user", "content": EASY}]}
    certificate = gateway.post("/v1/route", body).json()["certificate"]
    assert certificate["stale"] == stale
    assert ("middle" in (certificate["stale_reason"] or "")) == stale
    gateway.chat(EASY, model="proteus/economy")
    assert gateway.store.last.certificate is not None
    assert gateway.store.last.certificate["stale"] == stale
    status = b"1.0" if stale else b"2.0"
    assert b'proteus_floor_status{tier="economy"} ' + status in gateway.get("/metrics").body


def test_entries_of_one_name_must_run_one_model() -> None:
    pool = [model_entry("small"), model_entry("small", proteus_model="large"), model_entry("middle")]
    with pytest.raises(ConfigError, match="different models: large, small"):
        Harness(make_settings(model_list=pool))
