"""A world keeps its promises: reproducible, unbiased, missing at random, priced by its own list."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from proteus_router.data.synthetic import Sample, World, make_world
from proteus_router.errors import ConfigError


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(0)


@pytest.fixture(scope="module")
def sample(world: World) -> Sample:
    return world.sample(3000, seed=1)


def test_the_bytes_are_pinned(world: World) -> None:
    """Worlds are named in reports by seed: a change of bytes is a change of every simulated result."""
    assert world.sample(200, seed=1).table.fingerprint() == GOLDEN_SAMPLE
    assert world.fingerprint == GOLDEN_WORLD


def test_the_same_seed_gives_the_same_sample_and_another_seed_another(world: World, sample: Sample) -> None:
    again = make_world(0).sample(3000, seed=1)
    assert again.table.fingerprint() == sample.table.fingerprint()
    assert np.array_equal(again.expected_scores, sample.expected_scores)
    other = world.sample(300, seed=2)
    assert not set(other.table.query_ids) & set(sample.table.query_ids)
    assert len(set(other.table.queries) & set(sample.table.queries)) < 10
    assert make_world(1).fingerprint != world.fingerprint


def test_a_shorter_sample_is_the_start_of_a_longer_one(world: World, sample: Sample) -> None:
    short = world.sample(50, seed=1)
    assert short.table.fingerprint() == sample.table.take(np.arange(50)).fingerprint()
    assert np.array_equal(short.expected_scores, sample.expected_scores[:50])
    assert np.array_equal(short.expected_costs_usd, sample.expected_costs_usd[:50])


def test_everything_says_simulated(sample: Sample) -> None:
    assert sample.table.simulated
    assert sample.table.name == "simulated-world-0"
    assert make_world(0, graded=True).sample(5, 0).table.name == "simulated-world-0-graded"


@pytest.mark.parametrize("graded", [False, True])
def test_outcomes_have_the_expected_means(graded: bool) -> None:
    drawn = make_world(3, graded=graded).sample(4000, seed=7)
    assert drawn.table.binary is not graded
    expected = drawn.expected_scores
    assert ((expected >= 0) & (expected <= 1)).all()
    errors = drawn.table.scores - expected
    z = errors.mean(axis=0) / (errors.std(axis=0) / np.sqrt(4000))
    assert np.abs(z).max() < 4
    for low in np.arange(0.0, 1.0, 0.1):  # calibrated in every range of the expected score
        inside = (expected >= low) & (expected < low + 0.1)
        spread = errors[inside].std() / np.sqrt(inside.sum())
        assert abs(errors[inside].mean()) < 4.5 * spread
    costs = drawn.table.costs_usd / drawn.expected_costs_usd - 1.0
    z_costs = costs.mean(axis=0) / (costs.std(axis=0) / np.sqrt(4000))
    assert np.abs(z_costs).max() < 4


def test_graded_scores_spread_like_graded_answers() -> None:
    scores = make_world(0, graded=True).sample(1000, seed=1).table.scores
    assert set(np.unique(np.round(scores * 5)).tolist()) == {0, 1, 2, 3, 4, 5}
    assert 0.2 < np.isin(scores, (0.2, 0.4, 0.6, 0.8)).mean() < 0.6


def test_costs_are_tokens_times_the_price_list(world: World, sample: Sample) -> None:
    for i, card in enumerate(world.models):
        tokens = {name: array[:, i] for name, array in sample.table.extras.items()}
        cost = tokens["input_tokens"] * card.input_price_usd_per_mtok
        cost = cost + tokens["output_tokens"] * card.output_price_usd_per_mtok
        assert np.allclose(sample.table.costs_usd[:, i], cost / 1e6)
        assert (tokens["output_tokens"] >= 1).all()


def test_the_market_looks_like_a_market(world: World, sample: Sample) -> None:
    scores, costs = sample.expected_scores.mean(axis=0), sample.expected_costs_usd.mean(axis=0)
    prices = np.array([card.input_price_usd_per_mtok for card in world.models])
    assert 150 < prices.max() / prices.min() < 250
    assert scores.argmax() == costs.argmax() == prices.argmax()
    assert 0.38 < scores.min() < 0.5
    assert 0.85 < scores.max() < 0.91
    dominated = [((costs < costs[i]) & (scores > scores[i])).any() for i in range(len(costs))]
    assert sum(dominated) >= 2
    tasks = np.array(sample.table.tasks)
    winners = {int(sample.expected_scores[tasks == task].mean(axis=0).argmax()) for task in set(tasks)}
    assert len(winners) > 1  # the dearest is not the best everywhere


def test_mean_scores_are_as_listed() -> None:
    world = make_world(5, n_models=12)
    means = world.sample(12_000, seed=1).expected_scores.mean(axis=0)
    assert np.abs(means - [card.mean_score for card in world.models]).max() < 0.015


@pytest.mark.parametrize("n_models", [2, 4, 12])
def test_a_pool_of_any_size_holds_the_dearest(n_models: int) -> None:
    names = make_world(0, n_models=n_models).model_names
    assert len(set(names)) == n_models
    assert set(names) <= set(make_world(0, n_models=12).model_names)
    assert any("ultra" in name for name in names)


def test_missing_outcomes(world: World, sample: Sample) -> None:
    thinned = world.sample(3000, seed=1, missing=0.3)
    gone = ~thinned.table.observed
    rates = gone.mean(axis=0)
    assert rates.mean() == pytest.approx(0.3, abs=0.01)
    assert np.ptp(rates) > 0.1  # rates differ between models
    assert np.array_equal(thinned.expected_scores, sample.expected_scores)  # truth is known everywhere
    kept = thinned.table.observed
    assert np.array_equal(thinned.table.scores[kept], sample.table.scores[kept])
    assert np.isnan(thinned.table.extras["output_tokens"][gone]).all()
    for i in range(thinned.table.n_models):  # at random: the score does not tell whether it is missing
        score, hidden = sample.table.scores[:, i], gone[:, i]
        assert abs(np.corrcoef(score, hidden)[0, 1]) < 0.08


def test_every_query_keeps_an_outcome() -> None:
    table = make_world(0, n_models=3).sample(400, seed=1, missing=0.9).table
    assert table.observed.any(axis=1).all()
    assert 0.6 < 1 - table.observed.mean() < 0.75  # one of three is kept where all would be gone


def test_a_policy_is_worth_what_a_fresh_sample_says(world: World) -> None:
    """A fixed policy (by family): expected and realised means agree, and the expected one is less noisy."""

    def value(drawn: Sample) -> tuple[float, float]:
        choice = np.array([len(task) % drawn.table.n_models for task in drawn.table.tasks or ()])
        rows = np.arange(len(choice))
        return float(drawn.expected_scores[rows, choice].mean()), float(
            drawn.table.scores[rows, choice].mean()
        )

    pairs = np.array([value(world.sample(400, seed=seed)) for seed in range(10, 22)])
    difference = pairs[:, 0] - pairs[:, 1]
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / np.sqrt(len(pairs))
    assert pairs[:, 0].std() < pairs[:, 1].std()


def test_prices_can_change(world: World, sample: Sample) -> None:
    name = world.model_names[3]
    dearer = world.with_prices({name: 2.5})
    after = dearer.sample(100, seed=1)
    factors = np.ones(len(world.models))
    factors[3] = 2.5
    assert np.allclose(after.table.costs_usd, sample.table.costs_usd[:100] * factors)
    assert np.array_equal(after.table.scores, sample.table.scores[:100])
    assert dearer.fingerprint != world.fingerprint


def test_a_model_can_get_worse(world: World, sample: Sample) -> None:
    name = world.model_names[-1]
    worse = world.with_skill_shift(name, -0.10)
    after = worse.sample(3000, seed=1)
    change = (after.expected_scores - sample.expected_scores).mean(axis=0)
    assert change[-1] == pytest.approx(-0.10, abs=0.01)
    assert np.array_equal(after.expected_scores[:, :-1], sample.expected_scores[:, :-1])
    assert after.table.queries == sample.table.queries
    assert worse.with_skill_shift(name, 0.10).skills.ability == pytest.approx(world.skills.ability, abs=1e-3)


def test_out_of_range_is_refused(world: World) -> None:
    for bad in (
        lambda: make_world(0, n_models=1),
        lambda: make_world(0, n_models=13),
        lambda: make_world(-1),
        lambda: world.sample(0, seed=1),
        lambda: world.sample(5, seed=-1),
        lambda: world.sample(5, seed=1, missing=1.0),
        lambda: world.with_prices({"nobody": 2.0}),
        lambda: world.with_prices({world.model_names[0]: 0.0}),
        lambda: world.with_skill_shift(world.model_names[0], 0.9),
        lambda: world.with_skill_shift("nobody", 0.1),
    ):
        with pytest.raises(ConfigError):
            bad()


def test_it_needs_numpy_only() -> None:
    code = (
        "import sys, proteus_router.data.synthetic\n"
        "heavy = {'sklearn', 'scipy', 'torch', 'pandas', 'pyarrow', 'rapidfuzz'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


GOLDEN_SAMPLE = "2e280a7c87b69fc4ba29c215e65af09c079cbafc29abf13906bee3930dca6bfe"
GOLDEN_WORLD = "cd472775893f2ff7f5d97b2efa6cafef8b613099e438273b56bb71a3b6171323"
