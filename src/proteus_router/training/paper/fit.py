"""Train the paper's router and hand it over in numpy."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np

from proteus_router.config import PaperConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.encoders.base import Encoder
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.errors import TrainingError
from proteus_router.routing.frontier import Estimates, estimate_points
from proteus_router.routing.policy_net import NetworkPolicy, PaperPredictor
from proteus_router.training.heads.report import build_report
from proteus_router.training.paper.rows import make_rows
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions, ProgressFn

__all__ = ["PaperFit", "fit_paper", "ordered_points"]


@dataclass(frozen=True)
class PaperFit:
    """The paper's router.

    Attributes
    ----------
    predictor
        Text -> z, scores, mean costs.
    policy
        One point an internal target, most accurate first. Targets at which another one is estimated to be at
        least as accurate and no dearer are left out: a certificate needs points in order.
    targets, accuracy, cost_usd
        (n_points,) internal target of each point, and its estimates on the training rows, in sample.
    all_points
        One point for every internal target from low to high: what the paper deploys, for its response curve.
    heads_report, report
        JSON-able. Their figures are in-sample.
    """

    predictor: PaperPredictor
    policy: NetworkPolicy
    targets: FloatArray
    accuracy: FloatArray
    cost_usd: FloatArray
    all_points: NetworkPolicy
    heads_report: Meta
    report: Meta


def fit_paper(
    table: OutcomeTable,
    groups: IntArray,
    *,
    encoder: Encoder | None,
    config: PaperConfig,
    seed: int,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> PaperFit:
    """Train performance head and policy jointly by PPO, as published; see `config` for every choice.

    Parameters
    ----------
    groups
        (n,) not used: the published method does not cross-fit. Taken so that both modes are called alike.
    encoder
        Makes the features; None fits a `LexicalEncoder` on the training texts.

    Raises
    ------
    TrainingError
        torch is not installed.
    DivergenceError
        Training left the finite numbers.
    """
    if importlib.util.find_spec("torch") is None:
        raise TrainingError("--mode paper needs torch.", hint="pip install 'proteus-router[torch]'")
    from proteus_router.training.paper.ppo import dual_index, train_network

    if encoder is None:
        encoder = LexicalEncoder.fit(table.queries, seed=seed)
    features = encoder.encode(table.queries).astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    mean_costs = np.nanmean(table.costs_usd, axis=0)
    unit = float(mean_costs.max()) or 1.0
    rows = make_rows((features - mean) / scale, table.scores, mean_costs, unit, config)
    network, duals = train_network(rows, config=config, seed=seed, stages=stages, log=log, progress=progress)
    weights: Arrays = network.exported(mean, scale)
    predictor = PaperPredictor(encoder, weights, mean_costs)
    targets = np.linspace(*rows.targets, config.n_targets)
    per_target = np.array([duals[dual_index(float(tau), rows.targets, duals.size)] for tau in targets])
    policy = NetworkPolicy(
        weights=weights,
        targets=targets if config.tau_conditioning else np.zeros(config.n_targets),
        duals=per_target if config.dual == "per_target" else np.ones(config.n_targets),
        boosts=network.boosts.detach().numpy().astype(np.float64),
        gamma=float(network.gamma.detach()),
        cost_unit_usd=unit,
    )
    predictions = predictor.predict_features(features)
    estimates = estimate_points(policy.choose_all(predictions), table.scores, table.costs_usd)
    kept = ordered_points(estimates)
    heads = build_report(
        table.models, predictions.scores, predictions.costs_usd, table.scores, table.costs_usd, {}
    )
    return PaperFit(
        predictor=predictor,
        policy=policy.take(kept),
        targets=targets[kept],
        accuracy=estimates.accuracy[kept],
        cost_usd=estimates.cost_usd[kept],
        all_points=policy,
        heads_report={**heads.to_dict(), "in_sample": True},
        report=_report(policy, targets, estimates, predictions, duals, kept),
    )


def ordered_points(estimates: Estimates) -> IntArray:
    """Points that no other matches in accuracy without costing more, most accurate first."""
    order = np.lexsort((np.arange(estimates.accuracy.size), estimates.cost_usd, -estimates.accuracy))
    kept: list[int] = []
    for point in order:
        if np.isfinite(estimates.accuracy[point]) and (
            not kept or estimates.cost_usd[point] < estimates.cost_usd[kept[-1]]
        ):
            kept.append(int(point))
    return np.array(kept, dtype=np.int64)


def _report(
    policy: NetworkPolicy,
    targets: FloatArray,
    estimates: Estimates,
    predictions: Predictions,
    duals: FloatArray,
    kept: IntArray,
) -> Meta:
    preference = [float(policy.preference(predictions, point).mean()) for point in range(policy.n_points)]
    spread = float(np.ptp(estimates.accuracy))
    return {
        "shipped": "paper",
        "reason": "Mode paper: the published policy ships as it is, with no comparison.",
        "candidates": [],
        "gamma": policy.gamma,
        "final_duals": duals.tolist(),
        "points_kept": int(kept.size),
        "accuracy_spread_over_targets": spread,
        "response": [
            {
                "internal_target": float(target),
                "accuracy": float(accuracy),
                "cost_usd": float(cost),
                "quality_preference": mu,
            }
            for target, accuracy, cost, mu in zip(
                targets, estimates.accuracy, estimates.cost_usd, preference, strict=True
            )
        ],
    }
