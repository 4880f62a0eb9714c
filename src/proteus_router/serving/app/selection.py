"""From predictions to a pool model: the operating point's choice where it may serve, else who may stand in.

The rule for a stand-in: the cheapest eligible model predicted to do at least as well as the choice. Where there is
none, a tier of ``on_infeasible: best_effort`` takes the best eligible one and says so; any other tier refuses. Only
the choice itself carries the certificate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from proteus_router.errors import InfeasibleCostError, NoEligibleModelError
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.drawing import Drawing
from proteus_router.serving.app.eligibility import Eligibility
from proteus_router.serving.app.facts import Facts
from proteus_router.serving.app.live import Live, PoolEntry
from proteus_router.serving.app.pick import Pick
from proteus_router.serving.ceilings import Ceilings, narrowed
from proteus_router.serving.control import Steering
from proteus_router.serving.records import ApiShape, Ceiling, PoolModel

__all__ = ["Selection"]

_SAME = 1e-12  # predicted scores closer than this are equal


class Selection:
    """All that is known for choosing the model of one request.

    Parameters
    ----------
    text
        What the router reads; "": nothing can be told from it.
    pinned
        Pool name the session is on, or None.
    locked
        The session may not leave it: a tool loop, or an answer that only its upstream can continue.
    budget_usd
        What the key may still spend, or None.
    available
        Whether an upstream's breaker lets a call through.
    steering
        How the tier is served where it is tracked; concerns requests at the tier's own floor.
    quarantined
        Pool names that get no requests.
    rng
        Source of the coin between two operating points.
    ceilings
        What the request must stay under beside its floor, or None.

    Raises
    ------
    InfeasibleTargetError
        The target can't be certified and the tier does not serve without.
    """

    def __init__(
        self,
        live: Live,
        api: ApiShape,
        ask: Ask,
        facts: Facts,
        text: str,
        *,
        pinned: str | None,
        locked: bool,
        budget_usd: float | None,
        available: Callable[[PoolModel], bool],
        rng: random.Random,
        steering: Steering | None = None,
        quarantined: frozenset[str] = frozenset(),
        ceilings: Ceilings | None = None,
    ) -> None:
        self._live, self._ask, self._ceilings = live, ask, ceilings
        self._pinned, self._locked = pinned, locked and pinned is not None
        self.only_tier_budget_is_short = False  # nothing fits what is left of the tier's budget
        self.draw = Drawing(live, ask, text, steering=steering, rng=rng)
        self._scores, self._costs_usd = self.draw.scores, self.draw.costs_usd
        self._eligibility = Eligibility(
            api,
            ask,
            facts,
            self._costs_usd,
            budget_usd=budget_usd,
            available=available,
            quarantined=quarantined,
            rng=rng,
        )
        if pinned is None:
            self.draw.explore(self._eligibility, ceilings)
        self._choice = self.draw.choice

    def first(self) -> Pick:
        """The model to call first.

        Raises
        ------
        NoEligibleModelError
            503 with the reason per model.
        InfeasibleCostError
            422: the caller's own price limit is all that stands in the way.
        """
        if self._ask.direct is not None:
            return self._direct(self._live.entries[self._ask.direct])
        pinned = None if self._pinned is None else self._live.entry(self._pinned)
        kept = None if pinned is None else self._keep(pinned)
        if kept is not None:
            return kept
        if self.draw.newcomer is not None:
            return self.draw.newcomer
        if self._ceilings is not None:
            return self._under(self._ceilings, frozenset())
        for entry in self._live.by_index[self._choice]:
            upstreams = self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple):
                return self._pick(entry, upstreams, "")
        return self._stand_in(frozenset(), "it can't serve this request")

    def after(self, tried: frozenset[str]) -> Pick | None:
        """Who takes over when the models named in `tried` failed; None: nobody may."""
        if self._ask.direct is not None or self._locked:
            return None
        if self._ceilings is not None:
            try:
                return self._under(self._ceilings, tried)
            except (NoEligibleModelError, InfeasibleCostError):
                return None
        for entry in self._live.by_index[self._choice]:  # another name of the same model
            upstreams = () if entry.name in tried else self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple) and upstreams:
                return self._pick(entry, upstreams, f"{', '.join(sorted(tried))} did not answer.")
        try:
            return self._stand_in(tried, "it did not answer")
        except (NoEligibleModelError, InfeasibleCostError):
            return None

    @property
    def only_budget_is_short(self) -> bool:
        """Whether some model was refused for nothing but the key's budget."""
        return self._eligibility.only_budget_is_short

    def candidates(self, *, with_reasons: bool) -> tuple[dict[str, Any], ...]:
        """Every model of the pool as it was seen."""
        chances, corrected = self.draw.chances, self.draw.steering is not None
        found: list[dict[str, Any]] = []
        scores, costs_usd = self.draw.as_predicted
        for entry in (*self._live.entries.values(), *self._live.newcomers.values()):
            index = entry.index
            candidate: dict[str, Any] = {
                "model": entry.name,
                "predicted_score": scores[index],
                "predicted_cost_usd": costs_usd[index],
                "propensity": chances.get(index, 0.0),
            }
            if corrected and scores[index] is not None:
                candidate["corrected_score"] = self._scores[index]
            if with_reasons:
                upstreams = self._eligibility.upstreams(entry)
                candidate["eligible"] = isinstance(upstreams, tuple)
                candidate["reason"] = upstreams if isinstance(upstreams, str) else None
            found.append(candidate)
        return tuple(found)

    def _direct(self, entry: PoolEntry) -> Pick:
        upstreams = self._eligibility.upstreams(entry)
        if isinstance(upstreams, str):
            raise NoEligibleModelError(
                f"{entry.name} can't serve this request: {upstreams}.", reasons={entry.name: upstreams}
            )
        return Pick(entry, upstreams, self._costs_usd[entry.index], None, False, "")

    def _keep(self, entry: PoolEntry) -> Pick | None:
        """Stay on the session's model: always where it is locked, else while the floor allows."""
        upstreams = self._eligibility.upstreams(entry)
        if self._locked:
            if entry.index in self._eligibility.too_dear:
                raise self._infeasible_cost([entry.index])
            if isinstance(upstreams, str):
                raise NoEligibleModelError(
                    f"the conversation is in the middle of something only {entry.name} can go on with, which can't "
                    f"serve this request: {upstreams}.",
                    reasons={entry.name: upstreams},
                )
            return self._pick(entry, upstreams, f"the conversation can't leave {entry.name} half-way.")
        if isinstance(upstreams, str) or self._scores[entry.index] < self._scores[self._choice] - _SAME:
            return None
        ceilings = self._ceilings
        if ceilings is not None and not ceilings.keeps(entry.name, self._costs_usd[entry.index]):
            return None
        return self._pick(
            entry, upstreams, f"the session stays on {entry.name}, which is predicted to do as well."
        )

    def _under(self, ceilings: Ceilings, tried: frozenset[str]) -> Pick:
        """The choice where floor and ceilings allow it, else who does; what can't be kept gives way in the tier's order."""
        why = "it did not answer" if tried else "it can't serve this request"
        fit: dict[str, tuple[PoolEntry, tuple[PoolModel, ...]]] = {}
        for entry in self._live.entries.values():
            upstreams = self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple) and entry.name not in tried:
                fit[entry.name] = entry, upstreams
        floor = self._scores[self._choice] - _SAME
        entries = [entry for entry, _ in fit.values()]
        if ceilings.precedence[0] == "accuracy" and not any(self._scores[e.index] >= floor for e in entries):
            return self._stand_in(tried, why)
        order = ceilings.precedence
        tests: dict[Ceiling, Callable[[PoolEntry], bool]] = {
            "accuracy": lambda entry: self._scores[entry.index] >= floor,
            "latency": lambda entry: ceilings.quick(entry.name),
            "budget": lambda entry: ceilings.on_pace(self._costs_usd[entry.index]),
        }
        kept, gave_way = narrowed(entries, order, tests)
        if not kept:
            return self._stand_in(tried, why)
        if "budget" in gave_way and ceilings.budget_is_hard:
            before, _ = narrowed(
                entries, order[: order.index("budget")], tests
            )  # what comes first is kept all the same
            return self._ahead_of_pace(before, fit, ceilings)
        if "accuracy" in gave_way:
            entry = max(kept, key=lambda entry: (self._scores[entry.index], -self._costs_usd[entry.index]))
        else:
            chosen = [entry for entry in kept if entry.index == self._choice]
            entry = chosen[0] if chosen else min(kept, key=self._price)
        left = f"{self._live.router.models[self._choice]} was chosen; {entry.name} is what the tier's ceilings leave."
        pick = self._pick(entry, fit[entry.name][1], left)
        if not gave_way:
            return pick
        said = f"{' and '.join(gave_way)} gave way: no model keeps all that the tier asks for."
        return replace(pick, reason=f"{said} {pick.reason}".rstrip(), gave_way=gave_way)

    def _ahead_of_pace(
        self,
        kept: Sequence[PoolEntry],
        fit: Mapping[str, tuple[PoolEntry, tuple[PoolModel, ...]]],
        ceilings: Ceilings,
    ) -> Pick:
        """The tier has spent more than its pace allows, and its budget counts more than its floor: the cheapest model."""
        entry = min(kept, key=self._price)
        cost = self._costs_usd[entry.index]
        if any(cost > left.whole_usd for left in ceilings.lefts):  # the tier's: a key's is looked at before
            self.only_tier_budget_is_short = True
            raise NoEligibleModelError(
                "no model fits what is left of the tier's budget.",
                reasons={
                    entry.name: f"predicted cost {cost:.3g} USD is more than the tier's budget has left"
                },
            )
        below = self._scores[entry.index] < self._scores[self._choice] - _SAME
        return replace(
            self._pick(
                entry,
                fit[entry.name][1],
                "a budget's pace is overtaken: the cheapest model serves.",
            ),
            gave_way=("accuracy",) if below else (),
        )

    def _stand_in(self, tried: frozenset[str], why: str) -> Pick:
        choice = self._live.router.models[self._choice]
        fit: list[tuple[PoolEntry, tuple[PoolModel, ...]]] = []
        refused: dict[str, str] = {}
        for entry in self._live.entries.values():
            upstreams = "it failed" if entry.name in tried else self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple):
                fit.append((entry, upstreams))
            else:
                refused[entry.name] = upstreams
        floor = self._scores[self._choice] - _SAME
        good = [found for found in fit if self._scores[found[0].index] >= floor]
        if good:
            entry, upstreams = min(good, key=lambda found: self._price(found[0]))
            reason = (
                f"{choice} was chosen, but {why}; {entry.name} is the cheapest model predicted to do as well."
            )
            return self._pick(entry, upstreams, reason)
        best_effort = self._ask.tier is not None and self._ask.tier.on_infeasible == "best_effort"
        if fit and best_effort:
            entry, upstreams = max(fit, key=lambda found: self._scores[found[0].index])
            reason = (
                f"{choice} was chosen, but {why}, and no model predicted to do as well is left: best effort."
            )
            return self._pick(entry, upstreams, reason)
        dear = [index for index in self._eligibility.too_dear if best_effort or self._scores[index] >= floor]
        if dear:
            raise self._infeasible_cost(dear)
        for entry, _ in fit:
            refused[entry.name] = (
                f"predicted to do worse ({self._scores[entry.index]:.3f}) than {choice} ({floor:.3f})"
            )
        listed = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise NoEligibleModelError(f"no model may serve this request. {listed}.", reasons=refused)

    def _infeasible_cost(self, indices: Sequence[int]) -> InfeasibleCostError:
        """The caller's own limit is all that keeps these models from serving."""
        least = min(self._eligibility.too_dear[index] for index in indices)
        return InfeasibleCostError(
            f"no model fit for this request is predicted to cost at most max_cost_usd = "
            f"{self._ask.max_cost_usd:g}; the least is {least:.3g} USD.",
            least_cost_usd=least,
            hint="Raise max_cost_usd, or ask for a lower accuracy target.",
        )

    def _price(self, entry: PoolEntry) -> tuple[float, float]:
        return self._costs_usd[entry.index], entry.usd_per_token

    def _pick(self, entry: PoolEntry, upstreams: tuple[PoolModel, ...], reason: str) -> Pick:
        chosen = entry.index == self._choice
        return Pick(
            entry=entry,
            upstreams=upstreams,
            predicted_cost_usd=self._costs_usd[entry.index],
            propensity=self.draw.share if chosen else 0.0,
            certified=chosen and self.draw.certified,
            reason="" if chosen and not self._locked else reason,
        )
