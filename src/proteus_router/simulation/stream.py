"""One stream through the gateway: requests in, scores of the audited ones back, and what the gateway said meanwhile.

Everything is the gateway's own: endpoints, routing, store (SQLite in a temporary folder), closed loop. Only the socket,
the clock and the models are replaced.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette

from proteus_router.evaluation.experiments.dynamic import SCENARIOS as SHAPES
from proteus_router.routing.router import Router
from proteus_router.serving.app import Gateway, create_app
from proteus_router.serving.settings import Configuration, make_configuration
from proteus_router.serving.store import Store, open_store
from proteus_router.serving.tenants import Keyring, Limits
from proteus_router.simulation.inprocess import Answered, ask, make_repeatable
from proteus_router.simulation.pool import BankPool, model_list
from proteus_router.simulation.scenario import BEST, Scenario
from proteus_router.simulation.world import Bank, Universe
from proteus_router.types import FloatArray, IntArray

__all__ = ["Setting", "StreamResult", "TierTrace", "run_stream"]

BLOCK = 50
"""Requests between two looks of the closed loop, and between an answer and its score, at most."""
LOOK_EVERY = 500
_LOW, _HIGH = 0.80, 0.95  # the range that the paper's shapes are written in
_FIRST_MOMENT = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How the gateway is set up for a stream."""

    audit_share: float
    tracked: bool
    seed: int
    window: int = 4_000


@dataclass
class TierTrace:
    """What was said of a tier at each look.

    Attributes
    ----------
    requests
        Of the whole stream, at each look.
    accuracy
        True mean expected score of the tier's requests so far.
    """

    floor: float
    requests: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    recent_accuracy: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    estimate: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    recent_state: list[str] = field(default_factory=list)
    internal_target: list[float | None] = field(default_factory=list)
    usd_per_1000: list[float] = field(default_factory=list)


@dataclass
class StreamResult:
    """One stream, request by request and look by look.

    Attributes
    ----------
    best
        Column of the model with the highest mean score before anything happens.
    row
        (n,) which query of the bank.
    tier
        (n,) index among the scenario's floors.
    target
        (n,) floor that the request was to be served at.
    model
        (n,) column of the model that answered.
    expected, cost_usd
        (n,) true mean score of the answer; what was billed.
    audited
        (n,) whether it was drawn and scored.
    changes
        As the gateway reported them, with the request at which they were first seen.
    """

    scenario: Scenario
    setting: Setting
    models: tuple[str, ...]
    best: int
    row: IntArray
    tier: IntArray
    target: FloatArray
    model: IntArray
    expected: FloatArray
    cost_usd: FloatArray
    audited: IntArray
    traces: dict[str, TierTrace]
    changes: list[dict[str, Any]]
    needs: dict[str, str]


