"""Feedback at full speed: lists of 1,000 into a gateway whose closed loop runs, and whether its state is right after.

    python benchmarks/feedback.py                                        # SQLite, a minute at 10,000 items a second
    python benchmarks/feedback.py --store postgresql://postgres@127.0.0.1:5432/test --seconds 60

`--decisions` audited decisions are written first. Then lists come in at the rate asked for: every decision's first
score, late and out of order, among repetitions, contradictions, unknown ids and numbers that are none. Posted to the
application itself, without a socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from starlette.applications import Starlette

from proteus_router.data.synthetic import make_world
from proteus_router.serving.app import Gateway, create_app
from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.settings import make_configuration
from proteus_router.serving.store import Store, open_store
from proteus_router.serving.tenants import Keyring, Limits
from proteus_router.serving.upstream import UpstreamClient
from proteus_router.simulation.inprocess import ask
from proteus_router.simulation.pool import model_list

ITEMS = 1_000
IN_FLIGHT = 4
"""Lists that graders have under way at a time: one alone would wait for its own commit."""
FLOOR = 0.8


@dataclass
class Tally:
    """What was sent and what was said."""

    sent: int = 0
    first: dict[str, float] = field(default_factory=dict)
    answered: list[str] = field(
        default_factory=list
    )  # whose first score is stored: now it can be contradicted
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


async def run(url: str, *, decisions: int, seconds: float, rate: float, seed: int = 0) -> dict[str, Any]:
    """The figures, and whether the state is right."""
    store = open_store(url, flush_interval_s=0.05, flush_rows=2_000, queue_rows=10**9)
    await store.start()
    app = _app(store)
    gateway: Gateway = app.state.gateway
    await gateway.control.start()
    try:
        await _decide(store, decisions)
        rng = random.Random(seed)
        tally = Tally()
        started = time.monotonic()
        pending = [f"dec_{n:032x}" for n in range(decisions)]
        rng.shuffle(pending)  # late, and out of order
        per_list = max(1, round(decisions / max(1.0, seconds * rate / ITEMS)))
        under_way: set[asyncio.Task[None]] = set()
        offered = 0
        while (now := time.monotonic() - started) < seconds:
            if offered > now * rate or len(under_way) == IN_FLIGHT:
                await asyncio.sleep(0.001)
            else:
                items = _items(rng, pending, per_list, tally)
                offered += len(items)
                under_way.add(asyncio.create_task(_send(app, items, tally)))
            done = {task for task in under_way if task.done()}
            under_way -= done
            await asyncio.gather(*done)
        await asyncio.gather(*under_way)
        elapsed = time.monotonic() - started
        left = [*pending]
        for start in range(0, len(left), ITEMS):  # what the time was too short for
            await _send(app, [_first(rng, tally, one) for one in left[start : start + ITEMS]], tally)
        folding = time.monotonic()
        await gateway.control.refresh()
        view = gateway.control.views["standard"]
        scores = np.array(list(tally.first.values()))
        closed = await _count(store)
        return {
            "store": url.split(":", 1)[0],
            "decisions": decisions,
            "items": tally.sent,
            "items_per_s": round(tally.sent / elapsed),
            "list_ms_median": round(1000 * float(np.median(tally.seconds)), 1),
            "list_ms_99%": round(1000 * float(np.quantile(tally.seconds, 0.99)), 1),
            "statuses": tally.statuses,
            "folded_behind_s": round(time.monotonic() - folding, 2),
            "right": bool(
                view.since_reset.bounds.audits
                == decisions
                == closed
                == len(scores)
                == tally.statuses["stored"]
                and abs(view.since_reset.bounds.estimate - scores.mean()) < 1e-6
                and view.open_audits == 0
            ),
        }
    finally:
        await gateway.control.close()
        await store.close()


def _items(rng: random.Random, pending: list[str], fresh: int, tally: Tally) -> list[dict[str, Any]]:
    """One list: first scores, then repetitions and contradictions of earlier ones, and nonsense."""
    known = rng.choices(tally.answered, k=50) if tally.answered else []
    items = [_first(rng, tally, pending.pop()) for _ in range(min(fresh, len(pending), ITEMS))]
    while known and len(items) < ITEMS:
        one = rng.choice(known)
        kind = rng.random()
        if kind < 0.9:
            items.append({"decision_id": one, "score": tally.first[one], "source": "check"})
        elif kind < 0.95:
            items.append({"decision_id": one, "score": 1.0 - tally.first[one], "source": "check"})
        elif kind < 0.98:
            items.append({"decision_id": f"dec_unknown_{rng.random()}", "score": 1.0, "source": "check"})
        else:
            items.append({"decision_id": one, "score": float("nan"), "source": "check"})
    rng.shuffle(items)
    return items


def _first(rng: random.Random, tally: Tally, decision_id: str) -> dict[str, Any]:
    score = tally.first[decision_id] = float(rng.random() < 0.8)
    return {"decision_id": decision_id, "score": score, "source": "check"}


async def _send(app: Starlette, items: list[dict[str, Any]], tally: Tally) -> None:
    body = json.dumps(items).encode()
    started = time.monotonic()
    answer = await ask(app, "POST", "/v1/feedback", body)
    tally.seconds.append(time.monotonic() - started)
    if answer.status != 200:
        raise RuntimeError(f"answered {answer.status}: {answer.body[:300]!r}")
    tally.sent += len(items)
    for sent, item in zip(items, answer.json()["data"], strict=True):
        tally.statuses[item["status"]] = tally.statuses.get(item["status"], 0) + 1
        if item["status"] == "stored":
            tally.answered.append(sent["decision_id"])


def _app(store: Store) -> Starlette:
    from proteus_router.cli.gateway_demo import demo_router

    router = demo_router(make_world(0))
    values = {
        "model_list": model_list(router.models, np.full((len(router.models), 2), 1e-6)),
        "tiers": {"standard": {"accuracy_target": FLOOR, "audits": {"share": 1.0}}},
        "auth": {"anonymous": True},
    }
    return create_app(
        make_configuration(values, source="benchmark", environ={}),
        router=router,
        store=store,
        keyring=Keyring(store),
        limits=Limits(store),
        upstream=UpstreamClient(),
    )


async def _decide(store: Store, count: int) -> None:
    """Audited decisions, as a gateway would have written them."""
    record = DecisionRecord(
        id="", created_at=time.time(), key_id="anonymous", tier="standard", accuracy_target=FLOOR,
        internal_target=FLOOR, certified=False, model="m", requested_model="proteus", api="chat", stream=False,
        predicted_score=0.8, predicted_cost_usd=0.0, cost_usd=0.0, propensity=1.0, input_tokens=1, output_tokens=1,
        attempts=1, status="ok", error_code=None, http_status=200, latency_s=0.1, first_byte_s=0.1, overhead_s=0.0,
        session_id=None, request_id=None, reasons=(), candidates=(), certificate=None, prompt=None, answer=None,
        router_fingerprint="", audit_probability=1.0, audited=True,
    )  # fmt: skip
    for n in range(count):
        store.record(replace(record, id=f"dec_{n:032x}"))
    while store.pending:  # noqa: ASYNC110 - the store writes in a thread of its own
        await asyncio.sleep(0.05)


async def _count(store: Store) -> int:
    wanted = sa.text("SELECT count(*) FROM audits WHERE source IS NOT NULL")
    return int(await store.loop.read(lambda connection: connection.execute(wanted).scalar_one()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--store", help="Default: a new SQLite file. PostgreSQL: an empty database or schema."
    )
    parser.add_argument("--decisions", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10_000.0, help="Items a second.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.store or f"sqlite:///{folder}/gateway.db"
        print(
            json.dumps(
                asyncio.run(run(url, decisions=options.decisions, seconds=options.seconds, rate=options.rate))
            )
        )


if __name__ == "__main__":
    main()
