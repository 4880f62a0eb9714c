"""The three changes of a pool: a model added, taken out, or at another price."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from proteus_router.data.grouping import text_fingerprints
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.errors import ConfigError, InsufficientDataError
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.predictor import limit_scores
from proteus_router.training.pool.evidence import Evidence
from proteus_router.training.pool.remake import heads_of, remade
from proteus_router.training.pool.transfer import fit_transfer
from proteus_router.types import FloatArray, Meta, Predictions, ProgressFn

__all__ = ["FEWEST_OUTCOMES", "add_model", "change_price", "remove_model"]

FEWEST_OUTCOMES = 30
"""Fewer say too little of a model to send it traffic."""


def add_model(artifact: Artifact, table: OutcomeTable, model: str, *, progress: ProgressFn) -> Artifact:
    """The router with `model` in its pool, its heads made from its outcomes in `table`.

    Queries that the router was trained on count most: there the other models' outcomes are known too. The other models'
    heads stay as they are.

    Raises
    ------
    ConfigError
        The router knows the model already, the table does not, or the router keeps no evidence.
    InsufficientDataError
        Fewer than `FEWEST_OUTCOMES` outcomes.
    """
    known = [entry["name"] for entry in artifact.manifest["models"]]
    if model in known:
        raise ConfigError(f"{model} is in the pool already.", hint=f"proteus pool remove ROUTER {model}")
    if model not in table.models:
        raise ConfigError(
            f"{table.name} has no outcomes of {model}.", hint=f"It has {', '.join(table.models)}."
        )
    own = table.with_models([model])
    own = own.take(np.flatnonzero(own.observed[:, 0]))
    if own.n_queries < FEWEST_OUTCOMES:
        raise InsufficientDataError(
            f"{own.n_queries} outcomes of {model}; at least {FEWEST_OUTCOMES} are needed, 100 to 300 are good.",
            needed=FEWEST_OUTCOMES,
            available=own.n_queries,
            hint="`proteus data collect` asks one model over your own prompts.",
        )
    heads = heads_of(artifact)
    wide, own_scores, own_costs = _joined(Evidence.of(artifact), own, heads.predict(list(own.queries)))
    transfer = fit_transfer(
        wide.predicted_scores, wide.predicted_costs_usd, wide.scores, own_scores, own_costs, wide.groups
    )
    raw = np.column_stack((wide.predicted_scores, transfer.leave_out))
    joined = Evidence(
        limit_scores(raw),
        np.column_stack((wide.predicted_costs_usd, transfer.leave_out_cost_usd)),
        np.column_stack((wide.scores, own_scores)),
        np.column_stack((wide.costs_usd, own_costs)),
        wide.groups,
        wide.texts,
    )
    entry: Meta = {
        "name": model,
        "n_outcomes": own.n_queries,
        "mean_score": float(transfer.imputed.mean()),
        "mean_cost_usd": float(transfer.leave_out_cost_usd.mean()),
    }
    for kind in ("input_tokens", "output_tokens"):
        tokens = own.extras.get(kind)
        if tokens is not None and not np.isnan(tokens).all():
            entry[f"mean_{kind}"] = float(np.nanmean(tokens))
    entries = [*artifact.manifest["models"], entry]
    order = np.array(
        sorted(
            range(len(entries)),
            key=lambda at: (entries[at]["mean_cost_usd"], entries[at]["mean_score"], entries[at]["name"]),
        )
    )
    frontier = np.column_stack((wide.scores, transfer.imputed))
    predictor = heads.with_model(transfer.weights, transfer.bias, transfer.cost_weights, transfer.cost_bias)
    texts = np.union1d(artifact.parts["training"]["text_fingerprints"], joined.texts)
    return remade(
        replace(artifact, parts={**artifact.parts, "training": {"text_fingerprints": texts}}),
        predictor.of_models(order),
        joined.of_models(order),
        entries=[entries[at] for at in order],
        change={"added": model, "n_outcomes": own.n_queries, "outcomes": own.fingerprint()},
        frontier_scores=frontier[:, order],
        progress=progress,
    )


def remove_model(artifact: Artifact, model: str, *, progress: ProgressFn) -> Artifact:
    """The router without `model`. Raises `ConfigError` where it is not in the pool, or one of the last two."""
    column = _column(artifact, model)
    entries = artifact.manifest["models"]
    if len(entries) < 3:
        raise ConfigError("A pool of two can't lose one: there would be nothing to route.")
    kept = np.array([at for at in range(len(entries)) if at != column])
    return remade(
        artifact,
        heads_of(artifact).of_models(kept),
        Evidence.of(artifact).of_models(kept).answered(),
        entries=[entries[at] for at in kept],
        change={"removed": model},
        progress=progress,
    )


def change_price(artifact: Artifact, model: str, factor: float, *, progress: ProgressFn) -> Artifact:
    """The router for a pool in which everything that `model` bills is `factor` times what it was."""
    if not (np.isfinite(factor) and factor > 0.0):
        raise ConfigError(f"a price can't change by the factor {factor}.", hint="0.5 halves it.")
    column = _column(artifact, model)
    entries = [dict(entry) for entry in artifact.manifest["models"]]
    factors = np.ones(len(entries))
    factors[column] = factor
    entries[column]["mean_cost_usd"] *= factor
    evidence = Evidence.of(artifact)
    return remade(
        artifact,
        heads_of(artifact).with_cost_factors(factors),
        replace(
            evidence,
            predicted_costs_usd=evidence.predicted_costs_usd * factors,
            costs_usd=evidence.costs_usd * factors,
        ),
        entries=entries,
        change={"price": model, "factor": factor},
        progress=progress,
    )


def _column(artifact: Artifact, model: str) -> int:
    names = [entry["name"] for entry in artifact.manifest["models"]]
    if model not in names:
        raise ConfigError(f"{model} is not in the pool.", hint=f"It has {', '.join(names)}.")
    return names.index(model)


def _joined(
    evidence: Evidence, own: OutcomeTable, predicted: Predictions
) -> tuple[Evidence, FloatArray, FloatArray]:
    """The evidence, new queries appended, and the new model's scores and costs on its rows, NaN where not asked.

    A query that stands in the evidence keeps its out-of-fold predictions; the router has never seen the others.
    """
    texts = text_fingerprints(own.queries)
    row_of = {int(text): row for row, text in enumerate(evidence.texts)}
    fresh: list[int] = []
    at = np.empty(own.n_queries, dtype=np.int64)
    for row, text in enumerate(texts.tolist()):
        if text not in row_of:
            row_of[text] = evidence.n_rows + len(fresh)
            fresh.append(row)
        at[row] = row_of[text]
    unknown = np.full((len(fresh), evidence.scores.shape[1]), np.nan)
    first_group = int(evidence.groups.max()) + 1
    wide = Evidence(
        np.concatenate((evidence.predicted_scores, predicted.scores[fresh])),
        np.concatenate((evidence.predicted_costs_usd, predicted.costs_usd[fresh])),
        np.concatenate((evidence.scores, unknown)),
        np.concatenate((evidence.costs_usd, unknown)),
        np.concatenate((evidence.groups, np.arange(first_group, first_group + len(fresh)))),
        np.concatenate((evidence.texts, texts[fresh])),
    )
    scores, costs = np.full(wide.n_rows, np.nan), np.full(wide.n_rows, np.nan)
    scores[at], costs[at] = own.scores[:, 0], own.costs_usd[:, 0]
    return wide, scores, costs
