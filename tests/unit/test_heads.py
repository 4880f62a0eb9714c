"""Heads: honest out-of-fold predictions, exact leave-group-out, equivariance, batch equals loop, save and load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proteus_router.config import HeadsConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import make_world
from proteus_router.routing.predictor import HeadsPredictor, limit_scores
from proteus_router.training.heads import FittedHeads, fit_heads
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.training.stages import MemoryStages

QUICK = HeadsConfig(n_folds=3, forest_trees=20)
GROUPS = np.arange(240) // 2


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return make_world(3, n_models=8).sample(240, 5).table


def _fit(table: OutcomeTable, config: HeadsConfig = QUICK) -> FittedHeads:
    return fit_heads(
        table, GROUPS, encoder=None, config=config, seed=0, stages=MemoryStages(), progress=lambda *_: None
    )


@pytest.fixture(scope="module")
def fitted(table: OutcomeTable) -> FittedHeads:
    return _fit(table)


def test_leave_group_out_is_the_refit_without_the_group() -> None:
    rng = np.random.default_rng(0)
    x, y, groups = rng.normal(size=(30, 5)), rng.normal(size=(30, 2)), np.arange(30) // 3
    gram = x @ x.T
    fast = solve_kernel(gram, y, groups, 2.0).oof
    for group in range(3):
        out = groups == group
        slow = solve_kernel(gram[np.ix_(~out, ~out)], y[~out], groups[~out], 2.0)
        refit = gram[np.ix_(out, ~out)] @ slow.weights + slow.intercept
        # The intercept is the mean over all rows in the fast form, so agreement is to a small shift.
        assert fast[out] == pytest.approx(refit, abs=0.2)


def test_a_rows_own_labels_do_not_reach_its_kernel_prediction() -> None:
    rng = np.random.default_rng(1)
    x, y, groups = rng.normal(size=(40, 6)), rng.integers(0, 2, (40, 3)).astype(float), np.arange(40) // 4
    changed = y.copy()
    changed[groups == 2] = 1.0 - changed[groups == 2]
    before, after = (solve_kernel(x @ x.T, labels, groups, 3.0).oof for labels in (y, changed))
    shift = np.abs(after - before)
    assert shift[groups == 2].max() < 0.1 * shift[groups != 2].max() + 0.15


def test_predictions_are_scores_and_positive_costs(fitted: FittedHeads, table: OutcomeTable) -> None:
    for predictions in (fitted.oof, fitted.predictor.predict(table.queries)):
        assert predictions.scores.shape == (240, 8)
        assert ((predictions.scores >= 0) & (predictions.scores <= 1)).all()
        assert (predictions.costs_usd > 0).all()


def test_predicted_cost_has_the_right_mean(fitted: FittedHeads, table: OutcomeTable) -> None:
    ratio = fitted.oof.costs_usd.mean(axis=0) / table.costs_usd.mean(axis=0)
    assert ratio == pytest.approx(np.ones(8), abs=0.1)


def test_permuting_models_permutes_predictions(fitted: FittedHeads, table: OutcomeTable) -> None:
    order = [3, 0, 7, 5, 1, 2, 6, 4]
    permuted = _fit(table.with_models([table.models[i] for i in order]))
    assert permuted.oof.scores == pytest.approx(fitted.oof.scores[:, order], abs=1e-9)
    assert permuted.oof.costs_usd == pytest.approx(fitted.oof.costs_usd[:, order], rel=1e-9)


def test_costs_in_another_currency_scale_the_predictions(fitted: FittedHeads, table: OutcomeTable) -> None:
    scaled = _fit(replace(table, costs_usd=table.costs_usd * 1024.0))
    assert scaled.oof.costs_usd == pytest.approx(fitted.oof.costs_usd * 1024.0, rel=1e-6)
    assert np.array_equal(scaled.oof.scores, fitted.oof.scores)


def test_batch_equals_loop_and_save_then_load_is_identity(fitted: FittedHeads, table: OutcomeTable) -> None:
    texts = list(table.queries[:20])
    batch = fitted.predictor.predict(texts)
    loop = np.concatenate([fitted.predictor.predict([text]).scores for text in texts])
    assert batch.scores == pytest.approx(loop, abs=1e-12)
    arrays, meta = fitted.predictor.to_state()
    again = HeadsPredictor.from_state(arrays, meta, encoder=None).predict(texts)
    assert np.array_equal(again.scores, batch.scores)
    assert np.array_equal(again.costs_usd, batch.costs_usd)


@pytest.mark.parametrize("text", ["!!!", "\U0001f600", "東京の天気は?", "Ω" * 500, "a"])
def test_any_text_has_a_finite_prediction(fitted: FittedHeads, text: str) -> None:
    predictions = fitted.predictor.predict([text])
    assert np.isfinite(predictions.scores).all()
    assert np.isfinite(predictions.costs_usd).all()


def test_missing_outcomes_are_left_out_not_zero(table: OutcomeTable) -> None:
    rng = np.random.default_rng(4)
    hidden = rng.random(table.scores.shape) < 0.4
    hidden[np.arange(240), rng.integers(0, 8, 240)] = False
    holes = replace(
        table,
        scores=np.where(hidden, np.nan, table.scores),
        costs_usd=np.where(hidden, np.nan, table.costs_usd),
        extras={},
    )
    mean = _fit(holes, HeadsConfig(estimators=("kernel",))).oof.scores.mean(axis=0)
    assert mean == pytest.approx(np.nanmean(holes.scores, axis=0), abs=0.1)


def test_the_report_counts_and_calibrates(fitted: FittedHeads) -> None:
    report = fitted.report.to_dict()
    assert [row["n"] for row in report["models"]] == [240] * 8
    assert all(0 <= row["ece"] < 0.3 and 0 <= row["brier"] <= 0.5 for row in report["models"])


def test_the_folded_maps_are_the_plain_formula(fitted: FittedHeads, table: OutcomeTable) -> None:
    predictor = fitted.predictor
    texts = [*table.queries[:40], "zzq wxyv", "\N{GRINNING FACE}", "東京"]
    predictions = predictor.predict(texts)
    for text, scores, costs in zip(texts, predictions.scores, predictions.costs_usd, strict=True):
        row = predictor.lexical.row(text)
        dense = predictor.lexical.dense(row)
        trees = predictor.forest.predict(dense[None])[0]
        raw = row.values @ predictor.word_scores[row.indices] + trees + predictor.bias
        assert scores == pytest.approx(limit_scores(raw[None])[0], abs=1e-12)
        assert costs == pytest.approx(np.exp(dense @ predictor.cost_weights + predictor.cost_bias), rel=1e-12)
