"""Traffic with exploration through the gateway, graded by the simulated world: what learning and replay are tried on."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.applications import Starlette

from proteus_router.routing.router import Router
from proteus_router.serving.app import Gateway, create_app
from proteus_router.serving.settings import make_configuration
from proteus_router.serving.store import Store, open_store
from proteus_router.serving.store.graded import Graded
from proteus_router.serving.tenants import Keyring, Limits
from proteus_router.simulation.inprocess import ask, make_repeatable
from proteus_router.simulation.pool import BankPool, model_list
from proteus_router.simulation.world import Universe

__all__ = ["Serving", "serve_traffic"]

_BLOCK = 200
_TIER = "standard"


@dataclass(frozen=True, slots=True)
class Serving:
    """How the traffic is served: one tier, its floor, its exploration and its audits.

    Attributes
    ----------
    newcomers
        Models that the router does not know; the universe has them after the router's, in this order.
    evenness
        Of the audits over models; 0: all answers are drawn alike, as for the figures that the docs quote.
    """

    floor: float
    requests: int
    exploration: float = 0.05
    audit_share: float = 0.3
    seed: int = 0
    newcomers: tuple[str, ...] = ()
    evenness: float = 0.0


def serve_traffic(router: Router, universe: Universe, serving: Serving) -> list[Graded]:
    """The graded decisions of `serving.requests` requests drawn from the universe's queries, oldest first."""
    with tempfile.TemporaryDirectory(prefix="proteus-traffic-") as folder:
        return asyncio.run(_serve(router, universe, serving, Path(folder)))


async def _serve(router: Router, universe: Universe, serving: Serving, folder: Path) -> list[Graded]:
    rng = np.random.default_rng(serving.seed)
    models = (*router.models, *serving.newcomers)
    bank, pool = universe.bank, BankPool(universe.bank, models)
    store = open_store(f"sqlite:///{folder / 'gateway.db'}", flush_interval_s=0.01, flush_rows=_BLOCK)
    await store.start()
    values = {
        "tiers": {
            _TIER: {
                "accuracy_target": serving.floor,
                "on_infeasible": "best_effort",
                "exploration": {"share": serving.exploration, "newcomers": serving.newcomers},
                "audits": {
                    "share": serving.audit_share,
                    "evenness": serving.evenness,
                    "keep_text": True,
                },
            }
        },
        "model_list": model_list(models, universe.usd_per_token),
        "auth": {"anonymous": True},
        "routing": {"sessions": {"derive": False, "max_sessions": 0}},
        "control": {"refresh_s": 1e9},
    }
    app = create_app(
        make_configuration(values, source="simulation", environ={}),
        router=router,
        store=store,
        keyring=Keyring(store),
        limits=Limits(store),
        upstream=pool,
        rng=random.Random(serving.seed),
    )
    gateway: Gateway = app.state.gateway
    make_repeatable(gateway, serving.seed)
    expected: dict[str, float] = {}
    await gateway.control.start()
    try:
        for start in range(0, serving.requests, _BLOCK):
            for row in rng.integers(0, len(bank.queries), min(_BLOCK, serving.requests - start)).tolist():
                pool.row = row
                body = {"model": "proteus", "messages": [{"role": "user", "content": bank.queries[row]}]}
                answer = await ask(app, "POST", "/v1/chat/completions", body)
                if answer.status != 200 or answer.headers is None:
                    raise RuntimeError(f"answered {answer.status}: {answer.body[:300]!r}")
                decision = answer.headers[b"x-proteus-decision-id"].decode()
                expected[decision] = float(bank.expected[row, pool.answered])
            await _grade(app, store, expected, rng)
        return await store.graded()
    finally:
        await gateway.control.close()
        await store.close()


async def _grade(app: Starlette, store: Store, expected: dict[str, float], rng: np.random.Generator) -> None:
    while store.pending:  # noqa: ASYNC110 - the store writes in a thread of its own
        await asyncio.sleep(0.001)
    waiting = (await ask(app, "GET", "/v1/audits?limit=1000")).json()["data"]
    items = [
        {
            "decision_id": audit["decision_id"],
            "score": float(rng.random() < expected[audit["decision_id"]]),
            "source": "grader",
        }
        for audit in waiting
    ]
    if items:
        answer = await ask(app, "POST", "/v1/feedback", items)
        if answer.status != 200:
            raise RuntimeError(f"feedback was answered {answer.status}")
