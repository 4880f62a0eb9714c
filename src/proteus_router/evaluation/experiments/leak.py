"""The leak: what a router reaches when its p_i(x) has seen the answers of the queries that it is tested on.

Sources of p_i(x) for the same plug-in on the same test rows: the realised scores; predictors trained on the test queries
themselves, ours and one that memorises; heads trained on other queries. Between the best single model and the oracle
lies all that routing can win in accuracy; the share of it tells the sources apart on any data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from proteus_router.baselines.context import Context
from proteus_router.baselines.static import oracle
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.measure import number
from proteus_router.evaluation.harness.results import Row
from proteus_router.routing.frontier import estimate_points, plugin_points
from proteus_router.routing.hull import lower_hull
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.types import FloatArray, Predictions

__all__ = ["BLENDS", "leak"]

BLENDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Weight of the realised score in a p that is otherwise honest."""
_TENTH = 0.1
"""The paper's router costs a tenth of the best fixed model (0.33 against 3.3 USD per 1,000 queries)."""
_PRICES = 150
_MEMORISING_PENALTY = 0.1


def leak(cell: Cell, context: Context) -> list[Row]:
    """Accuracy of the plug-in with each source of p, and with blends of the first and the last."""
    held_out = context.predict(cell.test.queries)
    on_test = Context.of(cell.test, seed=cell.seed, groups=cell.test_groups, config=context.config)
    sources = {
        "realised scores": Predictions(np.nan_to_num(cell.test.scores), held_out.costs_usd),
        "memorised": Predictions(_memorised(on_test), held_out.costs_usd),
        "trained on test": on_test.heads.predictor.predict(list(cell.test.queries)),
        "held out": held_out,
    }
    if cell.query_only is not None:
        sources["best query-only"] = cell.query_only
    rows = []
    for name, predictions in sources.items():
        for metric, value in _figures(cell, predictions):
            rows.append(_row(cell, name, metric, value))
    realised = sources["realised scores"].scores
    for weight in BLENDS:
        mixed = Predictions((1 - weight) * held_out.scores + weight * realised, held_out.costs_usd)
        for metric, value in _figures(cell, mixed):
            if metric == "tenth_share":
                rows.append(_row(cell, "blend", metric, value, variant=f"{weight:g}"))
    return rows


def _memorised(on_test: Context) -> FloatArray:
    """(n, k) in-sample predictions of a word kernel with next to no penalty, and no stack to shrink what does not hold
    out: what a large enough network makes of rows that it has trained on."""
    words = on_test.features.words
    gram = (words @ words.T).toarray()
    fitted = solve_kernel(gram, on_test.train.scores, on_test.groups, _MEMORISING_PENALTY)
    predicted: FloatArray = gram @ fitted.weights + fitted.intercept
    return predicted


def _figures(cell: Cell, predictions: Predictions) -> Iterator[tuple[str, float | None]]:
    """Of all settings tested, the most accurate, and the most accurate at a tenth of the best model's cost."""
    means, costs = cell.test_means
    best = int(means.argmax())
    ceiling, _ = oracle(cell.test.scores, cell.test.costs_usd)
    points = plugin_points(predictions, _PRICES).choose_all(predictions)
    tested = estimate_points(points, cell.test.scores, cell.test.costs_usd)
    known = np.isfinite(tested.accuracy)
    accuracy, cost = tested.accuracy[known], tested.cost_usd[known]

    def share(value: float | None) -> float | None:
        room = ceiling - float(means[best])
        return None if value is None or room <= 0 else (value - float(means[best])) / room

    yield "hind", _hindsight(cell, accuracy, cost)
    top = int(np.lexsort((cost, -accuracy))[0])
    yield "best_accuracy", float(accuracy[top])
    yield "best_share", share(float(accuracy[top]))
    if costs[best] > 0:
        yield "best_relative_cost", float(cost[top] / costs[best])
    at_tenth = _most_accurate(accuracy, cost, _TENTH * float(costs[best]))
    yield "tenth_accuracy", at_tenth
    yield "tenth_share", share(at_tenth)


def _hindsight(cell: Cell, accuracy: FloatArray, cost: FloatArray) -> float | None:
    """Cost of the hull of the tested settings over the static mix, mean over the levels; 1 where it does not reach."""
    hull = lower_hull(accuracy, cost)[::-1]
    ratios = []
    for level in cell.grids.levels.tolist():
        static = cell.static_cost(level)
        if static > 0:
            paid = float(np.interp(level, accuracy[hull], cost[hull]))
            ratios.append(paid / static if level <= accuracy[hull[-1]] else 1.0)
    return float(np.mean(ratios)) if ratios else None


def _most_accurate(accuracy: FloatArray, cost: FloatArray, budget: float) -> float | None:
    within = cost <= budget
    return float(accuracy[within].max()) if within.any() else None


def _row(cell: Cell, source: str, metric: str, value: float | None, variant: str = "") -> Row:
    return Row("leak", cell.data, cell.seed, source, metric, number(value), variant, n=cell.test.n_queries)
