"""From a record to numbers: what a router gave on the test rows of its cell at every target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from proteus_router.baselines.registry import REGISTRY
from proteus_router.baselines.static import oracle
from proteus_router.errors import InfeasibleTargetError
from proteus_router.evaluation import metrics
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.records import Fitted, RouterRecord, Served
from proteus_router.evaluation.harness.results import Row
from proteus_router.evaluation.yardsticks import Outcome, oracle_ratio, outcome_of
from proteus_router.types import FloatArray

__all__ = ["Asked", "at_targets", "cost_figures", "measure", "number", "promise_figures"]

_Z95 = 1.645  # one-sided


@dataclass(frozen=True)
class Asked:
    """One target and what was served for it: None where it was refused (or no choice was observed)."""

    target: float
    outcome: Outcome | None
    true_accuracy: float | None = None


def measure(cell: Cell, record: RouterRecord, *, experiment: str = "main", variant: str = "") -> list[Row]:
    """All figures of one router in one cell; none where it was not fitted."""
    if record.fitted is None:
        return []
    fitted, test = record.fitted, cell.test

    def row(metric: str, value: float | None, guarantee: str = "", target: float | None = None) -> Row:
        return Row(
            experiment=experiment,
            data=cell.data,
            seed=cell.seed,
            router=record.router,
            metric=metric,
            value=number(value),
            variant=variant,
            guarantee=guarantee,
            target=target,
            n=test.n_queries,
        )

    rows = [row("seconds", record.seconds)]
    if fitted.latency_ms.size:
        rows.append(row("latency_ms", float(np.median(fitted.latency_ms))))
    ways: list[tuple[str, Callable[[float], Served]]] = [("expected", fitted.expected)]
    if fitted.is_native:
        ways.append(("native", fitted.native))
    for guarantee, serve in ways:
        rows += [row(metric, value, guarantee, target) for metric, value, target in cost_figures(cell, serve)]
    rows.append(row("hind", _hindsight(cell, fitted), "expected"))
    rows += [row(metric, value) for metric, value, _ in _once(cell, record.router, fitted)]
    for guarantee, serve in [*ways, ("certified", fitted.certified)]:
        found = promise_figures(cell, serve)
        rows += [row(metric, value, guarantee, target) for metric, value, target in found]
    rows.append(row("max_certified", fitted.target_map.certified_range["max_target"], "certified"))
    return rows if experiment != "main" else rows + _confidence_rows(cell, record.router, fitted)


def _confidence_rows(cell: Cell, router: str, fitted: Fitted) -> list[Row]:
    """Margin and extra cost at each confidence, over the targets that are certified at all of them.

    Extra cost is against the same targets served without a margin.
    """
    if not fitted.confidences.size:
        return []
    reach = fitted.floors[:, 0].min()  # the largest target certified at every confidence
    targets = cell.grids.response[cell.grids.response <= reach]
    base = [item.outcome for item in at_targets(cell, targets, fitted.expected)]
    rows: list[Row] = []
    for confidence, floors in zip(fitted.confidences.tolist(), fitted.floors, strict=True):
        served = at_targets(cell, targets, partial(fitted.at_floor, floors=floors))
        pairs = [
            (item.target, item.outcome, usual)
            for item, usual in zip(served, base, strict=True)
            if item.outcome is not None and usual is not None
        ]
        if not pairs:
            return []
        usual_cost = sum(usual.cost_usd for _, _, usual in pairs)
        figures = {
            "mean_margin": float(np.mean([found.accuracy - target for target, found, _ in pairs])),
            "floor_compliance": float(np.mean([found.accuracy >= target for target, found, _ in pairs])),
            "extra_cost": sum(found.cost_usd for _, found, _ in pairs) / usual_cost - 1.0
            if usual_cost > 0
            else None,
        }
        rows += [
            Row(
                "confidence",
                cell.data,
                cell.seed,
                router,
                metric,
                number(value),
                f"{confidence:g}",
                "certified",
                n=cell.test.n_queries,
            )
            for metric, value in figures.items()
        ]
    return rows


def at_targets(cell: Cell, targets: FloatArray, serve: Callable[[float], Served]) -> list[Asked]:
    """What `serve` gives on the test rows at every target."""
    found = []
    for target in targets.tolist():
        try:
            served = serve(target)
        except InfeasibleTargetError:
            found.append(Asked(target, None))
            continue
        outcome = _outcome(served, cell.test.scores, cell.test.costs_usd)
        true = None
        if cell.expected_scores is not None:
            rows = np.arange(cell.test.n_queries)
            upper, lower = (
                cell.expected_scores[rows, choice].mean() for choice in (served.upper, served.lower)
            )
            true = float(served.weight_upper * upper + (1.0 - served.weight_upper) * lower)
        found.append(Asked(target, outcome, true))
    return found


def _outcome(served: Served, scores: FloatArray, costs_usd: FloatArray) -> Outcome | None:
    """None where none of the choices was observed."""
    rows = np.arange(len(scores))
    if np.isnan(scores[rows, served.upper]).all() and np.isnan(scores[rows, served.lower]).all():
        return None
    return outcome_of(served.upper, served.lower, served.weight_upper, scores, costs_usd)


def number(value: float | None) -> float | None:
    """None for what is not a finite number: a table must show a dash, never NaN."""
    return None if value is None or not np.isfinite(value) else float(value)


Figure = tuple[str, float | None, float | None]
"""Metric, value, and the target where it belongs to one."""


def cost_figures(cell: Cell, serve: Callable[[float], Served]) -> Iterator[Figure]:
    """Cost ratio to the static mix at every level and over all, and over the levels where a floor binds."""
    means, prices = cell.test_means
    asked = [item for item in at_targets(cell, cell.grids.levels, serve) if item.outcome is not None]
    targets = np.array([item.target for item in asked])
    accuracy = np.array([item.outcome.accuracy for item in asked if item.outcome is not None])
    costs = np.array([item.outcome.cost_usd for item in asked if item.outcome is not None])
    for target, reached, paid in zip(targets.tolist(), accuracy.tolist(), costs.tolist(), strict=True):
        static = cell.static_cost(reached)
        yield "level_ratio", paid / static if static > 0 else None, target
        yield "level_accuracy", reached, target
        yield "level_cost_usd", paid, target
    yield "req", metrics.cost_ratio_to_static_mix(accuracy, costs, means, prices), None
    binding = targets > means[prices.argmin()]
    ratio = metrics.cost_ratio_to_static_mix(accuracy[binding], costs[binding], means, prices)
    yield "req_binding", ratio, None
    # Half a point under the best model: what an operator saves who gives up hardly anything.
    dearest = float(prices[means.argmax()])
    if asked and dearest > 0:
        yield "saved_at_top", 1.0 - float(costs[-1]) / dearest, None


def _hindsight(cell: Cell, fitted: Fitted) -> float | None:
    """HIND: for each level the cheapest tested setting that reaches it, or mixture of two neighbouring vertices, over
    the static mix; a level that nothing reaches counts 1."""
    scores, costs = cell.test.scores, cell.test.costs_usd
    ends = [_outcome(Served(choice, choice, 1.0), scores, costs) for choice in fitted.test_choices]
    known = np.array([(end.accuracy, end.cost_usd) for end in ends if end is not None]).reshape(-1, 2)
    settings = np.column_stack([fitted.point_accuracy, fitted.point_cost_usd])
    mixtures = [weight * known[:-1] + (1.0 - weight) * known[1:] for weight in np.linspace(0.02, 0.98, 49)]
    tested = np.concatenate([settings[np.isfinite(settings).all(axis=1)], known, *mixtures])
    ratios = []
    for level in cell.grids.levels.tolist():
        static = cell.static_cost(level)
        if static > 0:
            reaching = tested[tested[:, 0] >= level, 1]
            ratios.append(float(reaching.min()) / static if reaching.size else 1.0)
    return float(np.mean(ratios)) if ratios else None


def promise_figures(cell: Cell, serve: Callable[[float], Served]) -> Iterator[Figure]:
    """Target against outcome, one by one and over all that were served."""
    asked = at_targets(cell, cell.grids.response, serve)
    served = []
    for item in asked:
        if item.outcome is None:
            continue
        served.append((item.target, item.outcome))
        yield "accuracy", item.outcome.accuracy, item.target
        yield "accuracy_se", item.outcome.accuracy_se, item.target
        yield "cost_usd", item.outcome.cost_usd, item.target
        if item.true_accuracy is not None:
            yield "true_accuracy", item.true_accuracy, item.target
    yield "served_share", len(served) / len(asked), None
    if not served:
        return
    targets = np.array([target for target, _ in served])
    accuracy = np.array([outcome.accuracy for _, outcome in served])
    errors = np.array([outcome.accuracy_se for _, outcome in served])
    costs = np.array([outcome.cost_usd for _, outcome in served])
    margin = metrics.margin(targets, accuracy)
    yield "mean_accuracy", float(accuracy.mean()), None
    yield "mean_cost_usd", float(costs.mean()), None
    yield "mean_margin", float(margin.mean()), None
    yield "gap", float(np.abs(margin).mean()), None
    yield "floor_compliance", metrics.floor_compliance(targets, accuracy), None
    yield "significantly_below", float((margin < -_Z95 * errors).mean()), None
    yield "worst_shortfall", float(max(0.0, -margin.min())), None
    yield "within_2", metrics.tolerance_compliance(targets, accuracy, 0.02), None
    yield "within_5", metrics.tolerance_compliance(targets, accuracy, 0.05), None
    yield "target_accuracy_correlation", metrics.target_accuracy_correlation(targets, accuracy), None
    yield "accuracy_range", float(np.ptp(accuracy)), None
    yield "cost_range", metrics.cost_range(targets, costs), None
    truth = [(item.target, item.true_accuracy) for item in asked if item.true_accuracy is not None]
    if truth:
        violations = metrics.certified_floor_violations(*np.array(truth).T)
        yield "truly_below", violations.rate, None
        yield "true_worst_shortfall", violations.worst_shortfall, None


def _once(cell: Cell, router: str, fitted: Fitted) -> Iterator[Figure]:
    """Figures of all settings together, whatever the target."""
    known = np.isfinite(fitted.point_accuracy) & np.isfinite(fitted.point_cost_usd)
    accuracy, costs = fitted.point_accuracy[known], fitted.point_cost_usd[known]
    means, prices = cell.test_means
    limits = (float(prices.min()), float(prices.max()))
    yield "aiq", metrics.average_improvement_in_quality(costs, accuracy, limits), None
    if fitted.predicted is not None:
        error = metrics.expected_calibration_error(fitted.predicted.scores, cell.test.scores)
        yield "calibration_error", error, None
    if cell.test.n_models == 2:
        strong, weak = int(means.argmax()), int(means.argmin())
        shares = (fitted.test_choices == strong).mean(axis=1)
        ends = [
            _outcome(Served(row, row, 1.0), cell.test.scores, cell.test.costs_usd)
            for row in fitted.test_choices
        ]
        reached = np.array([np.nan if end is None else end.accuracy for end in ends])
        seen = np.isfinite(reached)
        gap = float(means[weak]), float(means[strong])
        yield "apgr", metrics.apgr(shares[seen], reached[seen], *gap), None
        for recovered in (0.5, 0.8):
            value = metrics.call_performance_threshold(shares[seen], reached[seen], *gap, recovered)
            yield f"cpt_{recovered:.0%}", value, None
    if REGISTRY[router].knob == "mu":
        yield "tau_mu_correlation", _mu_correlation(cell, fitted), None


def _mu_correlation(cell: Cell, fitted: Fitted) -> float | None:
    """Of the target with the mean quality preference of the settings that serve it."""
    mu = fitted.knobs[fitted.vertices]
    targets, means = [], []
    for target in cell.grids.response.tolist():
        mix = fitted.expected_mix(target)
        mean = mix.weight_upper * mu[mix.upper] + (1.0 - mix.weight_upper) * mu[mix.lower]
        if np.isfinite(mean):  # not a fixed model, which has no preference
            targets.append(target)
            means.append(float(mean))
    return metrics.tau_mu_correlation(np.array(targets), np.array(means))


def measure_oracle(cell: Cell) -> list[Row]:
    """What bounds every router, and what the fixed models give, on the cell's test rows."""
    scores, costs = cell.test.scores, cell.test.costs_usd
    means, prices = cell.test_means
    accuracy, cost = oracle(scores, costs)
    best, cheapest = int(means.argmax()), int(prices.argmin())
    levels = cell.grids.levels
    usable = levels[[cell.static_cost(float(level)) > 0 for level in levels]]
    ratio = oracle_ratio(usable, scores, costs) if usable.size else None
    figures: dict[str, dict[str, float | None]] = {
        "oracle": {"mean_accuracy": accuracy, "mean_cost_usd": cost, "req": ratio, "hind": ratio},
        "best model": {"mean_accuracy": float(means[best]), "mean_cost_usd": float(prices[best])},
        "cheapest model": {"mean_accuracy": float(means[cheapest]), "mean_cost_usd": float(prices[cheapest])},
        "random model": {"mean_accuracy": float(means.mean()), "mean_cost_usd": float(prices.mean())},
        "dearest model": {"mean_cost_usd": float(prices.max())},
    }
    return [
        Row("yardstick", cell.data, cell.seed, name, metric, number(value), n=cell.test.n_queries)
        for name, values in figures.items()
        for metric, value in values.items()
    ]
