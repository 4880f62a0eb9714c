"""Evaluate a router on held-out outcomes: per target what was promised, what was achieved, what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from proteus_router.baselines.static import oracle
from proteus_router.data.grouping import text_fingerprints
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.errors import InfeasibleTargetError, LeakageError
from proteus_router.evaluation.yardsticks import (
    CostRatio,
    Outcome,
    accuracy_levels,
    cost_ratio,
    frontier_ratio,
    outcome_of,
    static_cost_at,
    tau_correlation,
)
from proteus_router.routing.router import Plan, Router
from proteus_router.routing.target_map import Certificate, OperatingMix, parse_target
from proteus_router.types import FloatArray, Guarantee, IntArray, OnInfeasible

__all__ = ["Evaluation", "TargetResult", "default_targets", "drop_trained_rows", "evaluate"]

_MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One requested target on held-out rows. Costs are USD per request; the interval is 95%, normal."""

    accuracy_target: float
    certified: bool
    internal_target: float | None
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    cost_usd: float | None
    static_mix_cost_usd: float | None
    cost_ratio_to_static_mix: float | None
    floor_held: bool | None
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """The report of `proteus evaluate`; `to_dict` is its JSON document."""

    data: str
    simulated: bool
    n_queries: int
    rows_left_out_as_trained_on: int
    guarantee: str
    confidence: float
    simultaneous: bool
    targets: tuple[TargetResult, ...]
    floor_compliance: float | None
    floor_cells: int
    worst_shortfall: float | None
    target_accuracy_correlation: float | None
    ratio: CostRatio
    hindsight: CostRatio
    binding_ratio: float | None
    oracle_accuracy: float
    oracle_cost_usd: float
    best_single: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A document JSON can hold; undefined figures are null."""
        return {
            "data": self.data,
            "simulated": self.simulated,
            "n_queries": self.n_queries,
            "rows_left_out_as_trained_on": self.rows_left_out_as_trained_on,
            "guarantee": self.guarantee,
            "confidence": self.confidence,
            "simultaneous": self.simultaneous,
            "targets": [asdict(result) for result in self.targets],
            "floor_compliance": self.floor_compliance,
            "floor_cells": self.floor_cells,
            "worst_shortfall": self.worst_shortfall,
            "target_accuracy_correlation": _number(self.target_accuracy_correlation),
            "cost_ratio_to_static_mix": _number(self.ratio.mean),
            "cost_ratio_levels": [
                {"accuracy_target": float(level), "ratio": _number(ratio)}
                for level, ratio in zip(self.ratio.levels, self.ratio.ratios, strict=True)
            ],
            "cost_ratio_binding_levels": _number(self.binding_ratio),
            "frontier_ratio_hindsight": _number(self.hindsight.mean),
            "oracle_gap_closed": _number(self.ratio.oracle_gap_closed),
            "oracle": {
                "accuracy": self.oracle_accuracy,
                "cost_usd": self.oracle_cost_usd,
                "cost_ratio_to_static_mix": _number(self.ratio.oracle_ratio),
            },
            "best_single_model": self.best_single,
        }


def evaluate(
    router: Router,
    table: OutcomeTable,
    targets: list[float] | None = None,
    *,
    guarantee: Guarantee = "certified",
    on_infeasible: OnInfeasible = "reject",
    simultaneous: bool = False,
) -> Evaluation:
    """Serve every row of a held-out table at every target.

    An operating point that mixes two choices is worth, on each row, its expectation over the coin: no random
    number is drawn, so the figures do not depend on a seed.

    Parameters
    ----------
    targets
        Fractions in (0, 1); None: `default_targets`.
    simultaneous
        Certify the whole list together instead of each target by itself.

    Raises
    ------
    SchemaError
        The table lacks a model of the router's pool.
    LeakageError
        Hardly a row is left after those that the router was trained on are taken out.
    """
    table, left_out = drop_trained_rows(router, table)
    table = table.with_models(router.models)
    requested = default_targets(router) if targets is None else [parse_target(target) for target in targets]
    bench = _Bench(router, table)
    results = []
    for target in requested:
        plan: Plan | None
        try:
            plan = _plan(router, target, guarantee, on_infeasible, len(requested) if simultaneous else 1)
            reason = plan.reason
        except InfeasibleTargetError as error:
            plan, reason = None, str(error)
        results.append(bench.result(target, plan, reason))
    levels = accuracy_levels(table.scores)
    ratio = _requested_ratio(bench, levels, guarantee)
    floors = [result for result in results if result.floor_held is not None]
    served = [(r.accuracy_target, r.accuracy) for r in results if r.accuracy is not None]
    cheapest = float(np.nanmean(table.scores, axis=0)[np.nanargmin(np.nanmean(table.costs_usd, axis=0))])
    binding = ratio.ratios[ratio.levels > cheapest]
    oracle_accuracy, oracle_cost = oracle(table.scores, table.costs_usd)
    best = int(np.nanargmax(np.nanmean(table.scores, axis=0)))
    shortfalls = [max(0.0, r.accuracy_target - (r.accuracy or 0.0)) for r in floors]
    return Evaluation(
        data=table.name,
        simulated=table.simulated,
        n_queries=table.n_queries,
        rows_left_out_as_trained_on=left_out,
        guarantee=guarantee,
        confidence=router.target_map.confidence,
        simultaneous=simultaneous,
        targets=tuple(results),
        floor_compliance=float(np.mean([r.floor_held for r in floors])) if floors else None,
        floor_cells=len(floors),
        worst_shortfall=max(shortfalls) if floors else None,
        target_accuracy_correlation=tau_correlation(*np.array(served).reshape(-1, 2).T),
        ratio=ratio,
        hindsight=frontier_ratio(levels, bench.tested_points(), table.scores, table.costs_usd),
        binding_ratio=float(binding.mean()) if len(binding) else None,
        oracle_accuracy=oracle_accuracy,
        oracle_cost_usd=oracle_cost,
        best_single={
            "model": table.models[best],
            "accuracy": float(np.nanmean(table.scores[:, best])),
            "cost_usd": float(np.nanmean(table.costs_usd[:, best])),
        },
    )


def default_targets(router: Router, count: int = 10) -> list[float]:
    """Evenly spaced over the certified range, or over the estimated one where nothing is certified."""
    certified = router.target_map.certified_range
    low, high = certified["min_target"], certified["max_target"]
    if low is None or high is None or low >= high:
        accuracies = router.target_map.vertex_accuracy
        low, high = float(accuracies.min()), float(accuracies.max())
    return [float(value) for value in np.floor(np.linspace(low, high, count) * 1e4) / 1e4 if 0 < value < 1]


def drop_trained_rows(router: Router, table: OutcomeTable) -> tuple[OutcomeTable, int]:
    """Take out rows whose (normalised) text the router was trained or calibrated on, and count them."""
    known = router.trained_texts
    if known is None:
        return table, 0
    trained = np.isin(text_fingerprints(table.queries), known)
    left_out = int(trained.sum())
    if table.n_queries - left_out < _MIN_ROWS:
        raise LeakageError(
            f"{table.name}: {left_out} of {table.n_queries} queries were used to train this router; "
            f"{table.n_queries - left_out} are left, fewer than {_MIN_ROWS}.",
            hint="Evaluate on held-out rows: `proteus data split DATASET -o DIR` makes them.",
        )
    return (table.take(~trained), left_out) if left_out else (table, 0)


class _Bench:
    """The choices of every operating point on the held-out rows, worked out once."""

    def __init__(self, router: Router, table: OutcomeTable) -> None:
        self.router, self.table = router, table
        self._predictions = router.predict(table.queries)
        self._choices: dict[int, IntArray] = {}

    def choice(self, point: int) -> IntArray:
        if point not in self._choices:
            self._choices[point] = self.router.choose(self._predictions, point)
        return self._choices[point]

    def outcome(self, mix: OperatingMix) -> Outcome:
        table = self.table
        return outcome_of(
            self.choice(mix.upper), self.choice(mix.lower), mix.weight_upper, table.scores, table.costs_usd
        )

    def tested_points(self) -> list[Outcome]:
        """Every vertex and nine coins between neighbours, most accurate first by training's estimate."""
        last = self.router.policy.n_points - 1
        pairs = [(v, min(v + 1, last), w) for v in range(last + 1) for w in np.linspace(1.0, 0.1, 10)]
        return [
            outcome_of(self.choice(a), self.choice(b), float(w), self.table.scores, self.table.costs_usd)
            for a, b, w in pairs
            if a != b or w == 1.0
        ]

    def result(self, target: float, plan: Plan | None, reason: str) -> TargetResult:
        if plan is None:
            return TargetResult(target, False, None, None, None, None, None, None, None, reason)
        outcome = self.outcome(plan.mix)
        static = static_cost_at(self.table.scores, self.table.costs_usd, outcome.accuracy)
        margin = 1.959964 * outcome.accuracy_se
        return TargetResult(
            accuracy_target=target,
            certified=plan.certificate is not None,
            internal_target=plan.mix.internal_target,
            accuracy=outcome.accuracy,
            accuracy_interval=(max(0.0, outcome.accuracy - margin), min(1.0, outcome.accuracy + margin)),
            cost_usd=outcome.cost_usd,
            static_mix_cost_usd=static,
            cost_ratio_to_static_mix=outcome.cost_usd / static if static > 0 else None,
            floor_held=outcome.accuracy >= target,
            reason=reason,
        )


