"""Pool change: a model goes, prices fall, a model gets worse. What a router in service does, and what re-inversion does.

All with the predictions of our own heads, fitted before the change. "As deployed" keeps the operating points that were
estimated before; "re-inverted" estimates the same predictions' frontier again with what is known of the change: the
pool, the prices, and for a model that got worse the mean of 200 audited answers. Nothing is retrained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from proteus_router.baselines.context import Context
from proteus_router.baselines.plugin import fit_plugin
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.measure import cost_figures, promise_figures
from proteus_router.evaluation.harness.records import Served
from proteus_router.evaluation.harness.results import Row
from proteus_router.routing.frontier import Estimates
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.routing.points import PointPolicy
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["pool_change"]

_AUDITED = 200
_POINTS_LOST = 0.10
_KEPT = ("req", "gap", "mean_margin", "floor_compliance", "significantly_below", "worst_shortfall")


@dataclass(frozen=True)
class _Change:
    """The world after a change.

    Attributes
    ----------
    actual
        What is true now: the outcomes that are measured.
    deployed
        (V, n_test) what the operating points estimated before choose now, in the columns of `actual`.
    out_of_fold, on_test, scores, costs_usd
        What a router that is told of the change has to invert: predictions, and outcomes of the training rows.
    """

    actual: Cell
    deployed: IntArray
    out_of_fold: Predictions
    on_test: Predictions
    scores: FloatArray
    costs_usd: FloatArray


def pool_change(cell: Cell, context: Context) -> list[Row]:
    """Cost and promises before each change, and after it with both answers to it; none for fewer than 3 models."""
    if cell.train.n_models < 3:
        return []
    heads, on_test = context.heads.oof, context.predict(cell.test.queries)
    before = fit_plugin(heads, cell.train.scores, cell.train.costs_usd)
    choices = before.policy.choose_all(on_test)
    rows = _measured(cell, "unchanged", "as deployed", before.estimates, choices)
    for name, change in (
        ("cheapest model removed", _removed(cell, heads, on_test, before.policy)),
        ("two dearest at half price", _cheaper(cell, heads, on_test, choices)),
        ("best model 10 points worse", _worse(cell, heads, on_test, choices)),
    ):
        rows += _measured(change.actual, name, "as deployed", before.estimates, change.deployed)
        after = fit_plugin(change.out_of_fold, change.scores, change.costs_usd)
        rows += _measured(
            change.actual, name, "re-inverted", after.estimates, after.policy.choose_all(change.on_test)
        )
    return rows


def _removed(cell: Cell, heads: Predictions, on_test: Predictions, policy: PointPolicy) -> _Change:
    """The cheapest model is gone; a router in service chooses among the others at the same price of cost."""
    means, costs = np.nanmean(cell.train.scores, axis=0), np.nanmean(cell.train.costs_usd, axis=0)
    order = np.lexsort((-means, costs))
    gone, next_cheapest = int(order[0]), int(order[1])
    left = np.delete(np.arange(cell.train.n_models), gone)
    refused = on_test.scores.copy()
    refused[:, gone] = -1e9
    choices = policy.choose_all(Predictions(refused, on_test.costs_usd))
    choices = np.where(choices == gone, next_cheapest, choices)  # a point that was this model alone
    names = [cell.train.models[column] for column in left]
    expected = cell.expected_scores
    return _Change(
        actual=replace(
            cell,
            train=cell.train.with_models(names),
            test=cell.test.with_models(names),
            expected_scores=None if expected is None else expected[:, left],
        ),
        deployed=(choices - (choices > gone)).astype(np.int64),
        out_of_fold=Predictions(heads.scores[:, left], heads.costs_usd[:, left]),
        on_test=Predictions(on_test.scores[:, left], on_test.costs_usd[:, left]),
        scores=cell.train.scores[:, left],
        costs_usd=cell.train.costs_usd[:, left],
    )


def _cheaper(cell: Cell, heads: Predictions, on_test: Predictions, choices: IntArray) -> _Change:
    """The two dearest models at half their price; a router in service does not know."""
    factor = np.ones(cell.train.n_models)
    factor[np.argsort(np.nanmean(cell.train.costs_usd, axis=0))[-2:]] = 0.5

    def priced(table: OutcomeTable) -> OutcomeTable:
        return replace(table, costs_usd=table.costs_usd * factor)

    return _Change(
        actual=replace(cell, train=priced(cell.train), test=priced(cell.test)),
        deployed=choices,
        out_of_fold=Predictions(heads.scores, heads.costs_usd * factor),
        on_test=Predictions(on_test.scores, on_test.costs_usd * factor),
        scores=cell.train.scores,
        costs_usd=cell.train.costs_usd * factor,
    )


def _worse(cell: Cell, heads: Predictions, on_test: Predictions, choices: IntArray) -> _Change:
    """The best model loses right answers at random; 200 audited answers tell how many."""
    mean = np.nanmean(cell.train.scores, axis=0)
    model = int(mean.argmax())
    kept = 1.0 - _POINTS_LOST / max(float(mean[model]), _POINTS_LOST)
    rng = np.random.default_rng(cell.seed)

    def degraded(table: OutcomeTable) -> OutcomeTable:
        scores = table.scores.copy()
        scores[rng.random(table.n_queries) >= kept, model] *= 0.0
        return replace(table, scores=scores)

    actual = replace(cell, train=degraded(cell.train), test=degraded(cell.test), expected_scores=None)
    seen = np.flatnonzero(~np.isnan(actual.train.scores[:, model]))
    audited = rng.permutation(seen)[:_AUDITED]
    # What the model now scores less than predicted, on answers that a person or a judge looked at.
    offset = np.zeros(cell.train.n_models)
    offset[model] = float((actual.train.scores[audited, model] - heads.scores[audited, model]).mean())
    return _Change(
        actual=actual,
        deployed=choices,
        out_of_fold=Predictions(heads.scores + offset, heads.costs_usd),
        on_test=Predictions(on_test.scores + offset, on_test.costs_usd),
        scores=cell.train.scores + offset,
        costs_usd=cell.train.costs_usd,
    )


def _measured(cell: Cell, change: str, answer: str, estimates: Estimates, choices: IntArray) -> list[Row]:
    def serve(target: float) -> Served:
        mix = mix_at_accuracy(estimates.accuracy, min(target, float(estimates.accuracy[0])))
        return Served(choices[mix.upper], choices[mix.lower], mix.weight_upper)

    figures = [*cost_figures(cell, serve), *promise_figures(cell, serve)]
    return [
        Row(
            "pool",
            cell.data,
            cell.seed,
            "our heads",
            metric,
            value,
            variant=f"{change}|{answer}",
            n=cell.test.n_queries,
        )
        for metric, value, target in figures
        if target is None and metric in _KEPT
    ]
