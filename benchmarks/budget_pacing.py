"""A budget under bursts, a tier's or a key's: is it passed, is it used, and what becomes of the floor?

    python benchmarks/budget_pacing.py [--of tier|key] [--seeds 20] [--shares 0.5 0.8 1.2] [--requests 4000]
    python benchmarks/budget_pacing.py --gateways 2 --store postgresql://postgres@127.0.0.1:5432/test

The demo's router and its standard tier (floor 0.80) through the application without sockets, over one hour of a simulated
clock: quiet spells and bursts of ten times their rate. `--shares`: the budget, of what the hour would cost at the floor.
Both orders of precedence. With several gateways each request goes to one of them at random; they know of each other through
the store alone, asked once a second of that clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from proteus_router.cli.gateway_demo import demo_router
from proteus_router.data.synthetic import make_world
from proteus_router.routing.router import Router
from proteus_router.serving.app import Gateway, create_app
from proteus_router.serving.records import ApiKey
from proteus_router.serving.settings import make_configuration
from proteus_router.serving.store import open_store
from proteus_router.serving.tenants import Keyring, Limits, issue_key
from proteus_router.simulation.inprocess import ask
from proteus_router.simulation.pool import BankPool, model_list
from proteus_router.simulation.world import SimulatedWorld, remembering

HOUR = 3_600.0
FLOOR = 0.80
FIRST = 1_700_002_800.0 // HOUR * HOUR
ORDERS = {
    "budget first": ("budget", "accuracy", "latency"),
    "accuracy first": ("accuracy", "latency", "budget"),
}


class Clock:
    """The hour, as the requests move it."""

    def __init__(self) -> None:
        self.now = FIRST

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass(frozen=True)
class Setting:
    share: float
    order: str
    seed: int
    gateways: int
    requests: int
    store: str | None
    of: str


def arrivals(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) seconds within the hour: spells of about five minutes, one in four of them a burst."""
    edges = np.sort(np.concatenate(([0.0, HOUR], rng.uniform(0.0, HOUR, 11))))
    weights = np.diff(edges) * rng.choice([1.0, 10.0], 12, p=[0.75, 0.25])
    spell = rng.choice(12, count, p=weights / weights.sum())
    return np.sort(rng.uniform(edges[spell], edges[spell + 1]))


async def run(
    router: Router, universe: SimulatedWorld, setting: Setting, at_floor_usd: float
) -> dict[str, Any]:
    """One hour."""
    rng = np.random.default_rng(setting.seed)
    clock, bank = Clock(), universe.bank
    budget = setting.share * at_floor_usd * setting.requests
    values = {
        "tiers": {
            "standard": {
                "accuracy_target": FLOOR,
                "precedence": ORDERS[setting.order],
                **({"budget": {"usd": budget, "period": "hour"}} if setting.of == "tier" else {}),
            }
        },
        "model_list": model_list(router.models, universe.usd_per_token),
        "auth": {"anonymous": True},
        "routing": {"sessions": {"derive": False, "max_sessions": 0}},
        "control": {"refresh_s": 1e9},
    }
    pool = BankPool(bank, router.models)
    with tempfile.TemporaryDirectory() as folder:
        url = setting.store or f"sqlite:///{folder}/gateway.db"
        _empty(url)
        stores = [open_store(url, flush_interval_s=0.01, clock=clock) for _ in range(setting.gateways)]
        gateways: list[Gateway] = []
        apps = []
        limits_of_all: list[Limits] = []
        headers: dict[str, str] = {}
        for store in stores:
            await store.start()
            if setting.of == "key" and not headers:
                wanted = ApiKey("", "tenant", budget_usd=budget, budget_period="hour", budget_paced=True)
                headers = {"authorization": f"Bearer {(await issue_key(store, wanted))[1]}"}
            keyring, limits = Keyring(store, clock=clock), Limits(store, clock=clock)
            await keyring.refresh()
            limits_of_all.append(limits)
            app = create_app(
                make_configuration(values, source="benchmark", environ={}),
                router=router,
                store=store,
                keyring=keyring,
                limits=limits,
                upstream=pool,
                clock=clock,
                rng=random.Random(setting.seed),
            )
            apps.append(app)
            gateways.append(app.state.gateway)
        rows = rng.integers(0, len(bank.queries), setting.requests)
        spent, expected, gave_way, asked_at = 0.0, [], 0, -1.0
        for row, at in zip(rows.tolist(), arrivals(rng, setting.requests).tolist(), strict=True):
            clock.now = FIRST + at
            if setting.gateways > 1 and at - asked_at >= 1.0:
                asked_at = at
                while any(store.pending for store in stores):  # noqa: ASYNC110 - written within its window
                    await asyncio.sleep(0.001)
                for limits in limits_of_all:
                    await limits.refresh()
                for gateway in gateways:
                    await gateway.budgets.refresh()
            pool.row = row
            body = {"model": "proteus/standard", "messages": [{"role": "user", "content": bank.queries[row]}]}
            answer = await ask(
                apps[int(rng.integers(len(apps)))], "POST", "/v1/chat/completions", body, headers
            )
            if answer.status == 429:
                continue
            if answer.status != 200 or answer.headers is None:
                raise RuntimeError(f"answered {answer.status}: {answer.body[:300]!r}")
            spent += float(answer.headers[b"x-proteus-cost-usd"])
            expected.append(float(bank.expected[row, pool.answered]))
            gave_way += b"x-proteus-gave-way" in answer.headers
        for store in stores:
            await store.close()
    return {
        "used": spent / budget,
        "overshoot": max(0.0, spent / budget - 1.0),
        "refused": 1.0 - len(expected) / setting.requests,
        "gave_way": gave_way / max(1, len(expected)),
        "mean_score": float(np.mean(expected)) if expected else float("nan"),
    }


def _empty(url: str) -> None:
    """A database left by an earlier hour would have its spend."""
    if not url.startswith("postgresql"):
        return
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f'DROP TABLE IF EXISTS "{name}" CASCADE'))
    engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--of", choices=("tier", "key"), default="tier")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.8, 1.2])
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--store", help="Default: a new SQLite file. PostgreSQL: its tables are DROPPED.")
    options = parser.parse_args()
    world = make_world(0)
    bare = demo_router(world)
    universe = SimulatedWorld(world, bare.models, queries=5_000, seed=11)
    router = remembering(bare, universe.bank)
    decisions = router.route_batch(
        list(universe.bank.queries), accuracy_target=FLOOR, rng=np.random.default_rng(0)
    )
    column = np.array([router.models.index(found.model) for found in decisions])
    row = np.arange(column.size)
    tokens = np.stack(
        (universe.bank.input_tokens[row, column], universe.bank.output_tokens[row, column]), axis=1
    )
    at_floor_usd = float((tokens * universe.usd_per_token[column]).sum(axis=1).mean())
    for order in ORDERS:
        for share in options.shares:
            hours = [
                asyncio.run(
                    run(
                        router,
                        universe,
                        Setting(
                            share, order, seed, options.gateways, options.requests, options.store, options.of
                        ),
                        at_floor_usd,
                    )
                )
                for seed in range(options.seeds)
            ]
            figures = {name: round(float(np.mean([hour[name] for hour in hours])), 5) for name in hours[0]}
            worst = round(max(hour["overshoot"] for hour in hours), 5)
            ran = {"of": options.of, "order": order, "share": share, "gateways": options.gateways}
            print(
                json.dumps({**ran, "seeds": options.seeds, **figures, "worst_overshoot": worst}), flush=True
            )


if __name__ == "__main__":
    main()
