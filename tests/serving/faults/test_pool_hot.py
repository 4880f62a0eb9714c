"""A model joins and leaves the pool of a gateway that is serving, and no request notices."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.data.writers import write_outcomes
from proteus_router.routing.artifact import load_artifact, write_artifact
from proteus_router.training.pool.changes import remove_model
from tests.serving.gateways import Site, bearer, call, chat, wait_for


def test_a_model_joins_and_leaves_while_requests_run(site: Site, tmp_path: Path) -> None:
    late = site.world.models[1].name
    whole = site.values()["model_list"]
    smaller = [entry for entry in whole if entry["model_info"]["proteus_model"] != late]
    without = remove_model(load_artifact(site.router), late, progress=lambda stage, done, total: None)
    site.router = site.folder / "router"
    write_artifact(site.router, without)
    site.changes = {"model_list": smaller}
    outcomes = site.world.sample(300, 7).table
    write_outcomes(outcomes.take(np.arange(100)), tmp_path / "outcomes")
    _, admin = site.make_key("root", admin=True)
    _, tenant = site.make_key()
    statuses: list[int] = []
    questions = itertools.cycle(site.questions)
    stop = threading.Event()
    with site.in_thread() as address:

        def pool() -> set[str]:
            listed = call(address, "GET", "/v1/models", headers=bearer(tenant)).json()["data"]
            return {entry["id"] for entry in listed}

        def keep_asking() -> None:
            while not stop.is_set():
                statuses.append(chat(address, next(questions), headers=bearer(tenant)).status)

        def change(*arguments: str, model_list: list[dict[str, object]]) -> None:
            ran = CliRunner().invoke(cli, ["pool", *arguments])
            assert ran.exit_code == 0, ran.output
            site.changes = {"model_list": model_list}
            site.write()
            reloaded = call(address, "POST", "/v1/admin/reload", {}, headers=bearer(admin))
            assert reloaded.status == 200, reloaded.body

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            assert f"pool-{late}" not in pool()
            change("add", str(site.router), late, "--outcomes", str(tmp_path / "outcomes"), model_list=whole)
            assert f"pool-{late}" in pool()
            straight = chat(address, site.questions[0], model=f"pool-{late}", headers=bearer(tenant))
            assert straight.status == 200
            candidates = call(
                address, "POST", "/v1/route", {"model": "proteus", "messages": [{"role": "user", "content": "?"}]},
                headers=bearer(tenant),
            ).json()["candidates"]  # fmt: skip
            assert f"pool-{late}" in {candidate["model"] for candidate in candidates}
            change("remove", str(site.router), late, model_list=smaller)
            assert f"pool-{late}" not in pool()
        finally:
            stop.set()
            asking.join(30)
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_a_model_joins_from_what_exploration_showed_of_it(site: Site) -> None:
    """Its entry in the list, requests, grades, one command, a reload: no labelled prompt anywhere."""
    late = site.world.models[1].name
    without = remove_model(load_artifact(site.router), late, progress=lambda stage, done, total: None)
    site.router = site.folder / "router"
    write_artifact(site.router, without)
    site.changes = {
        "tiers": {
            "economy": {
                "accuracy_target": 0.45,
                "exploration": {"share": 0.3, "newcomers": [f"pool-{late}"]},
                "audits": {"share": 0.2, "keep_text": True},
            }
        }
    }
    _, admin = site.make_key("root", admin=True)
    _, tenant = site.make_key()
    with site.in_thread() as address:
        answered = [chat(address, text, headers=bearer(tenant)) for text in site.questions]
        assert {answer.status for answer in answered} == {200}
        tried = [answer for answer in answered if answer.headers["x-proteus-model"] == f"pool-{late}"]
        assert 30 <= len(tried) <= 90
        assert {answer.headers["x-proteus-certified"] for answer in tried} == {"false"}

        def waiting() -> list[dict[str, object]]:
            found: list[dict[str, object]] = call(
                address, "GET", "/v1/audits?limit=500", headers=bearer(admin)
            ).json()["data"]
            return found

        wait_for(
            lambda: len([one for one in waiting() if one["model"] == f"pool-{late}"]) == len(tried), "audits"
        )
        items = [
            {"decision_id": one["decision_id"], "score": float(number % 4 > 0), "source": "people"}
            for number, one in enumerate(waiting())
        ]
        assert call(address, "POST", "/v1/feedback", items, headers=bearer(admin)).status == 200
        ran = CliRunner().invoke(
            cli, ["pool", "add", str(site.router), late, "--config", str(site.config_file)]
        )
        assert ran.exit_code == 0, ran.output
        assert f"{len(tried)} graded answers of {late}" in ran.output
        reloaded = call(address, "POST", "/v1/admin/reload", {}, headers=bearer(admin)).json()
        assert any("no newcomer any more" in warning for warning in reloaded["warnings"])
        straight = chat(address, site.questions[0], model=f"pool-{late}", headers=bearer(tenant))
        assert straight.status == 200
        assert chat(address, site.questions[1], headers=bearer(tenant)).status == 200
