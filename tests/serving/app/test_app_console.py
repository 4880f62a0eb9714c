"""The console: nothing without an operator's key, a strict policy, and what the pages are drawn from."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from proteus_router.serving.store import open_store
from tests.serving.app.helpers import EASY, Harness, make_settings

FILES = ("/console", "/console/console.js", "/console/console.css", "/console/icon.svg")


@pytest.mark.parametrize("path", FILES)
def test_files_come_with_a_strict_policy(path: str) -> None:
    answer = Harness().get(path)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_holds_no_inline_script_or_style_and_asks_nobody_else() -> None:
    gateway = Harness()
    page, script, style = (gateway.get(path).body.decode() for path in FILES[:3])
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for text in (page, script, style):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "innerHTML" not in script
    assert "eval(" not in script


def test_an_operator_without_keys_sees_everything(tmp_path: Path) -> None:
    gateway = Harness()
    gateway.chat(EASY)
    shown = gateway.get("/v1/admin/overview").json()
    assert [tier["id"] for tier in shown["tiers"]] == ["economy", "standard", "relaxed"]
    assert shown["frontier"]["max_target"] > 0.8
    assert len(shown["frontier"]["points"]) > 5


def test_where_there_are_keys_only_an_admins_opens_it() -> None:
    gateway = Harness(make_settings(auth={"anonymous": False}))
    tenant = gateway.add_key()
    admin = gateway.add_key(admin=True)
    assert gateway.get("/v1/admin/overview").status == 401
    assert gateway.get("/v1/admin/overview", headers=tenant).status == 403
    assert gateway.get("/v1/admin/overview", headers=admin).status == 200


def test_a_tenant_on_an_open_gateway_with_keys_sees_nothing() -> None:
    gateway = Harness()  # anonymous calls are allowed
    tenant = gateway.add_key()
    assert gateway.get("/v1/admin/overview", headers=tenant).status == 403
    assert gateway.get("/v1/admin/overview").status == 403


def test_the_store_tells_the_mix_and_the_latest_and_no_text(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(f"sqlite:///{tmp_path}/g.db", keep_text=True)
        await store.start()
        gateway = Harness(make_settings(store={"keep_text": True}), store=store)
        for _ in range(3):
            await gateway.request(
                "POST",
                "/v1/chat/completions",
                {
                    "model": "proteus/economy",
                    "messages": [{"role": "user", "content": f"{EASY} planted-secret"}],
                },
            )
        while store.pending:  # noqa: ASYNC110 - the store writes in a thread of its own
            await asyncio.sleep(0.01)
        found = await gateway.request("GET", "/v1/admin/overview")
        await store.close()
        shown = found.json()
        assert sum(row["requests"] for row in shown["mix"] if row["tier"] == "economy") == 3
        assert len(shown["latest"]) == 3
        (spent,) = shown["spend"]  # one tier, one hour
        assert spent["tier"] == "economy"
        assert spent["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in shown["mix"]))
        assert 0 <= shown["now"] - spent["hour"] < 3_600
        assert b"planted-secret" not in found.body

    asyncio.run(main())


def test_the_grafana_dashboard_asks_for_metrics_that_there_are() -> None:
    page = Harness().get("/metrics").body.decode()
    known = set(re.findall(r"^# HELP (\w+)", page, re.MULTILINE))
    text = (Path(__file__).parents[3] / "deploy" / "grafana" / "proteus.json").read_text(encoding="utf-8")
    asked = set(re.findall(r"proteus_\w+", " ".join(re.findall(r'"expr": "([^"]*)"', text))))
    assert len(asked) > 10
    assert {name.removesuffix("_bucket") for name in asked} <= known
