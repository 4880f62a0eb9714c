"""The provider's answers against the world they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.data.synthetic import World, make_world
from proteus_router.errors import ConfigError
from proteus_router.serving.provider import Truth

N = 3000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(0, n_models=4)


@pytest.fixture(scope="module")
def truth(world: World) -> Truth:
    return Truth(world, ((N, 2),))


@pytest.fixture(scope="module")
def graded() -> Truth:
    return Truth(make_world(0, n_models=4, graded=True), ((N, 2),))


@pytest.mark.parametrize("kind", ["truth", "graded"])
def test_models_are_right_as_often_as_the_world_says(kind: str, request: pytest.FixtureRequest) -> None:
    truth: Truth = request.getfixturevalue(kind)
    known = list(truth.known())
    for model in truth.models:
        outcomes = [truth.outcome(model, item.text) for item in known]
        scores = np.array([outcome.score for outcome in outcomes])
        expected = np.array([outcome.expected_score for outcome in outcomes])
        error = (scores - expected).std() / np.sqrt(len(known))
        assert abs(scores.mean() - expected.mean()) < 4 * error
        # and query by query, not only on average: those expected to be hard are answered worse
        easy = expected > np.median(expected)
        assert scores[easy].mean() > scores[~easy].mean() + 0.1


def test_expected_scores_and_tokens_are_those_of_the_sample(world: World, truth: Truth) -> None:
    sample = world.sample(N, 2)
    for row in (0, 17, N - 1):
        for column, model in enumerate(world.model_names):
            outcome = truth.outcome(model, sample.table.queries[row])
            assert outcome.expected_score == sample.expected_scores[row, column]
            assert outcome.input_tokens == sample.table.extras["input_tokens"][row, column]
            assert outcome.output_tokens == max(1, sample.table.extras["output_tokens"][row, column])


def test_an_answer_is_the_same_in_every_process_and_another_seed_gives_another(
    world: World, truth: Truth
) -> None:
    again, other = Truth(world, ((50, 2),)), Truth(world, ((50, 2),), seed=1)
    texts = [item.text for item in again.known()]
    assert [truth.outcome(m, t) for m in truth.models for t in texts] == [
        again.outcome(m, t) for m in truth.models for t in texts
    ]
    changed = [truth.outcome(m, t).score != other.outcome(m, t).score for m in truth.models for t in texts]
    assert 0.1 < np.mean(changed) < 0.6


def test_models_err_independently_given_what_the_world_expects(truth: Truth) -> None:
    rows = [[truth.outcome(model, item.text) for model in truth.models[:2]] for item in truth.known()]
    residuals = np.array([[outcome.score - outcome.expected_score for outcome in row] for row in rows])
    assert abs(np.corrcoef(residuals.T)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize("kind", ["truth", "graded"])
def test_the_grade_of_an_answer_is_its_score(kind: str, request: pytest.FixtureRequest) -> None:
    truth: Truth = request.getfixturevalue(kind)
    seen = set()
    for item in list(truth.known())[:400]:
        for model in truth.models:
            outcome = truth.outcome(model, item.text)
            text = f"Answer: {outcome.answer}\n\nBecause."
            assert truth.grade(item.text, text) == pytest.approx(outcome.score)
            seen.add(round(outcome.score, 1))
        assert truth.grade(item.text, f"Well.\nAnswer: {item.reference}") == 1.0
        assert truth.grade(item.text, item.reference) == 1.0
        assert truth.grade(item.text, f'{{"answer": "{item.reference}"}}') == 1.0
        assert truth.grade(item.text, "I do not know.") == 0.0
        assert truth.grade(item.text, "") == 0.0
    assert seen == ({0.0, 1.0} if kind == "truth" else {0.0, 0.2, 0.4, 0.6, 0.8, 1.0})


def test_a_question_with_options_is_answered_by_a_letter(truth: Truth) -> None:
    text = "Which metal is liquid?\nA) iron\nB) mercury\nC) tin"
    assert truth.reference(text) in "ABC"
    assert {truth.outcome(model, text).answer for model in truth.models} <= set("ABCD")


def test_a_question_nobody_knows_is_answered_with_the_models_mean_score(truth: Truth) -> None:
    for card in truth.world.models:
        outcomes = [truth.outcome(card.name, f"An unheard-of question, number {n}.") for n in range(1500)]
        mean = np.mean([outcome.score for outcome in outcomes])
        assert outcomes[0].expected_score == card.mean_score
        assert abs(mean - card.mean_score) < 4 * np.sqrt(0.25 / 1500)
        assert all(outcome.output_tokens >= 1 and outcome.input_tokens > 5 for outcome in outcomes)


def test_white_space_around_a_known_question_changes_nothing(truth: Truth) -> None:
    item = next(truth.known())
    assert truth.knows(f"\n {item.text} ")
    assert truth.outcome(truth.models[0], f"\n {item.text} ") == truth.outcome(truth.models[0], item.text)


def test_several_samples_are_known_side_by_side(world: World) -> None:
    both = Truth(world, ((40, 1), (30, 2)))
    ids = [item.query_id for item in both.known()]
    assert both.n_known == 70
    assert ids == [f"sim0.1.{row:06d}" for row in range(40)] + [f"sim0.2.{row:06d}" for row in range(30)]
    first = world.sample(40, 1)
    assert both.expected_score(world.model_names[1], first.table.queries[7]) == first.expected_scores[7, 1]


def test_a_model_of_another_world_is_refused(truth: Truth) -> None:
    with pytest.raises(ConfigError, match="no model named 'gpt'"):
        truth.outcome("gpt", "hello")
