"""Fine-tune a transformer end to end on outcomes: encoder, projection to z, a score layer for all models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proteus_router.encoders.transformer import TransformerEncoder, text_digests, z_of
from proteus_router.encoders.transformer_files import make_head, require_torch
from proteus_router.errors import DivergenceError, InsufficientDataError, SchemaError
from proteus_router.types import FloatArray

__all__ = ["Z_DIM", "fine_tune"]

Z_DIM = 256  # the paper's embedding

_WARM_UP = 0.1  # share of the steps over which the rates rise; then they fall to zero, both linearly
_MEAN_MARGIN = 0.01  # keeps the logit of a model that is always right or wrong finite


def fine_tune(
    encoder: TransformerEncoder,
    texts: Sequence[str],
    scores: FloatArray,
    *,
    seed: int,
    epochs: int = 3,
    batch_size: int = 16,
    lr: float = 3e-5,
    head_lr: float = 1e-3,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
    dim: int = Z_DIM,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TransformerEncoder:
    """A copy of the encoder tuned on (text, scores): `encode` gives z, `predict_scores` sigmoid(W z + b).

    The loss is binary cross-entropy, mean over observed (query, model) pairs; with a graded score in [0, 1]
    as the target its minimiser is still the mean score. AdamW, gradients clipped to `clip_norm`. The same
    seed on the same processor with the same number of threads gives the same weights.

    **Not evidence.** The scores given here enter z. Certify on other rows: out-of-fold heads trained on z of
    these rows are not honest, as the encoder has seen every fold (`seen_in_fine_tuning` finds such rows).

    Parameters
    ----------
    scores
        (n, n_models) in [0, 1]; NaN where the model did not answer.
    lr, head_lr
        Highest rate of the encoder, and of projection and score layer.
    on_epoch
        Called with the epoch (from 1) and its mean loss.

    Raises
    ------
    SchemaError
        Shapes differ or a score lies outside [0, 1].
    InsufficientDataError
        No observed score for some model.
    DivergenceError
        The loss is no longer finite.
    """
    _check(texts, scores)
    torch, _ = require_torch()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the head's first weights, and dropout
        model = copy.deepcopy(encoder.parts.model).to(encoder.device)
        projection, scorer = make_head(model.config.hidden_size, dim, scores.shape[1])
        with torch.no_grad():
            scorer.bias.copy_(_mean_logits(torch, scores))
        parts = replace(
            encoder.parts,
            model=model,
            projection=projection.to(encoder.device),
            scorer=scorer.to(encoder.device),
            trained_on=_union(encoder, texts),
        )
        rows = np.flatnonzero(~np.isnan(scores).all(axis=1))
        batches = -(-len(rows) // batch_size)
        optimizer, schedule = _optimizer(torch, parts, lr, head_lr, weight_decay, epochs * batches)
        weights = [*model.parameters(), *projection.parameters(), *scorer.parameters()]
        for module in (model, projection, scorer):
            module.train()
        for epoch in range(epochs):
            total = 0.0
            for batch in np.array_split(rng.permutation(rows), batches):
                logits = scorer(z_of(parts, [texts[row] for row in batch], encoder.device))
                loss = _masked_loss(torch, logits, scores[batch])
                if not torch.isfinite(loss):
                    raise DivergenceError(
                        f"fine-tuning: the loss is {loss.item()} in epoch {epoch + 1}.",
                        step=epoch + 1,
                        metric="loss",
                        hint="Lower lr and head_lr.",
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, clip_norm)
                optimizer.step()
                schedule.step()
                total += loss.item()
            if on_epoch is not None:
                on_epoch(epoch + 1, total / batches)
    return TransformerEncoder.from_parts(f"{encoder.name}+fine-tuned", parts, device=encoder.device)


def _check(texts: Sequence[str], scores: FloatArray) -> None:
    if scores.ndim != 2 or len(texts) != len(scores):
        raise SchemaError(
            f"fine-tuning: {len(texts)} texts, scores of shape {scores.shape}; need (n, n_models)."
        )
    seen = scores[~np.isnan(scores)]
    if seen.size and (seen.min() < 0 or seen.max() > 1):
        raise SchemaError("fine-tuning: scores must lie in [0, 1].")
    n_observed = (~np.isnan(scores)).sum(axis=0)
    if n_observed.size == 0 or n_observed.min() == 0:
        raise InsufficientDataError(
            f"fine-tuning: the model in column {int(np.argmin(n_observed)) if n_observed.size else 0} "
            "has no observed score.",
            needed=1,
            available=0,
        )


def _union(encoder: TransformerEncoder, texts: Sequence[str]) -> Any:
    """Hashes of the texts of this tuning and of any before it."""
    before = encoder.parts.trained_on
    now = text_digests(texts)
    return now if before is None else np.unique(np.vstack([before, now]), axis=0)


def _mean_logits(torch: Any, scores: FloatArray) -> Any:
    """(n_models,): the score layer begins at each model's mean score."""
    mean = np.clip(np.nanmean(scores, axis=0), _MEAN_MARGIN, 1 - _MEAN_MARGIN)
    return torch.from_numpy(np.log(mean / (1 - mean)).astype(np.float32))


def _masked_loss(torch: Any, logits: Any, scores: FloatArray) -> Any:
    """Mean binary cross-entropy over observed pairs; a missing one has no gradient."""
    observed = torch.from_numpy(~np.isnan(scores)).to(logits.device)
    target = torch.from_numpy(np.nan_to_num(scores).astype(np.float32)).to(logits.device)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses * observed).sum() / observed.sum()


def _optimizer(
    torch: Any, parts: Any, lr: float, head_lr: float, weight_decay: float, n_steps: int
) -> tuple[Any, Any]:
    head = [*parts.projection.parameters(), *parts.scorer.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": list(parts.model.parameters()), "lr": lr}, {"params": head, "lr": head_lr}],
        weight_decay=weight_decay,
    )
    warm_up = max(1, round(_WARM_UP * n_steps))

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, max(0.0, (n_steps - step) / max(1, n_steps - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
