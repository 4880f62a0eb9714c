"""Fit the heads: views of the texts, estimators with cross-fitted predictions, the stack, the cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from proteus_router.config import HeadsConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.splits import fold_ids
from proteus_router.encoders.base import Encoder
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.routing.forest import Forest
from proteus_router.routing.predictor import HeadsPredictor, limit_scores
from proteus_router.training.heads.cost import fit_cost
from proteus_router.training.heads.forest import ForestParams, grow_forest
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.training.heads.report import HeadsReport, build_report
from proteus_router.training.heads.stack import combine, fit_stack, mixing_matrix
from proteus_router.training.stages import StageStore, stage
from proteus_router.types import Arrays, FloatArray, IntArray, Predictions, ProgressFn

__all__ = ["FittedHeads", "fit_heads"]


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """Heads refitted on all rows, with the cross-fitted predictions of those rows.

    Attributes
    ----------
    predictor
        What a router runs.
    oof
        Predictions of every training row by a fit that saw no outcome of the row's text group.
    report
        Calibration and sharpness of `oof`.
    """

    predictor: HeadsPredictor
    oof: Predictions
    report: HeadsReport


def fit_heads(
    table: OutcomeTable,
    groups: IntArray,
    *,
    encoder: Encoder | None,
    config: HeadsConfig,
    seed: int,
    stages: StageStore,
    progress: ProgressFn,
) -> FittedHeads:
    """Fit score and cost heads on every row of `table`.

    Parameters
    ----------
    groups
        (n,) text group of each row; a row's own predictions use no outcome of its group.
    encoder
        A further encoder whose dense rows join the lexical view; None for lexical alone.
    stages
        Keeps finished estimators, so that a killed run resumes with the same result.
    """
    # Models are fitted in the order of their names, so that the caller's order cannot move a single bit.
    order = sorted(range(table.n_models), key=lambda column: table.models[column])
    back = np.argsort(order)
    k = table.n_models
    scores = table.scores[:, order]
    costs = table.costs_usd[:, order]
    texts = list(table.queries)

    progress("lexical", 0, 1)
    lexical = _fit_lexical(texts, config, seed, stages)
    words = lexical.sparse(texts).to_csr()
    dense = lexical.encode(texts).astype(np.float64)
    if encoder is not None:
        dense = np.hstack((dense, encoder.encode(texts)))
    progress("lexical", 1, 1)

    bases: dict[str, FloatArray] = {}
    word_scores = np.zeros((lexical.n_words, k))
    intercept = np.zeros(k)
    if "kernel" in config.estimators:
        progress("kernel", 0, 1)
        kernel = stage(stages, "heads-kernel", lambda: _kernel_stage(words, scores, groups, config))
        bases["kernel"] = kernel["oof"]
        word_scores = np.asarray(words.T @ kernel["weights"])
        intercept = kernel["intercept"]
        progress("kernel", 1, 1)

    forest = Forest.none(k)
    if "forest" in config.estimators:
        bases["forest"], forest = fit_forest(
            dense.astype(np.float32), scores, groups, config, seed, stages=stages, progress=progress
        )

    names = list(bases)
    weights = fit_stack([bases[name] for name in names], scores)
    raw = combine(weights, [bases[name] for name in names])
    mixers = {
        name: mixing_matrix(float(weights.contrast[e]), float(weights.level[e]), k)
        for e, name in enumerate(names)
    }
    bias = weights.constant.copy()
    if "kernel" in mixers:
        word_scores = word_scores @ mixers["kernel"]
        bias += intercept @ mixers["kernel"]
    if "forest" in mixers:
        forest = forest.mixed(mixers["forest"])

    mean, scale = dense.mean(axis=0), dense.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    progress("cost", 0, 1)
    cost = fit_cost((dense - mean) / scale, costs, groups, config.cost_alpha)
    cost_weights = cost.weights / scale[:, None]
    predictor = HeadsPredictor(
        lexical=lexical,
        word_scores=word_scores[:, back],
        forest=forest.mixed(np.eye(k)[:, back]),
        bias=bias[back],
        cost_weights=cost_weights[:, back],
        cost_bias=(cost.intercept - mean @ cost_weights)[back],
        encoder=encoder,
    )
    progress("cost", 1, 1)
    oof_predictions = Predictions(limit_scores(raw)[:, back], cost.oof[:, back])
    stack = {
        name: {"contrast": float(weights.contrast[e]), "level": float(weights.level[e])}
        for e, name in enumerate(names)
    }
    report = build_report(
        table.models, oof_predictions.scores, oof_predictions.costs_usd, table.scores, table.costs_usd, stack
    )
    return FittedHeads(predictor, oof_predictions, report)


def _fit_lexical(texts: list[str], config: HeadsConfig, seed: int, stages: StageStore) -> LexicalEncoder:
    def compute() -> Arrays:
        return LexicalEncoder.fit(texts, dim=config.lexical_dim, min_df=config.min_df, seed=seed).to_state()[
            0
        ]

    return LexicalEncoder.from_state(stage(stages, "heads-lexical", compute), {})


def _kernel_stage(words: csr_matrix, scores: FloatArray, groups: IntArray, config: HeadsConfig) -> Arrays:
    gram = (words @ words.T).toarray()
    solution = solve_kernel(gram, scores - 0.5, groups, config.kernel_alpha)
    return {"weights": solution.weights, "intercept": solution.intercept + 0.5, "oof": solution.oof + 0.5}


def fit_forest(
    inputs: NDArray[np.float32],
    scores: FloatArray,
    groups: IntArray,
    config: HeadsConfig,
    seed: int,
    *,
    stages: StageStore,
    progress: ProgressFn,
) -> tuple[FloatArray, Forest]:
    """Cross-fitted predictions (n, k), one stage a fold, and the forest grown on all rows in the same way."""
    params = ForestParams(
        config.forest_trees, config.forest_depth, config.forest_leaf_rows, config.forest_tried
    )
    folds = fold_ids(groups, config.n_folds, seed)
    oof = np.zeros_like(scores)
    total = config.n_folds + 1
    for fold in range(config.n_folds):
        progress("forest", fold, total)
        held, kept = folds == fold, folds != fold

        def compute(
            held: NDArray[np.bool_] = held, kept: NDArray[np.bool_] = kept, fold: int = fold
        ) -> Arrays:
            grown = grow_forest(inputs[kept], scores[kept], params, seed + 1000 * (fold + 1))
            return {"oof": grown.predict(inputs[held].astype(np.float64))}

        oof[held] = stage(stages, f"heads-forest-{fold}", compute)["oof"]
    progress("forest", config.n_folds, total)
    final = Forest.from_state(
        stage(stages, "heads-forest-all", lambda: grow_forest(inputs, scores, params, seed).to_state())
    )
    progress("forest", total, total)
    return oof, final
