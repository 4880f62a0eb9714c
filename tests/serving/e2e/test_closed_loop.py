"""The closed loop over sockets: a model that falls while a client runs, and two gateways of which one is killed."""

from __future__ import annotations

import http.server
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proteus_router.data.synthetic import World
from proteus_router.serving.provider import Provider, Truth, serve_provider
from tests.serving.gateways import Site, call, wait_for
from tests.serving.store.helpers import rows

pytestmark = pytest.mark.slow

QUESTIONS = (4_000, 2)
FLOOR = 0.85


@contextmanager
def _listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An operator's system that takes webhooks."""
    heard: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_the_best_model_falls_while_a_client_runs_and_everything_follows(
    world: World, router_folder: Path, tmp_path: Path
) -> None:
    openai = pytest.importorskip("openai")
    best = max(world.models, key=lambda card: card.mean_score)
    before, after = Truth(world, [QUESTIONS]), Truth(world.with_skill_shift(best.name, -0.15), [QUESTIONS])
    provider = Provider(before, api_key="sk-up-4fd1")
    audits = {"share": 1.0, "window": 600, "scope": "recent"}
    tier = {"accuracy_target": FLOOR, "on_infeasible": "best_effort", "audits": audits}
    with _listener() as (hook, heard), serve_provider(provider) as upstream:
        site = Site(tmp_path, router_folder, f"{upstream}/v1", world)
        site.changes = {
            "tiers": {"fixed": tier, "tracked": {**tier, "tracking": {"enabled": True}}},
            "default_tier": "fixed",
            "control": {"refresh_s": 0.1, "webhook_url": hook},
        }
        questions = iter(known.text for known in before.known())
        states: dict[str, list[str]] = {"fixed": [], "tracked": []}
        models: dict[str, list[str]] = {"fixed": [], "tracked": []}
        with site.in_thread() as address, openai.OpenAI(base_url=f"{address}/v1", api_key="any") as client:

            def ask(count: int) -> None:
                """Requests of both tiers; their answers are graded, and the scores sent back in one list."""
                items = []
                for _ in range(count):
                    for name in states:
                        question = next(questions)
                        raw = client.chat.completions.with_raw_response.create(
                            model=f"proteus/{name}", messages=[{"role": "user", "content": question}]
                        )
                        said = raw.parse()
                        states[name].append(raw.headers["x-proteus-tier-state"])
                        models[name].append(said.model)
                        score = before.grade(question, said.choices[0].message.content)
                        decision = raw.headers["x-proteus-decision-id"]
                        items.append({"decision_id": decision, "score": score, "source": "check"})
                answer = call(address, "POST", "/v1/feedback", items)
                assert {item["status"] for item in answer.json()["data"]} == {"stored"}

            for _ in range(12):
                ask(50)
            assert "violated" not in states["fixed"] + states["tracked"]
            provider.truth = after
            for _ in range(20):
                ask(50)
            shown = wait_for(lambda: _tiers(address, audits=1_600), "all scores folded")
            metrics = call(address, "GET", "/metrics").body.decode()
        assert states["fixed"][-1] == "violated" == shown["fixed"]["state"]
        assert shown["fixed"]["recent"]["upper"] < FLOOR
        assert 'proteus_tier_state{state="violated",tier="fixed"} 1.0' in metrics
        said = [(one["tier"], one["to"]) for one in heard]
        assert ("fixed", "violated") in said
        news = next(one for one in heard if one["to"] == "violated")
        assert news["recent"]["upper"] < FLOOR
        assert "sk-up" not in json.dumps(heard)
        # the tracked tier knows which model it was, and went over to others
        fallen = next(model for model in shown["models"] if model["id"] == f"pool-{best.name}")
        assert fallen["changes"]
        assert fallen["offset"] < -0.05
        share = {name: Counter(found[-200:])[f"pool-{best.name}"] / 200 for name, found in models.items()}
        assert share["tracked"] < share["fixed"]
        assert shown["tracked"]["recent"]["estimate"] > shown["fixed"]["recent"]["estimate"]
        assert f'proteus_model_offset{{model="pool-{best.name}"}} -' in metrics


