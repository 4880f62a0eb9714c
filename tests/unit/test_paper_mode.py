"""`--mode paper`: numpy equals torch, resume equals uninterrupted, divergence, ablation settings."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from proteus_router.config import PaperConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.errors import DivergenceError, EncoderError, TrainingError
from proteus_router.routing.frontier import Estimates
from proteus_router.routing.policy_net import NetworkPolicy, PaperPredictor, mean_preference
from proteus_router.training.paper import PaperFit, fit_paper
from proteus_router.training.paper.fit import ordered_points
from proteus_router.training.paper.rows import make_rows, target_range
from proteus_router.training.stages import MemoryStages, StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
QUICK = PaperConfig(steps=60, batch_size=32, hidden=16, n_targets=5, checkpoint_every=20)


class _Numbers:
    """An encoder whose rows are numbers hidden in the text."""

    name = "numbers"
    fingerprint = "numbers-1"
    dim = 6

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(int(text.split()[-1])).normal(size=6) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), 6)


def _table(n: int = 150, missing: float = 0.1) -> OutcomeTable:
    rng = np.random.default_rng(0)
    texts = tuple(f"what is the value of sample {i}" for i in range(n))
    signal = _Numbers().encode(texts)[:, :3]
    scores = (rng.random((n, 3)) < 1 / (1 + np.exp(-signal - [-0.5, 0.3, 1.0]))).astype(float)
    costs = np.array([0.001, 0.004, 0.02]) * rng.lognormal(0, 0.2, (n, 3))
    hidden = rng.random((n, 3)) < missing
    return OutcomeTable(
        tuple(f"q{i}" for i in range(n)),
        texts,
        ("small", "middle", "large"),
        np.where(hidden, np.nan, scores),
        np.where(hidden, np.nan, costs),
    )


def _fit(
    config: PaperConfig = QUICK,
    *,
    stages: StageStore | None = None,
    log: Path | None = None,
    lexical: bool = False,
) -> PaperFit:
    table = _table()
    with TrainLog(log) as train_log:
        return fit_paper(
            table,
            np.arange(table.n_queries),
            encoder=None if lexical else _Numbers(),
            config=config,
            seed=5,
            stages=stages or MemoryStages(),
            log=train_log,
            progress=lambda stage, done, total: None,
        )


@needs_torch
def test_numpy_equals_torch() -> None:
    import torch

    from proteus_router.training.paper.network import PaperNetwork

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = PaperNetwork(6, 3, QUICK)
    with torch.no_grad():
        network.boosts.copy_(torch.tensor([0.1, -0.2, 0.05]))
    features = rng.normal(2.0, 3.0, (200, 6))
    mean, scale = features.mean(axis=0), features.std(axis=0)
    weights = network.exported(mean, scale)
    costs = np.array([0.1, 0.4, 2.0])
    predictions = PaperPredictor(_Numbers(), weights, costs).predict_features(features)
    inputs = torch.from_numpy(((features - mean) / scale).astype(np.float32))
    with torch.no_grad():
        z = network.embed(inputs)
        p = torch.sigmoid(network.scores(z))
        for tau, dual in [(0.5, 1.0), (0.9, 0.0), (0.7, 3.0)]:
            beta = network.beta_parameters(z, tau, dual)
            mu = beta[:, 0] / beta.sum(dim=1)
            ours = mean_preference(weights, predictions.embedding.astype(np.float64), tau, dual)  # type: ignore[union-attr]
            np.testing.assert_allclose(ours, mu.numpy(), atol=1e-5)
            policy = NetworkPolicy(
                weights,
                np.array([tau]),
                np.array([dual]),
                np.array([0.1, -0.2, 0.05]),
                float(network.gamma),
                2.0,
            )
            utilities = network.utilities(p, mu, torch.from_numpy((costs / 2.0).astype(np.float32)))
            assert (policy.choose(predictions, 0) == utilities.argmax(dim=1).numpy()).all()
    np.testing.assert_allclose(predictions.scores, p.numpy(), atol=1e-5)
    assert predictions.embedding is not None
    np.testing.assert_allclose(predictions.embedding, z.numpy(), atol=1e-4)


@needs_torch
@pytest.mark.parametrize("lexical", [False, True])
def test_a_fit_is_saved_loaded_and_ordered(lexical: bool) -> None:
    fit = _fit(lexical=lexical)
    assert fit.all_points.n_points == 5
    assert fit.policy.n_points == fit.targets.size == fit.accuracy.size == fit.cost_usd.size
    assert (np.diff(fit.accuracy) < 0).all()
    assert (np.diff(fit.cost_usd) < 0).all()
    assert json.dumps(fit.report)
    assert json.dumps(fit.heads_report)
    assert len(fit.report["response"]) == 5
    arrays, meta = fit.predictor.to_state()
    assert (meta["encoder"] is None) == lexical
    loaded = PaperPredictor.from_state(arrays, meta, encoder=None if lexical else _Numbers())
    policy = NetworkPolicy.from_state(*fit.all_points.to_state())
    texts = ["value of sample 3", "something else 70000"]
    first, second = fit.predictor.predict(texts), loaded.predict(texts)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(fit.all_points.choose_all(first), policy.choose_all(second))
    with pytest.raises(EncoderError, match="trained with"):
        PaperPredictor.from_state(arrays, meta, encoder=_Numbers() if lexical else None)


class _DyingStages(MemoryStages):
    def __init__(self, lives: int) -> None:
        super().__init__()
        self._lives = lives

    def save(self, name: str, arrays: Arrays) -> None:
        super().save(name, {key: value.copy() for key, value in arrays.items()})
        self._lives -= 1
        if self._lives == 0:
            raise KeyboardInterrupt


@needs_torch
@pytest.mark.parametrize("lives", [1, 2])
def test_a_killed_run_goes_on_to_the_same_result(lives: int) -> None:
    whole, stages = _fit(), _DyingStages(lives)
    with pytest.raises(KeyboardInterrupt):
        _fit(stages=stages)
    resumed = _fit(stages=stages)
    for state in ("predictor", "all_points"):
        before, after = getattr(whole, state).to_state()[0], getattr(resumed, state).to_state()[0]
        assert all(np.array_equal(before[key], after[key]) for key in before)
    assert resumed.report == whole.report


@needs_torch
def test_the_log_names_every_diagnostic(tmp_path: Path) -> None:
    _fit(log=tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    wanted = {"step", "approx_kl", "clip_fraction", "entropy", "dual", "accuracy", "cost", "targets", "gamma"}
    assert all(wanted <= set(line) for line in lines)
    assert lines[-1]["step"] == 59


@needs_torch
@pytest.mark.parametrize(
    "ablation",
    [
        {"use_critic": False},
        {"use_dual": False},
        {"learn_gamma": False, "gamma_init": 3.0},
        {"learn_boosts": False},
        {"tau_conditioning": False},
        {"dual": "per_target"},
        {"reward": "observed"},
        {"target_range": (0.6, 0.8)},
        {"alpha": 0.0, "normalise_advantage": False},
    ],
)
def test_every_ablation_trains(ablation: dict[str, object]) -> None:
    fit = _fit(QUICK.model_copy(update=ablation))
    assert np.isfinite(fit.accuracy).all()
    if ablation.get("learn_gamma") is False:
        assert fit.report["gamma"] == pytest.approx(3.0)
    if ablation.get("learn_boosts") is False:
        assert (fit.all_points.boosts == 0).all()
    if ablation.get("use_dual") is False:
        assert fit.report["final_duals"] == [1.0]
    if ablation.get("dual") == "per_target":
        assert len(fit.report["final_duals"]) == 5
    else:
        assert (fit.all_points.duals == 1.0).all()
    if "target_range" in ablation:
        assert fit.all_points.targets[[0, -1]].tolist() == [0.6, 0.8]


@needs_torch
@pytest.mark.parametrize("change", [{"learning_rate": 1e30}, {"max_kl": 1e-9}])
def test_divergence_is_declared_with_a_remedy(change: dict[str, float]) -> None:
    with pytest.raises(DivergenceError) as caught:
        _fit(QUICK.model_copy(update=change))
    assert caught.value.metric == "approx_kl"
    assert "learning_rate" in caught.value.hint


@needs_torch
def test_parameters_that_are_not_finite_are_seen_before_they_are_drawn_from() -> None:
    stages = _DyingStages(1)
    with pytest.raises(KeyboardInterrupt):
        _fit(stages=stages)
    saved = stages.load("paper")
    assert saved is not None
    saved["net.beta.weight"] = np.full_like(saved["net.beta.weight"], np.nan)
    spoilt = MemoryStages()
    spoilt.save("paper", saved)
    with pytest.raises(DivergenceError) as caught:
        _fit(stages=spoilt)
    assert (caught.value.step, caught.value.metric) == (20, "parameters")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"proteus-router\[torch\]"):
        _fit()


def test_points_in_order_are_the_pareto_chain() -> None:
    estimates = Estimates(np.array([0.7, 0.8, 0.8, 0.6, np.nan]), np.array([2.0, 3.0, 2.5, 2.2, 0.1]))
    assert ordered_points(estimates).tolist() == [2, 0]


def test_rows_keep_missing_apart_from_zero() -> None:
    scores = np.array([[1.0, np.nan], [0.0, 1.0]])
    rows = make_rows(np.zeros((2, 3)), scores, np.array([1.0, 4.0]), 4.0, QUICK)
    assert rows.observed.tolist() == [[True, False], [True, True]]
    assert rows.costs.tolist() == [0.25, 1.0]
    low, high = target_range(scores)
    assert low == pytest.approx(0.65)
    assert high == 1.0
