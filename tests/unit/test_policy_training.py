"""Exact-gradient training: gradients against differences, duals, checkpoints, divergence, the log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from proteus_router.config import PolicyConfig
from proteus_router.errors import DivergenceError
from proteus_router.training.policy import PolicyFit, Problem, fit_default_policy
from proteus_router.training.policy.beta import MU_GRID, beta_pmf, entropy, kl_divergence, logit_gradient
from proteus_router.training.policy.smooth import smoothed_reward
from proteus_router.training.stages import MemoryStages, StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays, FloatArray

QUICK = PolicyConfig(steps=40, n_folds=2, n_settings=40, bootstrap=50, checkpoint_every=10, refresh_every=10)


def make_problem(n: int = 300, k: int = 4, seed: int = 0, missing: float = 0.0) -> Problem:
    """Models that get better and dearer; predictions that know a part of the truth."""
    rng = np.random.default_rng(seed)
    skill = np.linspace(0.0, 1.5, k) - 0.2
    truth = 1 / (1 + np.exp(-(skill + rng.normal(0, 1.2, (n, k)) + rng.normal(0, 1.0, (n, 1)))))
    scores = (rng.random((n, k)) < truth).astype(float)
    costs = np.geomspace(0.001, 0.03, k) * rng.lognormal(0, 0.3, (n, 1))
    hidden = rng.random((n, k)) < missing
    return Problem(
        np.clip(truth + rng.normal(0, 0.1, (n, k)), 0, 1),
        np.geomspace(0.001, 0.03, k) * np.ones((n, 1)),
        np.where(hidden, np.nan, scores),
        np.where(hidden, np.nan, costs),
        np.arange(n),
    )


def fit(
    problem: Problem, config: PolicyConfig = QUICK, stages: StageStore | None = None, log: Path | None = None
) -> PolicyFit:
    with TrainLog(log) as train_log:
        return fit_default_policy(
            problem,
            config=config,
            seed=3,
            stages=stages or MemoryStages(),
            log=train_log,
            progress=lambda stage, done, total: None,
        )


def test_the_pmf_is_a_beta_and_its_gradient_is_the_difference_quotient() -> None:
    logit, rewards = np.array([-0.7, 0.2]), np.random.default_rng(0).normal(size=(2, 101))
    pmf = beta_pmf(logit, 30.0)
    np.testing.assert_allclose(pmf.sum(axis=1), 1.0)
    np.testing.assert_allclose(pmf @ MU_GRID, 1 / (1 + np.exp(-logit)), atol=0.01)
    step = 1e-6
    up, down = beta_pmf(logit + step, 30.0), beta_pmf(logit - step, 30.0)
    numeric = ((up - down) * rewards).sum(axis=1) / (2 * step)
    np.testing.assert_allclose(logit_gradient(pmf, rewards, logit, 30.0), numeric, rtol=1e-5)


def test_entropy_and_kl_have_their_known_values() -> None:
    flat = np.full((1, 101), 1 / 101)
    assert entropy(flat) == pytest.approx(np.log(101))
    assert kl_divergence(flat, flat) == 0.0
    assert kl_divergence(beta_pmf(np.zeros(1), 30.0), beta_pmf(np.ones(1), 30.0)) > 1.0


def test_smoothed_gradients_are_difference_quotients() -> None:
    rng = np.random.default_rng(1)
    scores, costs, rewards = rng.random((20, 3)), rng.random((20, 3)), rng.normal(size=(2, 20, 3))
    mu, boosts = np.array([0.3, 0.8]), rng.normal(0, 0.1, 3)

    def value(boosts: FloatArray, gamma: float) -> float:
        return smoothed_reward(scores, costs, rewards, mu, boosts, gamma, 2.0, 0.1)[0]

    _, by_boosts, by_gamma = smoothed_reward(scores, costs, rewards, mu, boosts, 3.0, 2.0, 0.1)
    step = 1e-6
    for model in range(3):
        moved = np.eye(3)[model] * step
        numeric = (value(boosts + moved, 3.0) - value(boosts - moved, 3.0)) / (2 * step)
        assert by_boosts[model] == pytest.approx(numeric, rel=1e-4, abs=1e-9)
    numeric = (value(boosts, 3.0 + step) - value(boosts, 3.0 - step)) / (2 * step)
    assert by_gamma == pytest.approx(numeric, rel=1e-4)


def test_a_fit_is_a_frontier_and_repeats() -> None:
    problem = make_problem()
    first, second = fit(problem), fit(problem)
    assert (np.diff(first.accuracy) < 0).all()
    assert (np.diff(first.cost_usd) < 0).all()
    assert first.out_of_fold_choices.shape == (first.policy.n_points, 300)
    assert first.report == second.report
    assert json.dumps(first.report)
    assert np.array_equal(
        first.policy.choose_all(problem.predictions), second.policy.choose_all(problem.predictions)
    )


def test_the_rows_that_chose_a_vertex_do_not_vouch_for_it() -> None:
    """Eight models alike, nothing to see in the query: the best-looking one is only lucky.

    Its estimate on the rows that chose it is too high; the evidence must not be.
    """
    estimates, evidence = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, k = 300, 8
        scores = (rng.random((n, k)) < 0.8).astype(float)
        problem = Problem(
            predicted_scores=(scores.sum(axis=0) - scores) / (n - 1),  # leave-one-out means
            predicted_costs_usd=np.tile(np.geomspace(1e-3, 1e-2, k), (n, 1)),
            scores=scores,
            costs_usd=np.tile(np.geomspace(1e-3, 1e-2, k), (n, 1)),
            groups=np.arange(n),
        )
        found = fit(problem, QUICK.model_copy(update={"steps": 0}))
        estimates.append(found.accuracy[0])
        evidence.append(scores[np.arange(n), found.out_of_fold_choices[0]].mean())
    assert np.mean(estimates) > 0.82
    assert np.mean(evidence) < 0.81


def test_the_log_names_every_diagnostic(tmp_path: Path) -> None:
    fit(make_problem(), log=tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["stage"] == "policy_fold0"]
    assert [line["step"] for line in steps] == list(range(40))
    wanted = {"approx_kl", "clip_fraction", "entropy", "dual", "accuracy", "cost_usd", "targets"}
    assert wanted <= set(steps[0])
    assert len(steps[0]["accuracy"]) == len(steps[0]["targets"]) == QUICK.n_targets
    assert lines[-1]["shipped"]


def test_each_dual_follows_its_own_target(tmp_path: Path) -> None:
    """After training, accuracy rises with the target; with one scalar dual it does so far less."""
    spans = {}
    for dual in ("per_target", "scalar"):
        config = QUICK.model_copy(update={"steps": 200, "dual": dual, "query_dependent": False})
        fit(make_problem(400), config, log=tmp_path / dual)
        lines = [json.loads(line) for line in (tmp_path / dual).read_text().splitlines()]
        last = [line for line in lines if line["stage"] == "policy_fold0"][-1]
        spans[dual] = np.ptp(last["accuracy"])
        if dual == "per_target":
            assert np.corrcoef(last["targets"], last["accuracy"])[0, 1] > 0.98
    assert spans["scalar"] < 0.1 * spans["per_target"]


class _DyingStages(MemoryStages):
    def __init__(self, lives: int) -> None:
        super().__init__()
        self._lives = lives

    def save(self, name: str, arrays: Arrays) -> None:
        super().save(name, {key: value.copy() for key, value in arrays.items()})
        self._lives -= 1
        if self._lives == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("lives", [1, 3, 6, 9, 14])
def test_a_killed_run_goes_on_to_the_same_result(lives: int) -> None:
    problem = make_problem()
    config = QUICK.model_copy(update={"margin": 10.0, "query_dependent_z": 0.0})
    whole = fit(problem, config)
    stages = _DyingStages(lives)
    with pytest.raises(KeyboardInterrupt):
        fit(problem, config, stages)
    resumed = fit(problem, config, stages)
    for key, value in whole.policy.to_state()[0].items():
        assert np.array_equal(resumed.policy.to_state()[0][key], value, equal_nan=True), key
    assert np.array_equal(resumed.accuracy, whole.accuracy)
    assert resumed.report == whole.report


def test_a_jump_is_declared_divergence_with_a_remedy() -> None:
    with pytest.raises(DivergenceError) as caught:
        fit(make_problem(), QUICK.model_copy(update={"learning_rate": 50.0}))
    assert caught.value.metric == "approx_kl"
    assert "learning_rate" in caught.value.hint


def test_a_number_that_is_not_finite_is_declared_divergence() -> None:
    with pytest.raises(DivergenceError) as caught:
        fit(make_problem(), QUICK.model_copy(update={"selection_rate": float("nan")}))
    assert caught.value.metric in ("boosts", "gamma_logit")


@pytest.mark.parametrize("missing", [0.3, 0.8])
def test_missing_outcomes_are_no_zeros(missing: float) -> None:
    complete, holes = make_problem(800), make_problem(800, missing=missing)
    full, partial = fit(complete), fit(holes)
    assert np.isfinite(partial.accuracy).all()
    assert partial.accuracy[0] == pytest.approx(full.accuracy[0], abs=0.06)


def test_no_steps_leave_the_plug_in() -> None:
    found = fit(make_problem(), QUICK.model_copy(update={"steps": 0}))
    assert found.report["shipped"] in ("plug-in", "static mix")
    assert len(found.report["candidates"]) == 2
