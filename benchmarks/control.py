"""The closed loop on a stream of simulated requests, without HTTP: does it hold the floor when the world moves?

    python benchmarks/control.py --seeds 20                         # every scenario, audits at 100%, 20% and 5%
    python benchmarks/control.py drop --rates 1.0 --seeds 5

A router is trained once, on 2,000 simulated queries. A stream of 20,000 requests is shared out among three tiers; the
scenario happens at request 8,000. `tracked` runs integral control and recalibration, `fixed` serves the certified
operating point throughout. Gaps are of EXPECTED scores, known here, against the floor, in points.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from proteus_router.config import PolicyConfig, TrainConfig
from proteus_router.control import (
    AuditedOutcome,
    ControlLoop,
    Gains,
    ModelChange,
    TierLoop,
    TrackedMix,
    audit_need,
    corrected,
    reinvert,
)
from proteus_router.data.synthetic import make_world
from proteus_router.routing.certificate import OperatingMix
from proteus_router.routing.router import Router
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray, IntArray, Predictions

FLOORS = {"economy": 0.70, "standard": 0.80, "premium": 0.85}
REQUESTS, MOMENT, TAIL = 20_000, 8_000, 4_000
BLOCK, REINVERT_EVERY, RECENT, LOOK_EVERY = 50, 100, 400, 500
SCENARIOS = ("steady", "drop", "price", "harder")
WIDTH = 0.025


@dataclass(frozen=True)
class Bank:
    """Queries with their predictions and their true expected scores and costs; (n, n_models) each."""

    predictions: Predictions
    expected: FloatArray
    costs_usd: FloatArray
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """The router, the bank before the scenario and after it, and the model that it is about."""

    router: Router
    before: Bank
    after: dict[str, Bank]
    best: int
    hard_tasks: frozenset[str]


def prepare(training_rows: int = 2000, queries: int = REQUESTS) -> Study:
    world = make_world(0)
    config = TrainConfig(policy=PolicyConfig(steps=0))  # the plug-in, which ships nearly always
    artifact = train_router(
        world.sample(training_rows, seed=1).table,
        config=config,
        encoder=None,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    router = Router.from_artifact(artifact)
    sample = world.sample(queries, seed=2)
    columns = [world.model_names.index(name) for name in router.models]
    assert sample.table.tasks is not None
    before = Bank(
        router.predict(sample.table.queries),
        sample.expected_scores[:, columns],
        sample.expected_costs_usd[:, columns],
        tuple(sample.table.tasks),
    )
    best = int(before.expected.mean(axis=0).argmax())
    name = router.models[best]
    worse = world.with_skill_shift(name, -0.15).sample(queries, seed=2).expected_scores[:, columns]
    factor = np.where(np.arange(len(columns)) == best, 0.5, 1.0)
    cheaper = Predictions(before.predictions.scores, before.predictions.costs_usd * factor)
    tasks = np.array(before.tasks)
    means = {str(task): float(before.expected[tasks == task].mean()) for task in np.unique(tasks)}
    return Study(
        router,
        before,
        {
            "steady": before,
            "drop": replace(before, expected=worse),
            "price": replace(before, predictions=cheaper, costs_usd=before.costs_usd * factor),
            "harder": before,
        },
        best,
        frozenset(sorted(means, key=means.__getitem__)[: len(means) // 3]),
    )


@dataclass
class Stream:
    """The requests of one seed: which query, which tier, and every coin."""

    rows: IntArray
    tier: IntArray
    audited: FloatArray
    mixed: FloatArray
    scored: FloatArray

    @classmethod
    def draw(cls, study: Study, scenario: str, seed: int) -> Stream:
        rng = np.random.default_rng(seed)
        n = len(study.before.tasks)
        rows = rng.permutation(n)[:REQUESTS]
        if scenario == "harder":  # from then on, three quarters of the traffic from the hardest tasks
            hard = np.array([task in study.hard_tasks for task in study.before.tasks])
            chance = np.where(hard, 0.75 / hard.sum(), 0.25 / (~hard).sum())
            rows[MOMENT:] = rng.choice(n, REQUESTS - MOMENT, p=chance)
        tier = rng.integers(0, len(FLOORS), REQUESTS)
        return cls(rows, tier, *(rng.random(REQUESTS) for _ in range(3)))


def run(
    study: Study, scenario: str, rate: float, seed: int, *, tracked: bool, gains: Gains | None = None
) -> dict[str, Any]:
    """One stream; what each tier got, and what the loop said about it."""
    router, stream = study.router, Stream.draw(study, scenario, seed)
    names, floors = list(FLOORS), list(FLOORS.values())
    plans = [router.plan(floor).mix for floor in floors]
    loop = ControlLoop(
        router.models,
        {
            name: TierLoop(
                floor,
                rate=rate,
                start=plan.internal_target if tracked else None,
                gains=gains,
                window=2000,
            )
            for name, floor, plan in zip(names, floors, plans, strict=True)
        },
    )
    expected, cost = np.empty(REQUESTS), np.empty(REQUESTS)
    model = np.empty(REQUESTS, dtype=np.int64)
    position = np.empty(REQUESTS, dtype=np.int64)  # of each request within its tier, from 1
    for tier in range(len(names)):
        mine = stream.tier == tier
        position[mine] = np.arange(1, mine.sum() + 1)
    mixes: list[OperatingMix | TrackedMix] = list(plans)
    states: list[dict[str, str | None]] = [dict.fromkeys(("since_reset", "recent")) for _ in names]
    violated: list[dict[str, int | None]] = [dict.fromkeys(("since_reset", "recent")) for _ in names]
    changes: list[ModelChange] = []
    for start in range(0, REQUESTS, BLOCK):
        bank = study.before if start < MOMENT else study.after[scenario]
        here = slice(start, start + BLOCK)
        rows = stream.rows[here]
        offsets = loop.offsets if tracked else np.zeros(len(router.models))
        if tracked and start and start % REINVERT_EVERY == 0:
            frontier = reinvert(
                router.policy, _take(bank, stream.rows[max(0, start - RECENT) : start]), offsets
            )
        if tracked and start >= REINVERT_EVERY:
            mixes = [frontier.mix(_target(loop, name)) for name in names]
        seen = corrected(_take(bank, rows), offsets)
        for tier, mix in enumerate(mixes):
            mine = np.flatnonzero(stream.tier[here] == tier)
            part = Predictions(seen.scores[mine], seen.costs_usd[mine])
            model[start + mine] = _choose(router, mix, part, stream.mixed[start + mine])
        expected[here] = bank.expected[rows, model[here]]
        cost[here] = bank.costs_usd[rows, model[here]]
        for at in start + np.flatnonzero(stream.audited[here] < rate):
            found = loop.observe(
                AuditedOutcome(
                    sequence=int(at),
                    tier=names[stream.tier[at]],
                    position=int(position[at]),
                    model=router.models[model[at]],
                    score=float(stream.scored[at] < expected[at]),
                    predicted_score=float(min(bank.predictions.scores[stream.rows[at], model[at]], 1.0)),
                    rate=rate,
                )
            )
            changes += found.changes
        if (start + BLOCK) % LOOK_EVERY == 0:
            for tier, name in enumerate(names):
                requests = int((stream.tier[: start + BLOCK] == tier).sum())
                for kind in ("since_reset", "recent"):
                    state = loop.tiers[name].certificate(requests, recent=kind == "recent").state
                    states[tier][kind] = state
                    if state == "violated" and violated[tier][kind] is None:
                        violated[tier][kind] = start + BLOCK
    best = router.models[study.best]
    falls = [c for c in changes if c.model == best and c.number >= MOMENT and c.after < c.before]
    to_best = np.flatnonzero((model == study.best) & (stream.audited < rate))
    return {
        "tiers": {
            name: {
                "before": _span(stream, tier, expected, cost, floors[tier], 0, MOMENT),
                "tail": _span(stream, tier, expected, cost, floors[tier], REQUESTS - TAIL, REQUESTS),
                "all": _span(stream, tier, expected, cost, floors[tier], 0, REQUESTS),
                "state": states[tier]["since_reset"],
                "state_recent": states[tier]["recent"],
                "violated_at": violated[tier]["since_reset"],
                "recent_violated_at": violated[tier]["recent"],
                "lower": loop.tiers[name].bounds(int((stream.tier == tier).sum())).lower - floors[tier],
            }
            for tier, name in enumerate(names)
        },
        "alarm_at": falls[0].number if falls else None,
        "alarm_audits": int(((to_best >= MOMENT) & (to_best <= falls[0].number)).sum()) if falls else None,
        "audits_of_best_after": int((to_best >= MOMENT).sum()),
        "other_alarms": sum(c.model != best or c.number < MOMENT for c in changes),
        "audits": int((stream.audited < rate).sum()),
    }


def _take(bank: Bank, rows: IntArray) -> Predictions:
    return Predictions(bank.predictions.scores[rows], bank.predictions.costs_usd[rows])


def _choose(router: Router, mix: OperatingMix | TrackedMix, part: Predictions, coins: FloatArray) -> IntArray:
    if isinstance(mix, TrackedMix):
        return mix.choose(router, part, coins)
    upper, lower = router.choose(part, mix.upper), router.choose(part, mix.lower)
    return np.where(coins < mix.weight_upper, upper, lower)


def _target(loop: ControlLoop, name: str) -> float:
    control = loop.tiers[name].control
    assert control is not None
    return control.internal_target


def _span(
    stream: Stream, tier: int, expected: FloatArray, cost: FloatArray, floor: float, start: int, stop: int
) -> tuple[float, float]:
    """Gap to the floor in points, and USD per 1,000 requests."""
    mine = np.flatnonzero(stream.tier[start:stop] == tier) + start
    return 100.0 * float(expected[mine].mean() - floor), 1000.0 * float(cost[mine].mean())


def summarise(study: Study, scenario: str, rate: float, tracked: bool, runs: list[dict[str, Any]]) -> str:
    lines = []
    bank = study.after[scenario]
    always_best = 1000.0 * float(bank.costs_usd[:, study.best].mean())
    allowed = 1.0 if rate == 1.0 else 100 * WIDTH
    for name in FLOORS:
        tiers = [found["tiers"][name] for found in runs]
        gap = np.array([tier["tail"][0] for tier in tiers])
        lines.append(
            json.dumps(
                {
                    "scenario": scenario,
                    "audits": rate,
                    "loop": "tracked" if tracked else "fixed",
                    "tier": name,
                    "seeds": len(runs),
                    "gap_before": _mean(tier["before"][0] for tier in tiers),
                    "gap_tail": _mean(gap),
                    "gap_tail_worst": round(float(gap.min()), 2),
                    "gap_tail_best": round(float(gap.max()), 2),
                    "tail_se": round(float(gap.std(ddof=1) / np.sqrt(gap.size)), 2) if gap.size > 1 else None,
                    f"tail_within_{allowed:g}": round(float((gap >= -allowed).mean()), 2),
                    "gap_all": _mean(tier["all"][0] for tier in tiers),
                    "usd_before": _mean((tier["before"][1] for tier in tiers), 3),
                    "usd_tail": _mean((tier["tail"][1] for tier in tiers), 3),
                    "usd_always_best": round(always_best, 3),
                    "states": _counts(tier["state"] for tier in tiers),
                    "states_recent": _counts(tier["state_recent"] for tier in tiers),
                    "ever_violated": sum(tier["violated_at"] is not None for tier in tiers),
                    "recent_ever_violated": sum(tier["recent_violated_at"] is not None for tier in tiers),
                    "recent_violated_at_median": _median(tier["recent_violated_at"] for tier in tiers),
                }
            )
        )
    delays = [found["alarm_audits"] for found in runs if found["alarm_audits"] is not None]
    need = audit_need(rate, width=0.01 if rate == 1.0 else WIDTH, horizon=REQUESTS // len(FLOORS))
    lines.append(
        json.dumps(
            {
                "scenario": scenario,
                "audits": rate,
                "loop": "tracked" if tracked else "fixed",
                "alarms": len(delays),
                "alarm_audits_median": _median(delays),
                "alarm_audits_90%": round(float(np.quantile(delays, 0.9))) if delays else None,
                "alarm_within_150": sum(delay <= 150 for delay in delays),
                "audits_of_best_after_median": _median(found["audits_of_best_after"] for found in runs),
                "other_alarms_per_run": _mean(found["other_alarms"] for found in runs),
                "audits_per_run": _mean((found["audits"] for found in runs), 0),
                "rate_says": need.reason,
            }
        )
    )
    return "\n".join(lines)


def _mean(values: Any, digits: int = 2) -> float:
    return round(float(np.mean(list(values))), digits)


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _counts(values: Any) -> dict[str, int]:
    names, counts = np.unique([str(value) for value in values], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.2, 0.05])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    started = time.monotonic()
    study = prepare()
    for scenario in options.scenarios:
        for rate in options.rates:
            for tracked in (False, True):
                runs = [
                    run(study, scenario, rate, seed, tracked=tracked, gains=Gains.at_rate(rate))
                    for seed in range(options.seeds)
                ]
                print(summarise(study, scenario, rate, tracked, runs), flush=True)
    print(json.dumps({"seconds": round(time.monotonic() - started)}), flush=True)


if __name__ == "__main__":
    main()
