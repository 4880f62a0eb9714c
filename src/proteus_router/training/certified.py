"""The last step of every router, new or changed: certify heads and policy and put them into the artifact."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from proteus_router.calibration.certify import calibrate
from proteus_router.routing.artifact import Artifact, state_fingerprint
from proteus_router.routing.policies import Policy
from proteus_router.routing.target_map import Certificate, TargetMap
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions, Predictor

__all__ = ["Fit", "certified", "evidence_map", "with_target_map"]

_EVIDENCE_MAP = "evidence_map"


@dataclass(frozen=True)
class Fit:
    """Heads and policy as deployed, with their estimates on the rows fitted on.

    Attributes
    ----------
    accuracy, cost_usd
        (n_points,) estimated without the rows' own labels.
    out_of_fold_choices
        (n_points, n_rows) model that each point takes; None where no out-of-fold predictions exist.
    out_of_fold
        Those predictions, or None.
    frontier_size
        Points of the frontier, where a second chain comes after it; see `calibrate`.
    """

    predictor: Predictor
    predictor_state: tuple[Arrays, Meta]
    policy: Policy
    accuracy: FloatArray
    cost_usd: FloatArray
    out_of_fold_choices: IntArray | None
    out_of_fold: Predictions | None
    heads_report: Meta
    policy_report: Meta
    frontier_size: int | None = None


def certified(
    base: Artifact, fit: Fit, *, choices: IntArray, scores: FloatArray, costs_usd: FloatArray
) -> Artifact:
    """`base` with the heads and the policy of `fit`, and with certificates made for them.

    Parameters
    ----------
    base
        Its manifest says models, data fingerprint, confidence, scheme and seed.
    choices, scores, costs_usd
        (n_points, n), (n, n_models) twice: the evidence, NaN where an outcome is missing.
    """
    manifest = base.manifest
    policy_arrays, policy_meta = fit.policy.to_state()
    predictor_arrays, predictor_meta = fit.predictor_state
    policy_fingerprint = _joint_fingerprint(
        state_fingerprint(predictor_arrays, predictor_meta),
        state_fingerprint(policy_arrays, policy_meta),
        *(entry["name"] for entry in manifest["models"]),
    )
    target_map = calibrate(
        accuracy=fit.accuracy,
        cost_usd=fit.cost_usd,
        choices=choices,
        scores=scores,
        costs_usd=costs_usd,
        confidence=manifest["confidence"],
        scheme=manifest["scheme"],
        data_fingerprint=manifest["data"]["fingerprint"],
        policy_fingerprint=policy_fingerprint,
        seed=manifest["seed"],
        frontier_size=fit.frontier_size,
    )
    written = {
        "predictor": predictor_meta,
        "heads_report": fit.heads_report,
        "policy": {"fingerprint": policy_fingerprint, "state": policy_meta, "report": fit.policy_report},
    }
    parts = {"predictor": predictor_arrays, "policy": policy_arrays}
    made = replace(base, manifest={**manifest, **written}, parts={**base.parts, **parts})
    return with_target_map(made, target_map)


def with_target_map(
    base: Artifact, target_map: TargetMap, *, before_traffic: TargetMap | None = None
) -> Artifact:
    """`base` with its certificates replaced.

    Parameters
    ----------
    before_traffic
        The map that the evidence alone gives, where `target_map` rests on traffic too.
    """
    manifest, parts = dict(base.manifest), dict(base.parts)
    manifest["certificates"] = _certificates(target_map)
    for name, found in (("target_map", target_map), (_EVIDENCE_MAP, before_traffic)):
        manifest.pop(name, None)
        parts.pop(name, None)
        if found is not None:
            parts[name], manifest[name] = found.to_state()
    return replace(base, manifest=manifest, parts=parts)


def evidence_map(artifact: Artifact) -> TargetMap:
    """The target map that the evidence alone gives."""
    name = _EVIDENCE_MAP if _EVIDENCE_MAP in artifact.parts else "target_map"
    return TargetMap.from_state(artifact.parts[name], artifact.manifest[name])


def _certificates(target_map: TargetMap) -> list[Meta]:
    """The certificates at every whole point of the certified range, for a reader of the manifest."""
    limits = target_map.certified_range
    if limits["max_target"] is None:
        return []
    outcomes = [target_map.certify(percent / 100) for percent in range(1, 100)]
    low = limits["min_target"] or 0.0
    return [o.to_dict() for o in outcomes if isinstance(o, Certificate) and o.accuracy_target >= low - 0.01]


def _joint_fingerprint(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()
