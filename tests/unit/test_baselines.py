"""Each router of others against what its paper says, on cases small enough to work out by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from proteus_router.baselines.bandit import PrimalDualLinUCB
from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.carrot import Carrot
from proteus_router.baselines.classifier import BestModelClassifier
from proteus_router.baselines.clusters import balance
from proteus_router.baselines.context import Context
from proteus_router.baselines.fixed import (
    AlwaysBest,
    AlwaysCheapest,
    StaticMix,
    UniformRandom,
    oracle_choices,
)
from proteus_router.baselines.inversion import invert
from proteus_router.baselines.linear import Linear, fit_logistic, fit_ridge
from proteus_router.baselines.neighbours import NearestNeighbours, mean_over_neighbours
from proteus_router.baselines.networks import TwoHeads, train_layers
from proteus_router.baselines.omnirouter import assign, native_mix
from proteus_router.baselines.ours import Proteus, TrainedPolicy, WithoutConvexification
from proteus_router.baselines.predicting import BestPredicted, model_means
from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import make_world
from proteus_router.routing.frontier import estimate_points
from proteus_router.routing.target_map import TargetMap
from proteus_router.training.pipeline import canonical_models, train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray, Predictions

CONFIG = TrainConfig(
    heads=HeadsConfig(n_folds=3, forest_trees=8, forest_depth=4, lexical_dim=16),
    policy=PolicyConfig(steps=12, n_folds=3, n_settings=40, n_targets=5, bootstrap=50, refresh_every=6),
)


def table_of(queries: list[str], scores: FloatArray, costs: FloatArray) -> OutcomeTable:
    n, k = scores.shape
    return OutcomeTable(
        query_ids=tuple(f"q{row}" for row in range(n)),
        queries=tuple(queries),
        models=tuple("abcdefgh"[:k]),
        scores=scores,
        costs_usd=np.broadcast_to(costs, (n, k)).copy(),
    )


def two_kinds(n: int = 120) -> OutcomeTable:
    """Sums are answered by the cheap model alone, poems by the dear one alone: words tell which."""
    queries = [f"sum add number {row}" if row % 2 else f"poem rhyme verse {row}" for row in range(n)]
    cheap_is_right = np.arange(n) % 2 == 1
    return table_of(
        queries, np.column_stack([cheap_is_right, ~cheap_is_right]).astype(float), np.array([1.0, 5.0])
    )


def context_of(table: OutcomeTable) -> Context:
    return Context.of(table, seed=0, groups=np.arange(table.n_queries), config=CONFIG, n_folds=3)


# Fixed


def test_the_fixed_ones_go_by_training_means_and_break_ties_sensibly() -> None:
    scores = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1]], dtype=float)
    context = context_of(table_of([f"t {i}" for i in range(4)], scores, np.array([2.0, 3.0, 2.0])))
    assert AlwaysBest().fit(context).out_of_fold.tolist() == [[0] * 4]  # as good as b, and cheaper
    assert AlwaysCheapest().fit(context).out_of_fold.tolist() == [[0] * 4]  # as cheap as c, and better
    assert StaticMix().fit(context).choices(["x"]).tolist() == [[0], [1], [2]]


def test_the_die_is_fair_and_belongs_to_seed_and_text() -> None:
    table = table_of([f"text {i}" for i in range(900)], np.ones((900, 3)), np.ones(3))
    one, other = (
        UniformRandom().fit(Context.of(table, seed=seed, groups=np.arange(900), config=CONFIG)).out_of_fold[0]
        for seed in (1, 2)
    )
    assert np.abs(np.bincount(one, minlength=3) - 300).max() < 60
    assert 0.2 < (one == other).mean() < 0.47


def test_the_oracle_takes_the_cheapest_of_the_best() -> None:
    rng = np.random.default_rng(0)
    scores, costs = rng.integers(0, 3, (40, 4)) / 2.0, rng.random((40, 4))
    scores[rng.random((40, 4)) < 0.3] = np.nan
    for row, choice in enumerate(oracle_choices(scores, costs)):
        seen = [(-scores[row, i], costs[row, i], i) for i in range(4) if not np.isnan(scores[row, i])]
        assert choice == (min(seen)[2] if seen else 0)


# Neighbours


def test_a_mean_over_neighbours_leaves_out_what_is_missing() -> None:
    values = np.array([[1.0, np.nan], [0.0, np.nan], [0.5, 0.4]])
    near = np.array([[0, 1, 2], [0, 1, -1], [2, -1, -1]])
    found = mean_over_neighbours(values, near, np.array([0.9, 0.7]))
    assert found.tolist() == [[0.5, 0.4], [0.5, 0.7], [0.5, 0.4]]


def test_neighbours_are_the_most_similar_texts_of_other_groups() -> None:
    table = two_kinds(40)
    fitted = NearestNeighbours(5)(context_of(table))
    assert np.array_equal(fitted.out_of_fold.scores, table.scores)
    assert fitted.predict(["a poem, please"]).scores.tolist() == [[0.0, 1.0]]


# Linear


def test_ridge_is_its_normal_equations_on_the_rows_observed() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((30, 4)), rng.random((30, 2))
    y[:10, 1] = np.nan
    predict = fit_ridge(x, y, 7.0)
    for column, rows in ((0, slice(None)), (1, slice(10, None))):
        design = np.column_stack([np.ones(len(x[rows])), x[rows]])
        penalty = np.diag([0.0, *[7.0] * 4])
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ y[rows, column])
        slow = np.column_stack([np.ones(30), x]) @ weights
        assert predict(x)[:, column] == pytest.approx(slow)


def test_a_graded_score_counts_as_that_share_of_a_success() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 3))
    right = (x[:, :1] > 0).astype(float)
    thirds = np.where(right > 0, 2 / 3, 1 / 3)
    as_counts = np.vstack([right, right, 1.0 - right])  # two answers of three are as before
    graded = fit_logistic(x, thirds, 6.0)(x)
    counted = fit_logistic(np.vstack([x] * 3), as_counts, 3 * 6.0)(x)
    assert graded == pytest.approx(counted, abs=1e-3)


def test_a_column_of_one_kind_is_predicted_as_such() -> None:
    x = np.random.default_rng(3).standard_normal((20, 3))
    y = np.column_stack([np.ones(20), np.zeros(20), np.full(20, 0.5)])
    y[3, 0] = np.nan
    found = fit_logistic(x, y, 10.0)(x)
    assert found[:, :2].tolist() == [[1.0, 0.0]] * 20
    assert found[:, 2] == pytest.approx(0.5, abs=0.02)


# Networks


def test_the_network_learns_and_missing_targets_carry_no_weight() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((600, 3))
    y = np.column_stack([(x[:, 0] * x[:, 1] > 0), x[:, 2] > 0]).astype(float)
    hidden = y.copy()
    hidden[rng.random(y.shape) < 0.5] = np.nan
    for targets in (y, hidden):
        error = ((train_layers(x, targets, 0)(x) - y) ** 2).mean(axis=0)
        assert (error < [0.2, 0.12]).all()  # a linear fit of the first has 0.25
    lone = np.full((600, 1), np.nan)
    assert np.isfinite(train_layers(x, np.hstack([y, lone]), 0)(x)).all()


def test_models_permute_the_network() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((90, 3)), rng.random((90, 4))
    order = [2, 0, 3, 1]
    assert train_layers(x, y[:, order], 0)(x) == pytest.approx(train_layers(x, y, 0)(x)[:, order], abs=1e-3)


def test_two_heads_predict_scores_and_costs() -> None:
    table = two_kinds(240)
    long = np.array([len(query) for query in table.queries], dtype=float)
    costs = table.costs_usd * np.where(np.arange(240) % 2, 1.0, 4.0)[:, None] + 0.0 * long[:, None]
    fitted = TwoHeads()(context_of(table_of(list(table.queries), table.scores, costs)))
    found = fitted.predict(["sum add number", "poem rhyme verse"])
    assert found.costs_usd[1, 1] > 2 * found.costs_usd[0, 1]
    assert found.scores[0, 0] > found.scores[0, 1]


# CARROT


@pytest.mark.parametrize("mu", [0.1, 0.5, 0.9])
def test_carrot_is_its_own_formula(mu: float) -> None:
    context = context_of(canonical_models(make_world(2, n_models=4).sample(90, 3).table))
    fit = Carrot("carrot", mu).fit(context)
    assert fit.predicted is not None
    texts = list(context.train.queries[:30])
    predictions = fit.predicted(texts)
    dearest = context.train.costs_usd.mean(axis=0).max()
    utility = (1 - mu) * predictions.scores - mu * predictions.costs_usd / dearest
    assert fit.choices(texts).tolist() == [utility.argmax(axis=1).tolist()]
    assert fit.knobs.tolist() == [mu]


# RouteLLM


def test_the_classifier_says_which_model_is_best() -> None:
    fit = BestPredicted("routellm", BestModelClassifier()).fit(context_of(two_kinds()))
    assert fit.choices(["sum add number", "poem rhyme verse"]).tolist() == [[0, 1]]
    assert fit.predicted is not None
    assert fit.predicted(["sum"]).scores.sum() == pytest.approx(1.0)


def test_of_models_equally_right_the_cheap_one_is_the_label() -> None:
    table = table_of([f"text {i}" for i in range(30)], np.ones((30, 2)), np.array([1.0, 5.0]))
    fit = BestPredicted("routellm", BestModelClassifier()).fit(context_of(table))
    assert set(fit.out_of_fold.ravel()) == {0}


# OmniRouter


def test_the_batch_assignment_is_feasible_and_as_cheap_as_any_that_one_price_gives() -> None:
    rng = np.random.default_rng(6)
    predictions = Predictions(rng.random((5, 3)), rng.random((5, 3)) + 0.1)
    rows = np.arange(5)
    every = [
        (predictions.scores[rows, list(m)].mean(), predictions.costs_usd[rows, list(m)].mean())
        for m in product(range(3), repeat=5)
    ]
    for alpha in (0.3, 0.5, 0.65):
        chosen = assign(predictions, np.array([alpha]))[0]
        score, cost = predictions.scores[rows, chosen].mean(), predictions.costs_usd[rows, chosen].mean()
        assert score >= alpha
        # The best assignment of all may use the slack that one multiplier can't: no more than one query's worth.
        best = min(c for s, c in every if s >= alpha)
        assert best - 1e-12 <= cost <= best + predictions.costs_usd.max() / 5
    beyond = assign(predictions, np.array([1.5]))[0]
    assert beyond.tolist() == predictions.scores.argmax(axis=1).tolist()


def test_a_batch_of_one_takes_the_cheapest_model_predicted_to_reach_alpha() -> None:
    single = Predictions(np.array([[0.3, 0.6, 0.65, 0.9]]), np.array([[1.0, 2.0, 3.0, 9.0]]))
    assert assign(single, np.array([0.95, 0.7, 0.62, 0.5, 0.1])).ravel().tolist() == [3, 3, 2, 1, 0]


def test_alpha_between_two_settings_is_a_coin() -> None:
    alphas = np.array([0.9, 0.7])
    mix = native_mix(alphas, 0.75)
    assert (mix.upper, mix.lower) == (0, 1)
    assert mix.weight_upper == pytest.approx(0.25)
    assert native_mix(alphas, 0.99).upper == 0
    assert native_mix(alphas, 0.1).upper == 1


# Avengers-Pro


def test_the_balance_score_by_hand() -> None:
    accuracy, cost = np.array([[0.2, 0.6, 1.0]]), np.array([[1.0, 2.0, 4.0]])
    assert balance(accuracy, cost, 1.0).tolist() == [pytest.approx([0.0, 0.5, 1.0])]
    assert balance(accuracy, cost, 0.0).tolist() == [pytest.approx([0.75, 0.5, 0.0])]
    assert balance(accuracy, cost, 0.5).tolist() == [pytest.approx([0.375, 0.5, 0.5])]
    flat = balance(np.ones((1, 3)), np.zeros((1, 3)), 0.3)
    assert flat.tolist() == [pytest.approx([1.0, 1.0, 1.0])]


# The bandit


def test_the_bandit_buys_accuracy_as_the_target_rises() -> None:
    rng = np.random.default_rng(7)
    n = 600
    scores = np.column_stack([rng.random(n) < 0.55, rng.random(n) < 0.9]).astype(float)
    table = table_of([f"text number {i}" for i in range(n)], scores, np.array([1.0, 10.0]))
    fit = PrimalDualLinUCB(n_targets=4).fit(context_of(table))
    accuracy = estimate_points(fit.out_of_fold, table.scores, table.costs_usd).accuracy[:4]
    assert fit.knobs[0] > fit.knobs[3]
    assert accuracy[0] > 0.8
    assert accuracy[3] < 0.7
    assert fit.native is not None
    assert fit.native(float(fit.knobs[1])).upper == 1


def test_outcomes_nobody_recorded_teach_the_bandit_nothing() -> None:
    """The second model answers nothing that is known: it is asked again and again, and not taken in the end."""
    scores = np.column_stack([np.full(200, 0.8), np.full(200, np.nan)])
    costs = np.where(np.isnan(scores), np.nan, 1.0)
    fit = PrimalDualLinUCB(n_targets=3).fit(
        context_of(table_of([f"text number {i}" for i in range(200)], scores, costs))
    )
    assert (fit.out_of_fold[:3] == 0).mean() > 0.9


# Ours


def test_ours_is_what_training_ships() -> None:
    table = canonical_models(make_world(5, n_models=4).sample(150, 6).table)
    config = CONFIG.model_copy(update={"seed": 3})
    artifact = train_router(
        table,
        config=config,
        encoder=None,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    shipped = TargetMap.from_state(artifact.parts["target_map"], artifact.manifest["target_map"])
    context = Context.of(table, seed=3, config=config)
    found = invert(Proteus().fit(context), context).target_map
    for name in ("vertex_accuracy", "vertex_cost_usd", "lower_bounds", "n", "weight_upper"):
        assert np.array_equal(getattr(found, name), getattr(shipped, name)), name


def test_without_convexification_a_target_gets_the_cheapest_point_that_reaches_it() -> None:
    context = context_of(canonical_models(make_world(5, n_models=4).sample(150, 6).table))
    fit = WithoutConvexification().fit(context)
    found = estimate_points(fit.out_of_fold, context.train.scores, context.train.costs_usd)
    assert fit.native is not None
    for target in (0.5, 0.7, float(found.accuracy.max())):
        mix = fit.native(target)
        assert mix.weight_upper == 1.0
        reaching = [c for a, c in zip(found.accuracy, found.cost_usd, strict=True) if a >= target]
        assert found.accuracy[mix.upper] >= target
        assert found.cost_usd[mix.upper] == min(reaching)
    assert found.accuracy[fit.native(0.999).upper] == found.accuracy.max()


def test_an_ablation_changes_the_setting_it_names() -> None:
    context = context_of(canonical_models(make_world(5, n_models=4).sample(150, 6).table))

    def fitted(*update: tuple[str, object], conditioned: bool = True) -> RouterFit:
        return TrainedPolicy("x", update, conditioned=conditioned).fit(context)

    whole = fitted()
    assert whole.n_points == CONFIG.policy.n_settings + 4
    for update in (("dual", "scalar"), ("gamma_init", 3.0)):
        assert not np.array_equal(fitted(update).knobs, whole.knobs, equal_nan=True)
    one = fitted(conditioned=False)
    assert one.n_points == 1
    assert one.native is not None
    assert one.native(0.2) == one.native(0.9)


def test_linear_heads_find_the_two_kinds() -> None:
    for loss in ("squared", "log"):
        fitted = Linear(loss)(context_of(two_kinds()))
        found = fitted.predict(["sum add number", "poem rhyme verse"]).scores
        assert found.argmax(axis=1).tolist() == [0, 1]


def test_model_means_fall_back_where_nobody_answered() -> None:
    values = np.array([[1.0, np.nan, 0.2], [np.nan, np.nan, 0.4]])
    assert model_means(values).tolist() == pytest.approx([1.0, 0.0, 0.3])
    assert model_means(values, np.array([False, True])).tolist() == pytest.approx([1.0, 0.0, 0.4])
