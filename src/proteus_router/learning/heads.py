"""Heads that have learned from traffic: what its words say of scores joins the router's own heads, by a stack.

The stack's weights come from the router's evidence, where every model was asked, and from out-of-fold predictions. So
traffic that teaches nothing of who is better on what gets weight 0, however the models were chosen in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import vstack

from proteus_router.data.grouping import near_text_groups, text_fingerprints
from proteus_router.data.splits import fold_ids
from proteus_router.errors import SchemaError
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.predictor import limit_scores
from proteus_router.training.heads.stack import combine, fit_stack, mixing_matrix
from proteus_router.training.heads.words import WordHeads, fit_word_heads
from proteus_router.training.pool.evidence import Evidence
from proteus_router.training.pool.remake import heads_of, remade
from proteus_router.types import BoolArray, Predictions, ProgressFn

__all__ = ["Taught", "evidence_texts", "taught"]

_FOLDS = 5
_EVIDENCE_WEIGHT = 0.3
"""Of one outcome of the evidence, beside 1 for an answer in the traffic: its k outcomes share one text."""


@dataclass(frozen=True)
class Taught:
    """The router with its new heads, and their out-of-fold predictions of the traffic."""

    artifact: Artifact
    predictions: Predictions


def evidence_texts(evidence: Evidence, texts: Sequence[str]) -> tuple[str, ...]:
    """The text of each row of the evidence, found among `texts` by its fingerprint; `SchemaError` where one is missing."""
    text_of: Mapping[int, str] = dict(zip(text_fingerprints(texts).tolist(), texts, strict=True))
    wanted = evidence.texts.tolist()
    missing = sum(text not in text_of for text in wanted)
    if missing:
        raise SchemaError(
            f"{missing} of the {len(wanted)} queries that the router was trained on are not in the data set.",
            hint="Give the outcomes that it was trained on, those of `proteus pool add` included.",
        )
    return tuple(text_of[text] for text in wanted)


def taught(
    artifact: Artifact,
    texts: Sequence[str],
    traffic: Traffic,
    seen: Predictions,
    *,
    progress: ProgressFn,
) -> Taught:
    """The router's heads joined by what `traffic` says, its operating points chosen anew from its evidence.

    Parameters
    ----------
    texts
        Of the rows of the router's evidence, in their order.
    seen
        The router's predictions of the traffic.
    """
    evidence, heads = Evidence.of(artifact), heads_of(artifact)
    level = np.nanmean(evidence.scores, axis=0)
    table_words, traffic_words = (heads.lexical.sparse(found).to_csr() for found in (texts, traffic.texts))
    groups = near_text_groups((*texts, *traffic.texts))
    folds = fold_ids(groups, _FOLDS, artifact.manifest["seed"])
    in_table, in_traffic = folds[: len(texts)], folds[len(texts) :]
    # Every answer that is known: the traffic's, then those of the evidence.
    rows, models = np.nonzero(~np.isnan(evidence.scores))
    words = vstack((traffic_words, table_words[rows])).tocsr()
    model = np.concatenate((traffic.model, models))
    score = np.concatenate((traffic.score, evidence.scores[rows, models]))
    weight = np.concatenate((np.ones(traffic.n), np.full(rows.size, _EVIDENCE_WEIGHT)))
    fold_of = np.concatenate((in_traffic, in_table[rows]))

    def fitted(kept: BoolArray) -> WordHeads:
        return fit_word_heads(words[kept], model[kept], score[kept], level, weight[kept])

    of_table, of_traffic = np.empty_like(evidence.scores), np.empty((traffic.n, len(level)))
    for fold in range(_FOLDS):
        progress("words", fold, _FOLDS + 1)
        without = fitted(fold_of != fold)
        of_table[in_table == fold] = without.predict(table_words[in_table == fold])
        of_traffic[in_traffic == fold] = without.predict(traffic_words[in_traffic == fold])
    whole = fitted(np.ones_like(fold_of, dtype=bool))
    progress("words", _FOLDS + 1, _FOLDS + 1)

    stack = fit_stack([evidence.predicted_scores, of_table], evidence.scores)
    old, new = (
        mixing_matrix(float(c), float(at), len(level))
        for c, at in zip(stack.contrast, stack.level, strict=True)
    )
    predictor = heads.joined(old, whole.weights @ new, whole.bias @ new + stack.constant)
    remembered = np.union1d(artifact.parts["training"]["text_fingerprints"], text_fingerprints(traffic.texts))
    made = remade(
        replace(artifact, parts={**artifact.parts, "training": {"text_fingerprints": remembered}}),
        predictor,
        replace(
            evidence,
            predicted_scores=limit_scores(combine(stack, [evidence.predicted_scores, of_table])),
        ),
        entries=artifact.manifest["models"],
        change={"learned_from": traffic.n, "traffic": traffic.fingerprint()},
        progress=progress,
    )
    scores = limit_scores(combine(stack, [seen.scores, of_traffic]))
    return Taught(made, replace(seen, scores=scores))