class _Clock:
    """A second a request."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall(self) -> float:
        return _FIRST_MOMENT + self.now

    def monotonic(self) -> float:
        return self.now


def run_stream(router: Router, universe: Universe, scenario: Scenario, setting: Setting) -> StreamResult:
    """Serve one stream.

    Parameters
    ----------
    router
        Its predictor must know the universe's queries; `remembering` makes that quick.
    """
    with tempfile.TemporaryDirectory(prefix="proteus-simulate-") as folder:
        return asyncio.run(_Run(router, universe, scenario, setting, Path(folder)).stream())


class _Run:
    def __init__(
        self, router: Router, universe: Universe, scenario: Scenario, setting: Setting, folder: Path
    ) -> None:
        self.router, self.universe, self.scenario, self.setting = router, universe, scenario, setting
        self.folder = folder
        self.models = router.models
        self.bank: Bank = universe.bank
        self.best = int(self.bank.expected.mean(axis=0).argmax())
        self.prices = universe.usd_per_token.copy()
        self.rng = np.random.default_rng(setting.seed)
        n = scenario.requests
        self.rows = self._rows()
        self.floors = scenario.floors
        self.names = list(self.floors)
        self.tier, self.target = self._tiers()
        self.coins = self.rng.random(n)
        self.model = np.full(n, -1, dtype=np.int64)
        self.expected, self.cost_usd = np.zeros(n), np.zeros(n)
        self.audited = np.zeros(n, dtype=np.int64)
        self.traces = {name: TierTrace(floor) for name, floor in self.floors.items()}
        self.changes: list[dict[str, Any]] = []
        self.needs: dict[str, str] = {}
        self.clock = _Clock()
        self.by_decision: dict[str, int] = {}

    async def stream(self) -> StreamResult:
        store = open_store(
            f"sqlite:///{self.folder / 'gateway.db'}",
            flush_interval_s=0.01,
            flush_rows=BLOCK,  # one write a block: its records are waited for before they are graded
            clock=self.clock,
        )
        await store.start()
        try:
            await self._serve(store)
        finally:
            await store.close()
        return StreamResult(
            self.scenario, self.setting, self.models, self.best, self.rows, self.tier, self.target, self.model,
            self.expected, self.cost_usd, self.audited, self.traces, self.changes, self.needs,
        )  # fmt: skip

    async def _serve(self, store: Store) -> None:
        pool = BankPool(self.bank, self.models)
        app: Starlette = create_app(
            self._configuration(),
            router=self.router,
            store=store,
            keyring=Keyring(store, clock=self.clock),
            limits=Limits(store, clock=self.clock),
            upstream=pool,
            clock=self.clock,
            load=lambda: (self._configuration(), self.router),
            rng=random.Random(self.setting.seed),
        )
        gateway: Gateway = app.state.gateway
        make_repeatable(gateway, self.setting.seed)
        await gateway.control.start()
        try:
            waiting = sorted(self.scenario.happenings, key=lambda found: found.at)
            for start in range(0, self.scenario.requests, BLOCK):
                while waiting and waiting[0].at <= start:
                    await self._happen(waiting.pop(0), gateway, pool)
                stop = min(start + BLOCK, self.scenario.requests)
                for at in range(start, stop):
                    await self._request(app, pool, at)
                await self._grade(app, store)
                await gateway.control.refresh()
                if stop % LOOK_EVERY == 0 or stop == self.scenario.requests:
                    await self._look(app, stop)
        finally:
            await gateway.control.close()

    async def _request(self, app: Starlette, pool: BankPool, at: int) -> None:
        row = pool.row = int(self.rows[at])
        self.clock.now += 1.0
        body = {
            "model": f"proteus/{self.names[self.tier[at]]}",
            "messages": [{"role": "user", "content": self.bank.queries[row]}],
        }
        answer = await ask(app, "POST", "/v1/chat/completions", body)
        if answer.status != 200 or answer.headers is None:
            raise RuntimeError(f"request {at} was answered {answer.status}: {answer.body[:500]!r}")
        self.model[at] = pool.answered
        self.expected[at] = pool.bank.expected[row, pool.answered]
        self.cost_usd[at] = float(answer.headers[b"x-proteus-cost-usd"])
        self.by_decision[answer.headers[b"x-proteus-decision-id"].decode()] = at

    async def _grade(self, app: Starlette, store: Store) -> None:
        """Score the audits that wait, as an operator's grader would."""
        while store.pending:  # noqa: ASYNC110 - the store writes in a thread of its own
            await asyncio.sleep(0.001)
        waiting = _checked(await ask(app, "GET", "/v1/audits?limit=1000"))["data"]
        items = []
        for audit in waiting:
            at = self.by_decision[audit["decision_id"]]
            mean = float(self.expected[at])
            score = float(self.coins[at] < mean) if self.bank.draws_coins else mean
            self.audited[at] = 1
            items.append({"decision_id": audit["decision_id"], "score": score, "source": "grader"})
        if items:
            for item in _checked(await ask(app, "POST", "/v1/feedback", items))["data"]:
                if item["status"] != "stored":
                    raise RuntimeError(f"feedback was answered {item}")

    async def _look(self, app: Starlette, count: int) -> None:
        shown = _checked(await ask(app, "GET", "/v1/tiers"))
        since = max(0, count - LOOK_EVERY)
        for index, name in enumerate(self.names):
            entry = next(tier for tier in shown["data"] if tier["id"] == name)
            trace, mine = self.traces[name], self.tier[:count] == index
            lately = mine.copy()
            lately[:since] = False
            trace.requests.append(count)
            trace.accuracy.append(_mean(self.expected[:count][mine]))
            trace.recent_accuracy.append(_mean(self.expected[:count][lately]))
            trace.usd_per_1000.append(1000.0 * _mean(self.cost_usd[:count][lately]))
            for key in ("lower", "estimate", "upper"):
                getattr(trace, key).append(entry["since_reset"][key])
            trace.state.append(entry["since_reset"]["state"])
            trace.recent_state.append(entry["recent"]["state"])
            tracking = entry["tracking"]
            trace.internal_target.append(None if tracking is None else tracking["internal_target"])
            if tracking is not None:
                self.needs[name] = tracking["audits"]["reason"]
        known = {(change["model"], change["number"]) for change in self.changes}
        for model in shown["models"]:
            for change in model["changes"]:
                if (change["model"], change["number"]) not in known:
                    at = int(change["at"] - _FIRST_MOMENT)  # a second a request
                    self.changes.append({**change, "at_request": at})

    async def _happen(self, found: Any, gateway: Gateway, pool: BankPool) -> None:
        column = self.best if found.model == BEST else self.models.index(found.model)
        if found.skill_points is not None:
            self.bank = pool.bank = self.universe.shifted(column, found.skill_points)
        elif found.price_factor is not None:
            self.prices[column] *= found.price_factor
            await gateway.reload()

    def _rows(self) -> IntArray:
        """Which query each request is."""
        n, size = self.scenario.requests, len(self.bank.queries)
        rows: IntArray = np.concatenate([self.rng.permutation(size) for _ in range(-(-n // size))])[:n]
        for found in self.scenario.happenings:
            if found.hard_share is not None:
                hard = self.bank.hard()
                chance = np.where(
                    hard, found.hard_share / hard.sum(), (1.0 - found.hard_share) / (~hard).sum()
                )
                left = max(0, n - found.at)
                rows[found.at :] = self.rng.choice(size, left, p=chance)
        return rows

    def _tiers(self) -> tuple[IntArray, FloatArray]:
        n, floors = self.scenario.requests, np.array(list(self.floors.values()))
        if self.scenario.targets is None:
            tier: IntArray = self.rng.integers(0, len(floors), n)
            return tier, floors[tier]
        targets = self.scenario.targets
        shape = SHAPES[targets.shape](np.arange(n) / n)
        wanted = targets.low + (shape - _LOW) / (_HIGH - _LOW) * (targets.high - targets.low)
        index: IntArray = np.searchsorted(floors, wanted - 1e-9).clip(0, len(floors) - 1).astype(np.int64)
        return index, wanted

    def _configuration(self) -> Configuration:
        tiers = {
            name: {
                "accuracy_target": floor,
                "on_infeasible": "best_effort",
                "audits": {"share": self.setting.audit_share, "window": self.setting.window},
                "tracking": {"enabled": self.setting.tracked, "horizon": max(1, self.scenario.requests // 3)},
            }
            for name, floor in self.floors.items()
        }
        values = {
            "tiers": tiers,
            "default_tier": self.names[0],
            "model_list": model_list(self.models, self.prices),
            "auth": {"anonymous": True},
            "routing": {"sessions": {"derive": False, "max_sessions": 0}},
            "control": {"refresh_s": 1e9},  # it looks when the stream says so
        }
        return make_configuration(values, source="simulation", environ={})


def _checked(answer: Answered) -> Any:
    if answer.status != 200:
        raise RuntimeError(f"answered {answer.status}: {answer.body[:500]!r}")
    return answer.json()


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")
