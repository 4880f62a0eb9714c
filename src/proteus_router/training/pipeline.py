"""From an outcome table to a certified router: the whole of `proteus train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from proteus_router._version import __version__
from proteus_router.config import TrainConfig
from proteus_router.control import InputReference
from proteus_router.data.grouping import near_text_groups, text_fingerprints
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.splits import split_rows
from proteus_router.encoders.base import Encoder
from proteus_router.encoders.hashed import hashed_features
from proteus_router.errors import ConfigError, InsufficientDataError
from proteus_router.routing.artifact import Artifact
from proteus_router.training.certified import Fit, certified
from proteus_router.training.heads import fit_heads
from proteus_router.training.policy import Problem, fit_default_policy
from proteus_router.training.pool.evidence import Evidence
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, ProgressFn

__all__ = ["canonical_models", "model_entries", "train_router"]


def canonical_models(table: OutcomeTable) -> OutcomeTable:
    """The table with its models ordered by mean cost, then mean score, then name.

    Training then sees the same arrays whatever order, and mostly whatever names, the models came with.
    """
    cost, score = np.nanmean(table.costs_usd, axis=0), np.nanmean(table.scores, axis=0)
    order = sorted(range(table.n_models), key=lambda i: (cost[i], score[i], table.models[i]))
    return table.with_models([table.models[i] for i in order])


def train_router(
    table: OutcomeTable,
    *,
    config: TrainConfig,
    encoder: Encoder | None,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> Artifact:
    """Train heads and policy, certify, and return what a router folder holds.

    Parameters
    ----------
    table
        Outcomes; ``scheme="crossfit"`` trains and certifies on all its rows, ``"split"`` keeps
        ``calibration_share`` of its text groups aside for the certificate.
    encoder
        The dense view beside the lexical one, or None for lexical alone.
    stages, log
        Where finished stages and the training log go.

    Returns
    -------
    The same artifact for the same table, configuration and seed, resumed or not.
    """
    table = canonical_models(table)
    scheme = config.scheme or ("split" if config.mode == "paper" else "crossfit")
    if config.mode == "paper" and scheme == "crossfit":
        raise ConfigError("--mode paper has no out-of-fold predictions.", hint="Use scheme: split.")
    progress("grouping", 0, 1)
    groups = near_text_groups(table.queries)
    progress("grouping", 1, 1)
    fitting, evidence = np.arange(table.n_queries), np.arange(table.n_queries)
    if scheme == "split":
        split = split_rows(groups, test_share=config.calibration_share, seed=config.seed)
        fitting, evidence = split.train, split.test
    fit_rows = table.take(fitting)
    if config.mode == "paper":
        fit = _fit_paper(fit_rows, groups[fitting], encoder, config, stages, log, progress)
    else:
        fit = _fit_default(fit_rows, groups[fitting], encoder, config, stages, log, progress)

    progress("certification", 0, 1)
    evidence_rows = table.take(evidence)
    if scheme == "split":
        choices = fit.policy.choose_all(fit.predictor.predict(list(evidence_rows.queries)))
    else:
        assert fit.out_of_fold_choices is not None
        choices = fit.out_of_fold_choices
    input_arrays, input_meta = _input_reference(evidence_rows.queries, config.seed)
    manifest = {
        "proteus_version": __version__,
        "mode": config.mode,
        "simulated": table.simulated,
        "confidence": config.confidence,
        "scheme": scheme,
        "seed": config.seed,
        "max_query_chars": config.max_query_chars,
        "encoder": {
            "name": "lexical" if encoder is None else encoder.name,
            "fingerprint": None if encoder is None else encoder.fingerprint,
        },
        "models": model_entries(table),
        "data": {
            "name": table.name,
            "fingerprint": table.fingerprint(),
            "n_queries": table.n_queries,
            "n_fitting": len(fitting),
            "n_evidence": len(evidence),
            "n_text_groups": int(groups.max()) + 1,
            "missing_share": float(1.0 - table.observed.mean()),
            "binary_scores": table.binary,
        },
        "inputs": input_meta,
        "config": config.model_dump(mode="json"),
    }
    parts: dict[str, Arrays] = {
        "training": {"text_fingerprints": np.unique(text_fingerprints(table.queries))}
    }
    if input_meta is not None:
        parts["inputs"] = input_arrays
    if fit.out_of_fold is not None and scheme == "crossfit":
        parts["evidence"] = Evidence(
            fit.out_of_fold.scores,
            fit.out_of_fold.costs_usd,
            table.scores,
            table.costs_usd,
            groups,
            text_fingerprints(table.queries),
        ).to_arrays()
    artifact = certified(
        Artifact(manifest, parts),
        fit,
        choices=choices,
        scores=evidence_rows.scores,
        costs_usd=evidence_rows.costs_usd,
    )
    progress("certification", 1, 1)
    return artifact


def _fit_default(
    rows: OutcomeTable,
    groups: IntArray,
    encoder: Encoder | None,
    config: TrainConfig,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> Fit:
    heads = fit_heads(
        rows,
        groups,
        encoder=encoder,
        config=config.heads,
        seed=config.seed,
        stages=stages,
        progress=progress,
    )
    problem = Problem(
        predicted_scores=heads.oof.scores,
        predicted_costs_usd=heads.oof.costs_usd,
        scores=rows.scores,
        costs_usd=rows.costs_usd,
        groups=groups,
    )
    policy = fit_default_policy(
        problem, config=config.policy, seed=config.seed, stages=stages, log=log, progress=progress
    )
    return Fit(
        predictor=heads.predictor,
        predictor_state=heads.predictor.to_state(),
        policy=policy.policy,
        accuracy=policy.accuracy,
        cost_usd=policy.cost_usd,
        out_of_fold_choices=policy.out_of_fold_choices,
        out_of_fold=heads.oof,
        heads_report=heads.report.to_dict(),
        policy_report=policy.report,
    )


def _fit_paper(
    rows: OutcomeTable,
    groups: IntArray,
    encoder: Encoder | None,
    config: TrainConfig,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> Fit:
    from proteus_router.training.paper import fit_paper  # torch, only where it is asked for

    fit = fit_paper(
        rows,
        groups,
        encoder=encoder,
        config=config.paper,
        seed=config.seed,
        stages=stages,
        log=log,
        progress=progress,
    )
    return Fit(
        predictor=fit.predictor,
        predictor_state=fit.predictor.to_state(),
        policy=fit.policy,
        accuracy=fit.accuracy,
        cost_usd=fit.cost_usd,
        out_of_fold_choices=None,
        out_of_fold=None,
        heads_report=fit.heads_report,
        policy_report=fit.report,
    )


def model_entries(table: OutcomeTable) -> list[dict[str, Any]]:
    def mean(values: FloatArray) -> float:
        return float(np.nanmean(values))

    entries = []
    for column, name in enumerate(table.models):
        entry: dict[str, Any] = {
            "name": name,
            "n_outcomes": int(table.observed[:, column].sum()),
            "mean_score": mean(table.scores[:, column]),
            "mean_cost_usd": mean(table.costs_usd[:, column]),
        }
        # Where token counts came along, whoever bills by the token can tell whether prices have moved since.
        for kind in ("input_tokens", "output_tokens"):
            tokens = table.extras.get(kind)
            if tokens is not None and not np.isnan(tokens[:, column]).all():
                entry[f"mean_{kind}"] = mean(tokens[:, column])
        entries.append(entry)
    return entries


def _input_reference(queries: Sequence[str], seed: int) -> tuple[Arrays, Meta | None]:
    """What the evidence's queries look like, to hold traffic against; nothing where they are too few."""
    try:
        return InputReference.fit(hashed_features(queries), seed=seed).to_state()
    except InsufficientDataError:
        return {}, None
