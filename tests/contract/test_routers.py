"""What every router of the benchmark must keep, run over the whole registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.inversion import Inverted, invert
from proteus_router.baselines.registry import REGISTRY, Entry, select
from proteus_router.config import HeadsConfig, PaperConfig, PolicyConfig, TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.splits import fold_ids
from proteus_router.data.synthetic import make_world
from proteus_router.errors import ConfigError, ProteusError
from proteus_router.evaluation.yardsticks import outcome_of
from proteus_router.routing.target_map import OperatingMix
from proteus_router.training.pipeline import canonical_models
from proteus_router.types import FloatArray, IntArray

CONFIG = TrainConfig(
    heads=HeadsConfig(n_folds=3, forest_trees=8, forest_depth=4, lexical_dim=16),
    policy=PolicyConfig(steps=12, n_folds=3, n_settings=40, n_targets=5, bootstrap=50, refresh_every=6),
    paper=PaperConfig(steps=6, n_targets=4, hidden=16),
)
N_TRAIN, N_TEST, N_MODELS = 90, 40, 4

# Encoders outside the package take seconds to load, and paper mode's ablations are paper mode with one setting
# changed: `make test-slow` runs them.
_SLOW = {name for name in REGISTRY if name.startswith(("encoder-", "paper-"))}
FAST = [name for name in REGISTRY if name not in _SLOW]
ALL = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in REGISTRY if name in _SLOW)]

# Draw by the position of a model: the die, a bandit's first tries, a network's initial weights.
_POSITION_MATTERS = {"random", "linucb", *(name for name in REGISTRY if name.startswith("paper"))}


@dataclass(frozen=True)
class Case:
    """A fitted router on one kind of data, or the reason why it declined."""

    train: OutcomeTable
    test: OutcomeTable
    context: Context
    fit: RouterFit | None
    reason: str = ""


def _plain() -> OutcomeTable:
    return make_world(3, n_models=N_MODELS).sample(N_TRAIN + N_TEST, 4).table


def _missing() -> OutcomeTable:
    return make_world(3, n_models=N_MODELS).sample(N_TRAIN + N_TEST, 4, missing=0.4).table


def _graded() -> OutcomeTable:
    return make_world(3, n_models=N_MODELS, graded=True).sample(N_TRAIN + N_TEST, 4).table


def _fifty() -> OutcomeTable:
    return make_world(3, n_models=N_MODELS).sample(50 + N_TEST, 4).table


def _equal() -> OutcomeTable:
    table = _plain()
    return replace(table, scores=np.ones_like(table.scores))


def _free() -> OutcomeTable:
    table = _plain()
    return replace(table, costs_usd=np.zeros_like(table.costs_usd))


def _one_free() -> OutcomeTable:
    table = _plain()
    costs = table.costs_usd.copy()
    costs[:, 0] = 0.0
    return replace(table, costs_usd=costs)


KINDS: dict[str, Callable[[], OutcomeTable]] = {
    "plain": _plain,
    "missing": _missing,
    "graded": _graded,
    "fifty": _fifty,
    "equal": _equal,
    "free": _free,
    "one free": _one_free,
}


@cache
def split(kind: str) -> tuple[OutcomeTable, OutcomeTable]:
    table = KINDS[kind]()
    n = table.n_queries
    train = canonical_models(table.take(np.arange(n - N_TEST)))
    return train, table.take(np.arange(n - N_TEST, n)).with_models(train.models)


@cache
def context_of(kind: str) -> Context:
    return Context.of(split(kind)[0], seed=5, config=CONFIG, n_folds=3)


@cache
def case(kind: str, name: str) -> Case:
    train, test = split(kind)
    context = context_of(kind)
    try:
        return Case(train, test, context, REGISTRY[name].factory().fit(context))
    except ProteusError as error:
        return Case(train, test, context, None, str(error))


def fitted(kind: str, name: str) -> tuple[Case, RouterFit]:
    found = case(kind, name)
    if found.fit is None:
        assert len(found.reason) > 20, "a router that declines says why"
        pytest.skip(found.reason)
    return found, found.fit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_choices_are_models_and_every_target_gets_a_finite_outcome(name: str, kind: str) -> None:
    found, fit = fitted(kind, name)
    n, k = found.train.n_queries, found.train.n_models
    choices = fit.choices(found.test.queries)
    assert fit.name == name
    for array, rows in ((fit.out_of_fold, n), (choices, N_TEST)):
        assert array.shape == (fit.n_points, rows)
        assert array.dtype == np.int64
        assert ((array >= 0) & (array < k)).all()
    assert fit.choices([]).shape == (fit.n_points, 0)
    served(found, invert(fit, found.context), choices)
    if fit.native is not None:
        for target in (0.01, 0.5, 0.99):
            mix = fit.native(target)
            assert 0 <= mix.upper < fit.n_points
            assert 0 <= mix.lower < fit.n_points
            assert 0.0 <= mix.weight_upper <= 1.0


def served(found: Case, inverted: Inverted, choices: IntArray) -> None:
    vertices = choices[inverted.points]
    target_map = inverted.target_map
    assert len(vertices) == target_map.vertex_accuracy.size
    for target in (0.05, 0.5, 0.7, 0.95):
        mix = target_map.expected(target, clamp=True)
        assert isinstance(mix, OperatingMix)
        outcome = outcome_of(
            vertices[mix.upper],
            vertices[mix.lower],
            mix.weight_upper,
            found.test.scores,
            found.test.costs_usd,
        )
        assert 0.0 <= outcome.accuracy <= 1.0
        assert np.isfinite(outcome.cost_usd)
        target_map.certify(target)  # a certificate or a reason, never an exception


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_predictions_are_finite_and_in_range(name: str, kind: str) -> None:
    found, fit = fitted(kind, name)
    if fit.predicted is None:
        pytest.skip("predicts nothing")
    predictions = fit.predicted(found.test.queries)
    for array in (predictions.scores, predictions.costs_usd):
        assert array.shape == (N_TEST, found.train.n_models)
        assert np.isfinite(array).all()
    assert ((predictions.scores >= 0.0) & (predictions.scores <= 1.0)).all()
    assert (predictions.costs_usd >= 0.0).all()


@pytest.mark.parametrize("name", FAST)
def test_the_same_data_and_seed_give_the_same_router(name: str) -> None:
    found, fit = fitted("plain", name)
    again = refit(name, found.train)
    assert np.array_equal(again.out_of_fold, fit.out_of_fold)
    assert np.array_equal(again.choices(found.test.queries), fit.choices(found.test.queries))


@pytest.mark.parametrize("name", FAST)
def test_a_choice_depends_on_its_own_text_alone(name: str) -> None:
    found, fit = fitted("plain", name)
    if REGISTRY[name].batch:
        pytest.skip("decides about a batch together")
    texts = list(found.test.queries)
    together = fit.choices(texts)
    assert np.array_equal(fit.choices(texts[::-1]), together[:, ::-1])
    for row in (0, 7):
        assert np.array_equal(fit.choices([texts[row]])[:, 0], together[:, row])


@pytest.mark.parametrize("name", FAST)
def test_the_order_of_models_does_not_matter(name: str) -> None:
    found, fit = fitted("plain", name)
    order = [2, 0, 3, 1]
    permuted = found.train.with_models([found.train.models[column] for column in order])
    # As the harness calls it: canonical order first, then the very same arrays.
    again = refit(name, canonical_models(permuted))
    assert np.array_equal(again.out_of_fold, fit.out_of_fold)
    if name in _POSITION_MATTERS:
        return
    raw = refit(name, permuted)
    if raw.n_points != fit.n_points:
        pytest.fail("another number of points")
    alone = np.isnan(fit.knobs) & (fit.out_of_fold == fit.out_of_fold[:, :1]).all(axis=1)
    mapped = np.array(order)[raw.out_of_fold]
    if not alone.all():  # sums run in another order, so a tie may fall to the other side
        assert (mapped[~alone] == fit.out_of_fold[~alone]).mean() > 0.97
    assert set(mapped[alone].ravel()) == set(fit.out_of_fold[alone].ravel())


@pytest.mark.parametrize("name", FAST)
def test_the_currency_does_not_matter(name: str) -> None:
    found, fit = fitted("plain", name)
    train = replace(found.train, costs_usd=found.train.costs_usd * 7.0)
    again = refit(name, train)
    assert (again.out_of_fold == fit.out_of_fold).mean() > 0.97
    assert (again.choices(found.test.queries) == fit.choices(found.test.queries)).mean() > 0.97


def refit(name: str, train: OutcomeTable) -> RouterFit:
    return REGISTRY[name].factory().fit(Context.of(train, seed=5, config=CONFIG, n_folds=3))


@cache
def noise_context() -> Context:
    """Every text twice with one outcome, which is a fair coin a model: nothing can be learned but the answers."""
    rng = np.random.default_rng(11)
    table = make_world(8, n_models=N_MODELS).sample(150, 9).table
    scores = rng.integers(0, 2, size=(150, N_MODELS)).astype(float)
    doubled = OutcomeTable(
        query_ids=tuple(f"q{row}" for row in range(300)),
        queries=tuple(np.repeat(table.queries, 2).tolist()),
        models=table.models,
        scores=np.repeat(scores, 2, axis=0),
        costs_usd=np.tile(np.array([1.0, 2.0, 3.0, 4.0]), (300, 1)),
    )
    return Context.of(doubled, seed=5, config=CONFIG, n_folds=3, groups=np.repeat(np.arange(150), 2))


def noise_accuracy(choices: IntArray, scores: FloatArray) -> FloatArray:
    return np.array([scores[np.arange(len(scores)), choice].mean() for choice in choices])


@pytest.mark.parametrize("name", FAST)
def test_out_of_fold_choices_have_not_seen_the_answers(name: str) -> None:
    context = noise_context()
    fit = REGISTRY[name].factory().fit(context)
    accuracy = noise_accuracy(fit.out_of_fold, context.train.scores)
    # A point that knew its row's answer, or its twin's, would score near 0.9; four standard errors of 150 coins.
    assert accuracy.max() < 0.5 + 4 * 0.5 / np.sqrt(150)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("avengers-pro", 3), ("linucb", 3), ("mlp", 3), pytest.param("paper", 2, marks=pytest.mark.slow)],
)
def test_a_fold_does_not_see_its_own_answers(name: str, parts: int) -> None:
    """For routers too stiff to betray a leak on noise: shuffling a fold's answers among its rows moves no choice there."""
    config = CONFIG.model_copy(update={"paper": PaperConfig(steps=80, n_targets=4, hidden=16)})
    train = split("plain")[0]
    context = Context.of(train, seed=5, config=config, n_folds=3)
    fit = REGISTRY[name].factory().fit(context)
    folds = context.folds if parts == 3 else fold_ids(context.groups, parts, context.seed)
    inside, outside = np.flatnonzero(folds == 0), np.flatnonzero(folds != 0)
    order = np.arange(train.n_queries)
    order[inside] = np.roll(inside, 7)
    shuffled = Context.of(replace(train, scores=train.scores[order]), seed=5, config=config, n_folds=3)
    again = REGISTRY[name].factory().fit(shuffled)
    assert np.array_equal(again.out_of_fold[:, inside], fit.out_of_fold[:, inside])
    assert not np.array_equal(again.out_of_fold[:, outside], fit.out_of_fold[:, outside])


def test_the_leak_test_would_notice_a_leak() -> None:
    context = noise_context()
    fit = REGISTRY["knn-5"].factory().fit(context)
    in_sample = fit.choices(context.train.queries)  # neighbours include the row itself and its twin
    assert noise_accuracy(in_sample, context.train.scores).max() > 0.8


def test_select_keeps_the_registry_order_and_names_the_nearest() -> None:
    assert [entry.name for entry in select(["proteus", "knn", "static-mix"])] == [
        "static-mix",
        "knn",
        "proteus",
    ]
    assert {entry.name for entry in select(quick=True)} < set(REGISTRY)
    with pytest.raises(ConfigError, match="proteus"):
        select(["proteu"])


@pytest.mark.parametrize("entry", REGISTRY.values(), ids=lambda entry: entry.name)
def test_every_entry_is_documented(entry: Entry) -> None:
    assert entry.factory().name == entry.name
    assert entry.title
    assert len(entry.source) > 10
