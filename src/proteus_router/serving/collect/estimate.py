"""What the outcomes that are still missing will cost, as far as one can tell beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proteus_router.serving.collect.journal import Collected
from proteus_router.serving.collect.prompts import Prompt
from proteus_router.serving.records import PoolModel

__all__ = ["Estimate", "estimate_costs"]

_CHARACTERS_PER_TOKEN = 4
_TOKENS_AROUND = 12
_ENOUGH = 10  # answers of a model from which its mean length is taken


@dataclass(frozen=True, slots=True)
class Estimate:
    """One model's share.

    Attributes
    ----------
    output_tokens
        Expected of one answer: observed where there are answers, otherwise assumed.
    usd_per_outcome
        Mean; input tokens are counted as a quarter of the characters.
    is_judge
        The cost is that of grading.
    """

    model: str
    n: int
    output_tokens: float
    usd_per_outcome: float
    is_judge: bool = False

    @property
    def usd(self) -> float:
        return self.n * self.usd_per_outcome


def estimate_costs(
    models: Sequence[tuple[str, PoolModel]],
    missing: Sequence[tuple[Prompt, str]],
    collected: Iterable[Collected],
    *,
    assumed_tokens: float,
    system_characters: int,
) -> list[Estimate]:
    """One estimate a model, for the (prompt, model) pairs in `missing`."""
    lengths: dict[str, list[int]] = {name: [] for name, _ in models}
    for outcome in collected:
        if outcome.model in lengths:
            lengths[outcome.model].append(outcome.output_tokens)
    estimates = []
    for name, pool in models:
        seen = lengths[name]
        output = sum(seen) / len(seen) if len(seen) >= _ENOUGH else assumed_tokens
        texts = [len(prompt.query) + system_characters for prompt, model in missing if model == name]
        mean_input = sum(texts) / max(len(texts), 1) / _CHARACTERS_PER_TOKEN + _TOKENS_AROUND
        usd = mean_input * pool.input_usd_per_token + output * pool.output_usd_per_token
        estimates.append(Estimate(name, len(texts), output, usd))
    return estimates
