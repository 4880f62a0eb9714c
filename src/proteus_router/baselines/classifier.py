"""RouteLLM-style routing (arXiv 2406.18665), with many models: a classifier of which model is best for x.

RouteLLM has two models and calls the strong one where P(strong wins | x) passes a threshold. Here P(model i is
best | x) takes the place of the score, and the threshold becomes a price of cost; with two models both are one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.fixed import oracle_choices
from proteus_router.baselines.predicting import CrossFitted, cross_fit, mean_cost_head, model_means
from proteus_router.types import FloatArray, Predictions

__all__ = ["BestModelClassifier"]

_PENALTIES = (300.0, 3_000.0)


@dataclass(frozen=True)
class BestModelClassifier:
    """Multinomial logistic regression of the best model on the dense view.

    The best model of a query is the one with the highest score, of equal ones the one cheapest on average. The
    penalty is the one of `_PENALTIES` with the least out-of-fold log loss.
    """

    def __call__(self, context: Context) -> CrossFitted:
        train = context.train
        label = _best(train.scores, train.costs_usd)
        tried = [cross_fit(context, partial(_fit_rows, penalty)) for penalty in _PENALTIES]
        losses = [
            float(-np.log(np.maximum(chance[np.arange(label.size), label], 1e-12)).mean())
            for chance, _ in tried
        ]
        out_of_fold, chances = tried[int(np.argmin(losses))]
        own_costs, cost = mean_cost_head(context)

        def predict(texts: Sequence[str]) -> Predictions:
            features = context.features_of(texts)
            return Predictions(chances(features), cost(features))

        return CrossFitted(Predictions(out_of_fold, own_costs), predict)


def _best(scores: FloatArray, costs_usd: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return oracle_choices(scores, np.tile(model_means(costs_usd), (len(scores), 1)))


def _fit_rows(
    penalty: float, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
) -> Callable[[Features], FloatArray]:
    from sklearn.linear_model import LogisticRegression

    k = scores.shape[1]
    answered = ~np.isnan(scores).all(axis=1)
    label = _best(scores, costs_usd)[answered]
    known = np.unique(label)
    if known.size == 1:
        return lambda other: np.tile(np.eye(k)[known[0]], (len(other.dense), 1))
    model = LogisticRegression(C=1.0 / penalty, max_iter=300, tol=1e-3)
    model.fit(features.dense[answered], label)

    def chances(other: Features) -> FloatArray:
        found = np.zeros((len(other.dense), k))
        if len(found):
            found[:, known] = model.predict_proba(other.dense)
        return found

    return chances