def _plan(
    router: Router, target: float, guarantee: Guarantee, on_infeasible: OnInfeasible, together: int
) -> Plan:
    if guarantee != "certified" or together == 1:
        return router.plan(target, guarantee=guarantee, on_infeasible=on_infeasible)
    outcome = router.target_map.certify(target, n_simultaneous=together)
    if isinstance(outcome, Certificate) and not router.void_reason:
        return Plan(
            router.target_map.mix(outcome), outcome, f"Certified together with {together - 1} other targets."
        )
    reason = router.void_reason if isinstance(outcome, Certificate) else outcome.reason
    if on_infeasible == "best_effort":
        fallback = router.plan(target, guarantee="expected", on_infeasible="best_effort")
        return replace(fallback, reason=f"Not certified: {reason}")
    raise InfeasibleTargetError(f"{target:g} can't be certified. {reason}", best_certified=None)


def _requested_ratio(bench: _Bench, levels: FloatArray, guarantee: Guarantee) -> CostRatio:
    """The levels as requested targets; a certificate that can't be had leaves its level out."""
    kept, outcomes = [], []
    for level in levels:
        on_infeasible: OnInfeasible = "best_effort" if guarantee == "expected" else "reject"
        try:
            plan = bench.router.plan(float(level), guarantee=guarantee, on_infeasible=on_infeasible)
        except InfeasibleTargetError:
            continue
        kept.append(level)
        outcomes.append(bench.outcome(plan.mix))
    return cost_ratio(np.array(kept), outcomes, bench.table.scores, bench.table.costs_usd)


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
