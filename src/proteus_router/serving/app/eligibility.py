"""Which upstreams of a pool entry may serve one request, or why none may."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.facts import Facts
from proteus_router.serving.app.live import PoolEntry
from proteus_router.serving.records import ApiShape, PoolModel

__all__ = ["Eligibility"]


class Eligibility:
    """What one request asks of whoever serves it.

    Parameters
    ----------
    costs_usd
        Predicted cost by `PoolEntry.index`.
    budget_usd
        What the key may still spend, or None.
    available
        Whether an upstream's breaker lets a call through.
    quarantined
        Pool names that get no requests.
    rng
        Source of the order of deployments that share a model's load.

    Attributes
    ----------
    too_dear
        Index -> cost, of the entries that were refused for the caller's price limit alone.
    only_budget_is_short
        Whether some entry was refused for nothing but the key's budget.
    """

    def __init__(
        self,
        api: ApiShape,
        ask: Ask,
        facts: Facts,
        costs_usd: Sequence[float],
        *,
        budget_usd: float | None,
        available: Callable[[PoolModel], bool],
        quarantined: frozenset[str],
        rng: random.Random,
    ) -> None:
        self._api, self._ask, self._facts, self._costs_usd = api, ask, facts, costs_usd
        self._budget_usd, self._available, self._quarantined, self._rng = (
            budget_usd,
            available,
            quarantined,
            rng,
        )
        self.too_dear: dict[int, float] = {}
        self.only_budget_is_short = False

    def upstreams(self, entry: PoolEntry) -> tuple[PoolModel, ...] | str:
        """The entry's upstreams that may serve this request, or why there are none."""
        ask, cost = self._ask, self._costs_usd[entry.index]
        if entry.name in self._quarantined:
            return "in quarantine: it scores far below its predictions"
        if ask.models is not None and entry.name not in ask.models:
            return "not among the models allowed for this request"
        deployments = entry.deployments.get(self._api)
        if deployments is None:
            return f"speaks {', '.join(entry.deployments)}, not {self._api}"
        fit, reason = [], ""
        for model in deployments:
            refusal = self._refusal(model)
            if refusal:
                reason = refusal
            else:
                fit.append(model)
        if not fit:
            return reason
        if ask.max_cost_usd is not None and cost > ask.max_cost_usd:
            self.too_dear[entry.index] = cost
            return f"predicted cost {cost:.3g} USD is above max_cost_usd"
        if self._budget_usd is not None and cost > self._budget_usd:
            self.only_budget_is_short = True
            return f"predicted cost {cost:.3g} USD is more than the key's budget has left"
        if len(fit) > 1:
            first = self._rng.randrange(len(fit))
            fit = fit[first:] + fit[:first]
        return tuple(fit)

    def _refusal(self, model: PoolModel) -> str:
        facts = self._facts
        if facts.images and not model.images:
            return "takes no images"
        if facts.tools and not model.tools:
            return "takes no tools"
        if facts.json_mode and not model.json_mode:
            return "has no JSON mode"
        needed = facts.input_tokens + facts.output_tokens
        if model.context_tokens is not None and needed > model.context_tokens:
            return f"about {needed} tokens are needed, its context holds {model.context_tokens}"
        if not self._available(model):
            return "its breaker is open: it failed too often of late, or asked for a pause"
        return ""
