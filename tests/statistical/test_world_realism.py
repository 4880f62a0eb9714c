"""Simulated worlds look like real outcome data to a simple router: kernel ridge, ridge on log cost, plug-in.

The twin is written out here and shares no code with the shipped heads; figures for those come from
`benchmarks/world_realism.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from proteus_router.baselines.plugin import fit_plugin
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.synthetic import make_world
from proteus_router.evaluation.yardsticks import accuracy_levels, cost_ratio, outcome_of
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.types import FloatArray, Predictions

N_TRAIN, N_TEST, ALPHA = 2000, 2500, 12.0
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Realism:
    """What a simple router sees of one world; shares of variance are held out."""

    contrasts: float
    contrasts_known: float
    ratio: float
    oracle_ratio: float
    agreement: float
    lowest: float
    best: float


def kernel_ridge(train: list[str], test: list[str], targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leave-one-out predictions of the training rows and predictions of the test rows."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    a = words.fit_transform(train)
    b = words.transform(test)
    inverse = np.linalg.inv((a @ a.T).toarray() + ALPHA * np.eye(len(train)))
    mean = targets.mean(axis=0)
    weights = inverse @ (targets - mean)
    return targets - weights / np.diag(inverse)[:, None], np.asarray(b @ (a.T @ weights)) + mean


def explained(predicted: FloatArray, observed: FloatArray, mean: FloatArray) -> float:
    """Share of the variance of the contrasts y_i - mean_i y beyond each model's own mean."""
    centred = [values - values.mean(axis=-1, keepdims=True) for values in (predicted, observed, mean)]
    return float(1 - ((centred[1] - centred[0]) ** 2).sum() / ((centred[1] - centred[2]) ** 2).sum())


def realism(seed: int) -> Realism:
    """Train the simple router on the first rows of a sample and look at the rest."""
    world = make_world(seed)
    sample = world.sample(N_TRAIN + N_TEST, seed=1)
    train = sample.table.take(np.arange(N_TRAIN))
    test = sample.table.take(np.arange(N_TRAIN, N_TRAIN + N_TEST))
    k = len(world.models)
    targets = np.hstack([train.scores, np.log(train.costs_usd)])
    fitted, predicted = kernel_ridge(list(train.queries), list(test.queries), targets)
    smear = train.costs_usd.mean(axis=0) / np.exp(fitted[:, k:]).mean(axis=0)
    plugin = fit_plugin(
        Predictions(fitted[:, :k], np.exp(fitted[:, k:]) * smear), train.scores, train.costs_usd
    )
    choices = plugin.policy.choose_all(Predictions(predicted[:, :k], np.exp(predicted[:, k:]) * smear))
    levels = accuracy_levels(test.scores)
    outcomes = []
    for level in levels:
        top = float(plugin.estimates.accuracy[0])
        mix = mix_at_accuracy(plugin.estimates.accuracy, min(float(level), top))
        upper, lower = choices[mix.upper], choices[mix.lower]
        outcomes.append(outcome_of(upper, lower, mix.weight_upper, test.scores, test.costs_usd))
    ratio = cost_ratio(levels, outcomes, test.scores, test.costs_usd)
    mean = train.scores.mean(axis=0)
    pairs = np.asarray(np.corrcoef(test.scores.T))[np.triu_indices(k, 1)]
    return Realism(
        contrasts=explained(predicted[:, :k], test.scores, mean),
        contrasts_known=explained(sample.expected_scores[N_TRAIN:], test.scores, mean),
        ratio=ratio.mean,
        oracle_ratio=ratio.oracle_ratio,
        agreement=float(pairs.mean()),
        lowest=float(test.scores.mean(axis=0).min()),
        best=float(test.scores.mean(axis=0).max()),
    )


@pytest.mark.slow
def test_worlds_look_like_real_data() -> None:
    seen = [realism(seed) for seed in SEEDS]
    for world in seen:
        assert 0.02 < world.contrasts < 0.10, world  # real: 0.015 to 0.029
        assert world.contrasts_known > 3 * world.contrasts, (
            world
        )  # most of what differs is hidden from the text
        assert 0.55 < world.ratio < 0.90, world
        assert world.oracle_ratio < 0.6 * world.ratio, world  # room that no router of texts can close
        assert 0.2 < world.agreement < 0.45, world  # real: 0.24 to 0.39
        assert 0.35 < world.lowest < 0.52, world
        assert 0.84 < world.best < 0.91, world
    assert 0.6 < np.mean([world.ratio for world in seen]) < 0.85


@pytest.mark.slow
def test_near_duplicates_are_rare_and_sampling_is_quick() -> None:
    started = time.process_time()
    table = make_world(0).sample(20_000, seed=3).table
    assert time.process_time() - started < 10
    groups = near_text_groups(table.queries)
    twins = np.bincount(groups)[groups] > 1
    assert 0 < twins.mean() < 0.03
    lengths = np.array([len(query.split()) for query in table.queries])
    assert lengths.max() > 200
    assert np.quantile(lengths, 0.5) > 25