def test_one_of_two_gateways_is_killed_and_no_acknowledged_score_is_lost(
    world: World, router_folder: Path, tmp_path: Path, postgres_url: str
) -> None:
    audits = {"share": 0.5, "window": 400}
    tier = {"accuracy_target": 0.6, "on_infeasible": "best_effort", "audits": audits}
    provider = Provider(Truth(world, [(1_500, 2)]), api_key="sk-up-4fd1")
    with serve_provider(provider) as upstream:
        sites = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            site = Site(tmp_path / name, router_folder, f"{upstream}/v1", world)
            site.changes = {
                "store": {"url": postgres_url, "flush_interval_s": 0.1},
                "tiers": {"fixed": tier, "tracked": {**tier, "tracking": {"enabled": True}}},
                "default_tier": "fixed",
                "control": {"refresh_s": 0.2},
            }
            sites.append(site)
        texts = [known.text for known in provider.truth.known()]
        with sites[0].in_process() as first, sites[1].in_process() as second:
            addresses = [first.address, second.address]
            crowd = _Crowd(addresses, texts)
            crowd.start()
            wait_for(lambda: len(crowd.acknowledged) > 300, "scores of the first part")
            first.signal(signal.SIGKILL)
            first.wait()
            crowd.survivors = [addresses[1]]
            reached = len(crowd.acknowledged)
            wait_for(lambda: len(crowd.acknowledged) > reached + 300, "scores after the kill")
            with sites[0].in_process() as third:
                crowd.survivors = [addresses[1], third.address]
                reached = len(crowd.acknowledged)
                wait_for(lambda: len(crowd.acknowledged) > reached + 200, "scores of the last part")
                crowd.stop()
                stored = dict(rows(postgres_url, "SELECT decision_id, score FROM feedback"))
                lost = {key: score for key, score in crowd.acknowledged.items() if stored.get(key) != score}
                assert not lost
                closed = rows(postgres_url, "SELECT count(*) FROM audits WHERE source IS NOT NULL")[0][0]
                outcomes = rows(postgres_url, "SELECT count(*) FROM loop_events WHERE kind = 'outcome'")[0][0]
                graded = rows(postgres_url, "SELECT count(*) FROM audits JOIN feedback USING (decision_id)")[
                    0
                ][0]
                assert closed == outcomes == graded
                found = [
                    wait_for(lambda at=at: _tiers(at, audits=closed), f"all of {closed} folded at {at}")
                    for at in (addresses[1], third.address)
                ]
        for name in ("fixed", "tracked"):
            for key in ("state", "requests", "audits", "since_reset", "recent", "tracking"):
                assert found[0][name][key] == found[1][name][key], key
        assert [m["offset"] for m in found[0]["models"]] == [m["offset"] for m in found[1]["models"]]
        total = rows(postgres_url, "SELECT count(*) FROM decisions WHERE status = 'ok'")[0][0]
        assert sum(found[0][name]["requests"] for name in ("fixed", "tracked")) == total


def _tiers(address: str, *, audits: int) -> dict[str, Any] | None:
    """What a gateway says of its tiers, once it has folded so many audits of both together."""
    answer = call(address, "GET", "/v1/tiers").json()
    tiers = {entry["id"]: entry for entry in answer["data"]}
    if sum(tier["since_reset"]["audits"] for tier in tiers.values()) < audits:
        return None
    time.sleep(0.5)  # one more refresh: counters are read after scores
    answer = call(address, "GET", "/v1/tiers").json()
    return {**{entry["id"]: entry for entry in answer["data"]}, "models": answer["models"]}


class _Crowd:
    """Four clients that ask and grade at whichever gateways are there.

    Attributes
    ----------
    acknowledged
        Decision -> score, of every item that a gateway said it had stored.
    """

    def __init__(self, addresses: list[str], texts: list[str]) -> None:
        self.survivors = addresses
        self.acknowledged: dict[str, float] = {}
        self._texts = texts
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(4)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._done.is_set():
            decisions = []
            for _ in range(10):
                body = {
                    "model": rng.choice(("proteus/fixed", "proteus/tracked")),
                    "messages": [{"role": "user", "content": rng.choice(self._texts)}],
                }
                answer = self._call("/v1/chat/completions", body, rng)
                if answer is not None:
                    decisions.append(answer.headers["x-proteus-decision-id"])
            items = [
                {"decision_id": one, "score": float(rng.random() < 0.7), "source": "check"}
                for one in decisions
            ]
            answer = self._call("/v1/feedback", items, rng) if items else None
            if answer is not None:
                for item, said in zip(items, answer.json()["data"], strict=True):
                    if said["status"] in ("stored", "duplicate"):
                        self.acknowledged[str(item["decision_id"])] = float(str(item["score"]))

    def _call(self, path: str, body: Any, rng: random.Random) -> Any:
        try:
            answer = call(rng.choice(self.survivors), "POST", path, body)
        except OSError:  # it was killed in the middle
            return None
        except Exception as error:
            if type(error).__module__ == "http.client":
                return None
            raise
        return answer if answer.status == 200 else None
