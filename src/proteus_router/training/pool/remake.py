"""A router whose pool has changed: policy and certificates made again from the evidence, heads as they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np

from proteus_router.config import TrainConfig
from proteus_router.errors import ConfigError
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.frontier import (
    estimate_points,
    frontier_vertices,
    observation_rates,
    plugin_points,
)
from proteus_router.routing.points import PointPolicy
from proteus_router.routing.predictor import HeadsPredictor
from proteus_router.routing.predictors import load_predictor
from proteus_router.training.certified import Fit, certified
from proteus_router.training.policy import PolicyFit, Problem, fit_default_policy
from proteus_router.training.pool.evidence import Evidence
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray, Meta, Predictions, ProgressFn

__all__ = ["heads_of", "remade"]

_OFTEN = 0.5
"""A model observed on a smaller part of the rows than this, of the part of the most observed one, is little known."""


def heads_of(artifact: Artifact) -> HeadsPredictor:
    """The heads of a default router; `ConfigError` for another mode's."""
    predictor = load_predictor(artifact.parts["predictor"], artifact.manifest["predictor"])
    if not isinstance(predictor, HeadsPredictor):
        raise ConfigError(
            "A router of --mode paper can't have its pool changed in place.",
            hint="Train again with the new pool.",
        )
    return predictor


def remade(
    artifact: Artifact,
    predictor: HeadsPredictor,
    evidence: Evidence,
    *,
    entries: list[Meta],
    change: Meta,
    frontier_scores: FloatArray | None = None,
    progress: ProgressFn,
) -> Artifact:
    """`artifact` with another pool.

    Parameters
    ----------
    predictor, evidence, entries
        Heads, evidence and manifest entries of the new pool's models, in one order.
    change
        What was done, for the manifest; the data fingerprint takes it in.
    frontier_scores
        (n, k) scores that choose the operating points, complete where `evidence.scores` is not. Certificates count
        observed outcomes only.
    """
    config = TrainConfig.model_validate(artifact.manifest["config"])
    problem = Problem(
        predicted_scores=evidence.predicted_scores,
        predicted_costs_usd=evidence.predicted_costs_usd,
        scores=evidence.scores if frontier_scores is None else frontier_scores,
        costs_usd=_filled(evidence.costs_usd, evidence.predicted_costs_usd, frontier_scores),
        groups=evidence.groups,
    )
    policy = fit_default_policy(
        problem,
        config=config.policy,
        seed=config.seed,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=progress,
    )
    points = _with_known_models(policy, evidence, config.policy.n_settings, config.policy.min_gap)
    fit = Fit(
        predictor=predictor,
        predictor_state=predictor.to_state(),
        policy=points.policy,
        accuracy=points.accuracy,
        cost_usd=points.cost_usd,
        out_of_fold_choices=points.out_of_fold_choices,
        out_of_fold=Predictions(evidence.predicted_scores, evidence.predicted_costs_usd),
        heads_report=_report(artifact.manifest["heads_report"], entries),
        policy_report=points.report,
        frontier_size=None if points is policy else policy.accuracy.size,
    )
    changes = [*artifact.manifest.get("pool_changes", []), change]
    data = {
        **artifact.manifest["data"],
        "fingerprint": _fingerprint(artifact.manifest["data"]["fingerprint"], change),
        "n_evidence": evidence.n_rows,
        "missing_share": float(np.isnan(evidence.scores).mean()),
    }
    base = replace(
        artifact,
        manifest={**artifact.manifest, "models": entries, "data": data, "pool_changes": changes},
        parts={**artifact.parts, "evidence": evidence.to_arrays()},
    )
    return certified(
        base, fit, choices=points.out_of_fold_choices, scores=evidence.scores, costs_usd=evidence.costs_usd
    )


def _with_known_models(policy: PolicyFit, evidence: Evidence, n_settings: int, min_gap: float) -> PolicyFit:
    """The policy's points, and after them a chain that leaves the seldom observed models alone.

    Few outcomes prove little of a point that leans on the model that they are of. On the second chain nearly everything
    can be proved that could be before it came: so a model that joins makes certified targets hardly dearer.
    """
    rates = observation_rates(evidence.scores)
    known = np.flatnonzero(rates >= _OFTEN * rates.max())
    if known.size == rates.size or not isinstance(policy.policy, PointPolicy):
        return policy
    predictions = Predictions(evidence.predicted_scores, evidence.predicted_costs_usd)
    chain = plugin_points(
        Predictions(predictions.scores[:, known], predictions.costs_usd[:, known]), n_settings
    ).among(known, rates.size)
    choices = chain.choose_all(predictions)
    estimates = estimate_points(choices, evidence.scores, evidence.costs_usd)
    vertices = frontier_vertices(estimates, min_gap=min_gap)
    return replace(
        policy,
        policy=policy.policy.joined(chain.take(vertices)),
        accuracy=np.concatenate((policy.accuracy, estimates.accuracy[vertices])),
        cost_usd=np.concatenate((policy.cost_usd, estimates.cost_usd[vertices])),
        out_of_fold_choices=np.concatenate((policy.out_of_fold_choices, choices[vertices])),
    )


def _filled(costs_usd: FloatArray, predicted: FloatArray, frontier_scores: FloatArray | None) -> FloatArray:
    """Costs as complete as the scores that they stand beside."""
    if frontier_scores is None:
        return costs_usd
    unseen = np.isnan(costs_usd) & ~np.isnan(frontier_scores)
    return np.where(unseen, predicted, costs_usd)


def _report(report: Meta, entries: list[Meta]) -> Meta:
    """The heads' report for the models that are left; a model that was added has none."""
    known: dict[str, Any] = {row["model"]: row for row in report["models"]}
    return {**report, "models": [known[entry["name"]] for entry in entries if entry["name"] in known]}


def _fingerprint(before: str, change: Meta) -> str:
    return hashlib.sha256((before + json.dumps(change, sort_keys=True)).encode("utf-8")).hexdigest()
