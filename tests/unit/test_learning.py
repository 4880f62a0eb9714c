"""Replay and learning on traffic that the gateway served in a world whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import make_world
from proteus_router.errors import ConfigError, InsufficientDataError, SchemaError
from proteus_router.learning.estimators import Estimate
from proteus_router.learning.heads import Taught, evidence_texts, taught
from proteus_router.learning.learn import learn
from proteus_router.learning.promote import judge
from proteus_router.learning.recertify import recertified
from proteus_router.learning.replay import Replay, chances_of, replay
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.router import Router
from proteus_router.serving.store.graded import Graded
from proteus_router.simulation.traffic import Serving, serve_traffic
from proteus_router.simulation.world import SimulatedWorld, remembering
from proteus_router.training.pool.evidence import Evidence
from proteus_router.types import FloatArray
from tests.unit.small_training import SMALL, quiet, train

FLOOR = 0.70
WORLD = make_world(3, n_models=5)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return WORLD.sample(600, 5).table


@pytest.fixture(scope="module")
def router(table: OutcomeTable) -> Router:
    return Router.from_artifact(train(table))


@pytest.fixture(scope="module")
def universe(router: Router) -> SimulatedWorld:
    return SimulatedWorld(WORLD, router.models, queries=3_000, seed=8)


@pytest.fixture(scope="module")
def graded(router: Router, universe: SimulatedWorld) -> list[Graded]:
    serving = Serving(FLOOR, requests=3_000, exploration=0.2, audit_share=0.8, evenness=0.5)
    return serve_traffic(remembering(router, universe.bank), universe, serving)


@pytest.fixture(scope="module")
def traffic(router: Router, graded: list[Graded]) -> Traffic:
    return Traffic.of(graded, router.models)


def test_the_store_hands_out_what_was_graded(graded: list[Graded], traffic: Traffic) -> None:
    assert len(graded) == pytest.approx(2_400, abs=150)
    assert min(one.audit_probability for one in graded) == 0.8
    assert max(one.audit_probability for one in graded) == 1.0  # of seldom asked models
    rows = np.arange(traffic.n)
    assert traffic.logged.sum(axis=1) == pytest.approx(np.ones(traffic.n))
    assert traffic.logged[rows, traffic.model] == pytest.approx([one.propensity for one in graded])
    assert len(np.unique(traffic.model)) > 2


def test_replay_of_the_router_that_served_is_what_was_served(router: Router, traffic: Traffic) -> None:
    found = replay(router, traffic, FLOOR)
    # It explored: what it would have done without is near what it did.
    assert found.score.value == pytest.approx(found.served_score.value, abs=0.03)
    assert found.same_model > 0.4  # two operating points share most texts
    assert found.overlap == pytest.approx(1.0)


@pytest.mark.parametrize("target", [0.65, 0.78])
def test_replay_of_another_target_covers_the_truth(
    target: float, router: Router, traffic: Traffic, universe: SimulatedWorld
) -> None:
    found = replay(router, traffic, target, guarantee="expected", confidence=0.999)
    bank = universe.bank
    pi, _ = chances_of(router, router.predict(bank.queries), target, guarantee="expected")
    score = float((pi * bank.expected).sum(axis=1).mean())
    assert found.score.low <= score <= found.score.high
    assert found.score_snips.low <= score <= found.score_snips.high
    tokens = np.stack((bank.input_tokens, bank.output_tokens), axis=2)
    cost = float((pi * (tokens * universe.usd_per_token).sum(axis=2)).sum(axis=1).mean())
    assert found.cost_usd.low <= cost <= found.cost_usd.high


def test_a_router_held_against_itself_saves_nothing(router: Router, traffic: Traffic) -> None:
    found = replay(router, traffic, FLOOR, against=router)
    assert (found.cost_saved_usd.low, found.cost_saved_usd.high) == (0.0, 0.0)
    assert not judge(found).promoted  # though it is cheaper than what was served, which explored
    cheaper = replay(router, traffic, 0.6, guarantee="expected", against=router)
    assert cheaper.score == replay(router, traffic, 0.6, guarantee="expected").score


def test_what_the_traffic_could_not_show_is_said(router: Router, traffic: Traffic) -> None:
    without = replace(traffic, logged=np.eye(5)[traffic.model])
    assert replay(router, without, 0.75, guarantee="expected").overlap < 0.95


@pytest.fixture(scope="module")
def few(table: OutcomeTable) -> OutcomeTable:
    return table.take(np.arange(200))


@pytest.fixture(scope="module")
def small(few: OutcomeTable) -> Artifact:
    """A router that was trained on two hundred outcomes: it has much to learn."""
    return train(few)


@pytest.fixture(scope="module")
def lesson(small: Artifact, few: OutcomeTable, traffic: Traffic) -> Taught:
    texts = evidence_texts(Evidence.of(small), few.queries[::-1])
    seen = Router.from_artifact(small).predict(traffic.texts)
    return taught(small, texts, traffic, seen, progress=quiet)


def mean_square(predicted: FloatArray, expected: FloatArray) -> float:
    return float(((predicted - expected) ** 2).mean())


def test_heads_that_learned_know_more_than_those_that_did_not(small: Artifact, lesson: Taught) -> None:
    fresh = WORLD.sample(1_500, 77)
    alone, learned = (Router.from_artifact(found) for found in (small, lesson.artifact))
    expected = fresh.expected_scores[:, [WORLD.model_names.index(name) for name in alone.models]]
    before, after = (
        mean_square(one.predict(fresh.table.queries).scores, expected) for one in (alone, learned)
    )
    assert after < 0.98 * before
    assert learned.target_map.n.max() <= 200  # certificates rest on the outcomes alone, so far
    assert learned.trained_texts is not None
    assert learned.trained_texts.size > 200  # but an evaluation knows what was seen


def test_predictions_of_the_traffic_that_taught_are_no_better_than_of_fresh_texts(
    small: Artifact, lesson: Taught, traffic: Traffic, universe: SimulatedWorld
) -> None:
    row_of = {text: row for row, text in enumerate(universe.bank.queries)}
    expected = universe.bank.expected[[row_of[text] for text in traffic.texts]]
    fresh = SimulatedWorld(WORLD, Router.from_artifact(small).models, queries=3_000, seed=9).bank
    learned = Router.from_artifact(lesson.artifact)
    on_traffic = mean_square(lesson.predictions.scores, expected)
    on_fresh = mean_square(learned.predict(fresh.queries).scores, fresh.expected)
    assert on_traffic == pytest.approx(on_fresh, rel=0.08)
    assert mean_square(learned.predict(traffic.texts).scores, expected) < 0.97 * on_traffic  # in sample it is


def test_traffic_of_noise_teaches_nothing(small: Artifact, few: OutcomeTable, traffic: Traffic) -> None:
    rng = np.random.default_rng(0)
    noise = replace(traffic, score=(rng.random(traffic.n) < 0.5).astype(float))
    router = Router.from_artifact(small)
    found = taught(
        small,
        evidence_texts(Evidence.of(small), few.queries),
        noise,
        router.predict(noise.texts),
        progress=quiet,
    )
    fresh = WORLD.sample(1_500, 77)
    expected = fresh.expected_scores[:, [WORLD.model_names.index(name) for name in router.models]]

    def contrast(one: Router) -> float:
        predicted = one.predict(fresh.table.queries).scores
        return mean_square(
            predicted - predicted.mean(axis=1, keepdims=True),
            expected - expected.mean(axis=1, keepdims=True),
        )

    assert contrast(Router.from_artifact(found.artifact)) < 1.1 * contrast(router)


def test_learning_needs_the_texts_that_the_router_was_trained_on(
    small: Artifact, few: OutcomeTable, traffic: Traffic
) -> None:
    with pytest.raises(SchemaError, match="1 of the 200 queries"):
        learn(small, few.queries[1:], traffic, FLOOR, progress=quiet)


def test_traffic_certifies_what_the_outcomes_left_open(small: Artifact, traffic: Traffic) -> None:
    router = Router.from_artifact(small)
    found = recertified(small, traffic, router.predict(traffic.texts))
    before, after = router.target_map, Router.from_artifact(found).target_map
    resting = after.n == traffic.n
    assert resting.any()
    assert not resting.all()  # points far from what was served are not shown
    # Half of the error goes to each kind of evidence: where the traffic says nothing the bound is a little lower.
    assert np.array_equal(after.lower_bounds[:, ~resting], before.lower_bounds[1:, ~resting])
    assert (after.floors[0] >= before.floors[1]).all()
    assert (after.floors[0] > before.floors[0] + 0.01).any()
    assert after.data_fingerprint != before.data_fingerprint
    assert f"Where n is {traffic.n}, the bound rests on as many graded requests" in after.assumption
    cheaper = Router.from_artifact(found).plan(FLOOR, on_infeasible="best_effort")
    assert (
        cheaper.mix.expected_cost_usd < router.plan(FLOOR, on_infeasible="best_effort").mix.expected_cost_usd
    )


def test_certifying_twice_begins_from_the_outcomes_again(small: Artifact, traffic: Traffic) -> None:
    seen = Router.from_artifact(small).predict(traffic.texts)
    once = recertified(small, traffic, seen)
    twice = recertified(once, traffic, seen)
    first, second = (Router.from_artifact(found).target_map for found in (once, twice))
    assert np.array_equal(first.lower_bounds, second.lower_bounds)


def test_what_the_traffic_could_not_have_shown_counts_as_wrong(small: Artifact, traffic: Traffic) -> None:
    """Propensities of 1 for what was seen: the rest of an operating point's choices has no evidence at all."""
    seen = Router.from_artifact(small).predict(traffic.texts)
    blind = replace(traffic, logged=np.eye(5)[traffic.model])
    some, few = (
        Router.from_artifact(recertified(small, found, seen)).target_map for found in (traffic, blind)
    )
    best, left = (found.lower_bounds[0][found.n == traffic.n] for found in (some, few))
    assert best.size > left.size
    assert best.max() > left.max(initial=0.0) + 0.01


def test_learning_reports_and_judges_on_the_later_part(
    small: Artifact, few: OutcomeTable, traffic: Traffic
) -> None:
    found = learn(small, few.queries, traffic, FLOOR, progress=quiet)
    assert found.n_learned == round(0.7 * traffic.n)
    assert found.record.n == traffic.n - found.n_learned
    assert found.verdict == judge(found.record)
    with pytest.raises(InsufficientDataError, match="at least 500"):
        learn(small, few.queries, traffic.take(np.arange(100)), FLOOR, progress=quiet)


def test_a_router_that_keeps_no_evidence_can_not_learn(few: OutcomeTable, traffic: Traffic) -> None:
    split = train(few, SMALL.model_copy(update={"scheme": "split"}))
    with pytest.raises(ConfigError, match="crossfit"):
        learn(split, few.queries, traffic, FLOOR, progress=quiet)


def record(**changes: object) -> Replay:
    def span(low: float, high: float) -> Estimate:
        return Estimate((low + high) / 2, 0.01, low, high, 1_000)

    values: dict[str, object] = {
        "n": 2_000,
        "accuracy_target": 0.80,
        "certified": True,
        "score": span(0.80, 0.83),
        "score_snips": span(0.80, 0.83),
        "cost_usd": span(0.001, 0.002),
        "served_score": span(0.80, 0.83),
        "served_cost_usd": span(0.002, 0.003),
        "score_gain": span(-0.01, 0.01),
        "cost_saved_usd": span(0.0005, 0.001),
        "overlap": 1.0,
        "effective_n": 1_500.0,
        "same_model": 0.8,
    }
    return Replay(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"certified": False}, "can't certify"),
        ({"score": Estimate(0.82, 0.02, 0.78, 0.86, 900)}, "more than 0.01 below"),
        ({"cost_saved_usd": Estimate(0.001, 0.001, -0.001, 0.003, 900)}, "not shown to be cheaper"),
        ({"overlap": 0.9}, "Explore more"),
        ({"effective_n": 100.0}, "Explore more"),
    ],
)
def test_a_candidate_that_is_not_shown_to_be_good_is_not_promoted(
    changes: dict[str, object], reason: str
) -> None:
    assert judge(record()).promoted
    verdict = judge(record(**changes))
    assert not verdict.promoted
    assert reason in verdict.reason


def test_no_traffic_is_an_error_that_says_what_to_switch_on(router: Router, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="none of 0 graded decisions"):
        Traffic.of([], router.models)
    ran = CliRunner().invoke(
        cli, ["replay", "--router", str(tmp_path / "none"), "--store", f"sqlite:///{tmp_path}/g.db"]
    )
    assert ran.exit_code != 0
