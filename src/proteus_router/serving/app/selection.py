"""From predictions to a pool model: the operating point's choice where it may serve, else who may stand in.

The rule for a stand-in: the cheapest eligible model predicted to do at least as well as the choice. Where there is
none, a tier of ``on_infeasible: best_effort`` takes the best eligible one and says so; any other tier refuses. Only
the choice itself carries the certificate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proteus_router.errors import InfeasibleCostError, NoEligibleModelError
from proteus_router.routing.router import Plan
from proteus_router.routing.target_map import MOST_ACCURATE
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.eligibility import Eligibility
from proteus_router.serving.app.exploration import Tries
from proteus_router.serving.app.facts import Facts
from proteus_router.serving.app.live import Live, PoolEntry
from proteus_router.serving.app.newcomers import share_of_newcomers
from proteus_router.serving.ceilings import Ceilings, narrowed
from proteus_router.serving.control import Steering
from proteus_router.serving.records import ApiShape, Ceiling, PoolModel

__all__ = ["Pick", "Selection"]

_SAME = 1e-12  # predicted scores closer than this are equal
_TOKENS = 1_000.0  # of a request, where every known model is free and nothing tells


@dataclass(frozen=True, slots=True)
class Pick:
    """A model to call.

    Attributes
    ----------
    upstreams
        Its deployments that may serve, in the order to try them.
    propensity
        Probability with which the router drew it; 0 for a stand-in; None where nothing was drawn.
    reason
        Why this one and not the operating point's choice, or "".
    gave_way
        Floor or ceilings that could not be kept beside the others.
    """

    entry: PoolEntry
    upstreams: tuple[PoolModel, ...]
    predicted_cost_usd: float
    propensity: float | None
    certified: bool
    reason: str
    gave_way: tuple[Ceiling, ...] = ()


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
        self._live, self._ask, self._rng = live, ask, rng
        self._pinned, self._locked = pinned, locked and pinned is not None
        self.only_tier_budget_is_short = False  # nothing fits what is left of the tier's budget
        self._ceilings = ceilings
        self.plan: Plan | None = None
        if ask.tier is not None and ask.accuracy_target is not None:
            self.plan = live.router.plan(
                ask.accuracy_target, guarantee=ask.tier.guarantee, on_infeasible=ask.tier.on_infeasible
            )
        self._at_floor = ask.tier is not None and ask.accuracy_target == ask.tier.accuracy_target
        self.steering = steering if self._at_floor else None
        self.predictions = live.router.predict([text])  # the artifact's
        predictions = self.predictions if self.steering is None else self.steering.seen(self.predictions)
        self.scores: list[float] = predictions.scores[0].tolist()
        self.costs_usd: list[float] = predictions.costs_usd[0].tolist()
        self.unfamiliar = self._unfamiliar(
            text, None if predictions.known_shares is None else float(predictions.known_shares[0])
        )
        self.explored = False
        self.newcomer: Pick | None = None  # what is to be tried in the place of the choice
        self.choice, self.other, base = self._draw(predictions)
        if live.newcomers:
            self._suppose()
        self._eligibility = Eligibility(
            api,
            ask,
            facts,
            self.costs_usd,
            budget_usd=budget_usd,
            available=available,
            quarantined=quarantined,
            rng=rng,
        )
        self.chances: dict[int, float] = (
            base if self._exploration == 0.0 else self._explore(base, predictions)
        )
        # Where a newcomer is tried the choice can only stand in for it, which is no draw.
        self.share = self.chances.get(self.choice, 1.0) if self.newcomer is None else 0.0

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
        if self.newcomer is not None:
            return self.newcomer
        if self._ceilings is not None:
            return self._under(self._ceilings, frozenset())
        for entry in self._live.by_index[self.choice]:
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
        for entry in self._live.by_index[self.choice]:  # another name of the same model
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

    @property
    def internal_target(self) -> float | None:
        """Of the operating point that serves; None where a model was named."""
        if self.steering is not None:
            return self.steering.mix.internal_target
        return None if self.plan is None else self.plan.mix.internal_target

    def reasons(self) -> tuple[str, ...]:
        """Why the operating point chose as it did, in words."""
        if self.plan is None:
            return (f"{self._ask.requested} was asked for by name.",)
        said = []
        if self.unfamiliar:
            said.append(
                f"{self.unfamiliar} So it goes to the most accurate operating point, not to a cheap one, and no "
                "certificate speaks of it."
            )
        elif self.steering is not None:
            said.append(
                f"Tracked: internal target {self.steering.mix.internal_target:.4f} follows the tier's audits. The live "
                "certificate speaks of it, the offline one does not."
            )
        else:
            said.append(self.plan.reason)
        if self.newcomer is not None:
            said.append(
                f"Explored: {self.newcomer.entry.name} is new and nothing is known of it; it was drawn with probability "
                f"{self.newcomer.propensity:.4f}."
            )
        elif self.explored:
            said.append(
                f"Explored: drawn with probability {self.share:.3f} from the models that the floor has room for."
            )
        elif self.share < 1.0:
            other = self._live.router.models[self.other]
            said.append(f"Drawn with probability {self.share:.3f}; otherwise {other}.")
        return tuple(said)

    def candidates(self, *, with_reasons: bool) -> tuple[dict[str, Any], ...]:
        """Every model of the pool as it was seen."""
        chances = self.chances
        found: list[dict[str, Any]] = []
        scores, costs_usd = self._as_predicted
        for entry in (*self._live.entries.values(), *self._live.newcomers.values()):
            index = entry.index
            candidate: dict[str, Any] = {
                "model": entry.name,
                "predicted_score": scores[index],
                "predicted_cost_usd": costs_usd[index],
                "propensity": chances.get(index, 0.0),
            }
            if self.steering is not None and scores[index] is not None:
                candidate["corrected_score"] = self.scores[index]
            if with_reasons:
                upstreams = self._eligibility.upstreams(entry)
                candidate["eligible"] = isinstance(upstreams, tuple)
                candidate["reason"] = upstreams if isinstance(upstreams, str) else None
            found.append(candidate)
        return tuple(found)

    def certificate(self) -> dict[str, Any] | None:
        """The promise behind this request's operating point; ``stale`` where billing prices moved away.

        ``covers`` is False where the tier is tracked: its operating point is no longer the certified one.
        """
        offline = None if self.plan is None else self._live.certificate_of(self.plan)
        if offline is None or self.steering is None:
            return offline
        return {**offline, "covers": False}

    def predicted_score(self, pick: Pick) -> float | None:
        """The artifact's, which audits are held against; None: of a newcomer nothing is known."""
        scores, index = self.predictions.scores, pick.entry.index
        return float(scores[0, index]) if index < scores.shape[1] else None

    @property
    def _as_predicted(self) -> tuple[Sequence[float | None], Sequence[float]]:
        """Scores and costs of the artifact by `PoolEntry.index`; of a newcomer no score, and its supposed cost."""
        if self.steering is None and not self._live.newcomers:
            return self.scores, self.costs_usd
        scores, costs = self.predictions.scores[0].tolist(), self.predictions.costs_usd[0].tolist()
        return [*scores, *[None] * len(self._live.newcomers)], [*costs, *self.costs_usd[len(costs) :]]

    def _unfamiliar(self, text: str, known_share: float | None) -> str:
        least = self._live.settings.routing.min_known_words
        if not text:
            return "The request holds no text to judge by."
        if known_share is not None and known_share < least:
            return f"Only {known_share:.0%} of its words are known from training, less than {least:.0%}."
        return ""

    @property
    def _exploration(self) -> float:
        """Chance with which another model than the choice is tried."""
        tier = self._ask.tier
        if tier is None or self.plan is None or self.unfamiliar or self._pinned is not None:
            return 0.0
        return tier.exploration.share

    def _explore(self, base: dict[int, float], predictions: Any) -> dict[int, float]:
        """Perhaps another choice, and the probability of every model."""
        tier = self._ask.tier
        if tier is not None and any(name in self._live.newcomers for name in tier.exploration.newcomers):
            return self._try_newcomer(base, tier.exploration.newcomers)
        # Those that the router would take at some other target: of the others nothing needs to be known.
        rivals = set(self._live.router.choose_all(predictions)[:, 0].tolist())
        open_to = [
            entry.index
            for entry in self._live.entries.values()
            if entry.index in rivals and isinstance(self._eligibility.upstreams(entry), tuple)
        ]
        above = (self.internal_target or 0.0) - (self._ask.accuracy_target or 1.0)
        tries = Tries.of(base, self.scores, open_to, share=self._exploration, above_floor=above)
        if self._rng.random() < tries.share:
            drawn = self._rng.choice(tries.models[self.choice])
            self.explored, self.choice = drawn not in base, drawn
        return tries.chances

    def _suppose(self) -> None:
        """Scores and costs of newcomers, after those of the router's models: wrong, and as many tokens as the choice."""
        entries = (*self._live.by_index[max(self.choice, 0)], *self._live.entries.values())
        tokens = next(
            (
                self.costs_usd[entry.index] / entry.usd_per_token
                for entry in entries
                if 0.0 < entry.usd_per_token < math.inf
            ),
            _TOKENS,
        )
        for entry in self._live.newcomers.values():
            self.scores.append(0.0)
            self.costs_usd.append(tokens * entry.usd_per_token)

    def _try_newcomer(self, base: dict[int, float], names: Sequence[str]) -> dict[int, float]:
        """Perhaps a newcomer in the place of the choice, and the probability of every model."""
        entries = [self._live.newcomers[name] for name in names if name in self._live.newcomers]
        open_to = [
            self._pick(entry, upstreams, "")
            for entry in entries
            if isinstance(upstreams := self._eligibility.upstreams(entry), tuple)
            and self._keeps_ceilings(entry)
        ]
        floor, expected = self._ask.accuracy_target, self.internal_target
        if not open_to or not self._at_floor or floor is None or expected is None:
            return base
        share = share_of_newcomers(self._exploration, internal_target=expected, floor=floor)
        each = share / len(open_to)
        if self._rng.random() < share:
            self.newcomer, self.explored = replace(self._rng.choice(open_to), propensity=each), True
        chances = {index: chance * (1.0 - share) for index, chance in base.items()}
        return chances | {pick.entry.index: each for pick in open_to}

    def _draw(self, predictions: Any) -> tuple[int, int, dict[int, float]]:
        """The choice, the choice of the operating point that the coin did not pick, the probabilities of both."""
        router, plan = self._live.router, self.plan
        if plan is None:
            return -1, -1, {}
        steering = self.steering
        if self.unfamiliar:
            if steering is not None:
                best = steering.best(router, predictions)
            else:
                best = int(router.choose(predictions, MOST_ACCURATE)[0])
            return best, best, {best: 1.0}
        if steering is not None:
            upper, lower, weight = steering.pair(router, predictions)
        else:
            mix = plan.mix
            upper, weight = int(router.choose(predictions, mix.upper)[0]), mix.weight_upper
            lower = upper if mix.lower == mix.upper else int(router.choose(predictions, mix.lower)[0])
        if upper == lower:
            return upper, upper, {upper: 1.0}
        chances = {upper: weight, lower: 1.0 - weight}
        return (upper, lower, chances) if self._rng.random() < weight else (lower, upper, chances)

    def _direct(self, entry: PoolEntry) -> Pick:
        upstreams = self._eligibility.upstreams(entry)
        if isinstance(upstreams, str):
            raise NoEligibleModelError(
                f"{entry.name} can't serve this request: {upstreams}.", reasons={entry.name: upstreams}
            )
        return Pick(entry, upstreams, self.costs_usd[entry.index], None, False, "")

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
        if isinstance(upstreams, str) or self.scores[entry.index] < self.scores[self.choice] - _SAME:
            return None
        if not self._keeps_ceilings(entry):
            return None
        return self._pick(
            entry, upstreams, f"the session stays on {entry.name}, which is predicted to do as well."
        )

    def _keeps_ceilings(self, entry: PoolEntry) -> bool:
        ceilings = self._ceilings
        return ceilings is None or (
            ceilings.quick(entry.name) and ceilings.on_pace(self.costs_usd[entry.index])
        )

    def _under(self, ceilings: Ceilings, tried: frozenset[str]) -> Pick:
        """The choice where floor and ceilings allow it, else who does; what can't be kept gives way in the tier's order."""
        why = "it did not answer" if tried else "it can't serve this request"
        fit: dict[str, tuple[PoolEntry, tuple[PoolModel, ...]]] = {}
        for entry in self._live.entries.values():
            upstreams = self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple) and entry.name not in tried:
                fit[entry.name] = entry, upstreams
        floor = self.scores[self.choice] - _SAME
        entries = [entry for entry, _ in fit.values()]
        if ceilings.precedence[0] == "accuracy" and not any(self.scores[e.index] >= floor for e in entries):
            return self._stand_in(tried, why)
        order = ceilings.precedence
        tests: dict[Ceiling, Callable[[PoolEntry], bool]] = {
            "accuracy": lambda entry: self.scores[entry.index] >= floor,
            "latency": lambda entry: ceilings.quick(entry.name),
            "budget": lambda entry: ceilings.on_pace(self.costs_usd[entry.index]),
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
            entry = max(kept, key=lambda entry: (self.scores[entry.index], -self.costs_usd[entry.index]))
        else:
            chosen = [entry for entry in kept if entry.index == self.choice]
            entry = chosen[0] if chosen else min(kept, key=self._price)
        left = f"{self._live.router.models[self.choice]} was chosen; {entry.name} is what the tier's ceilings leave."
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
        cost = self.costs_usd[entry.index]
        if any(cost > left.whole_usd for left in ceilings.lefts):  # the tier's: a key's is looked at before
            self.only_tier_budget_is_short = True
            raise NoEligibleModelError(
                "no model fits what is left of the tier's budget.",
                reasons={
                    entry.name: f"predicted cost {cost:.3g} USD is more than the tier's budget has left"
                },
            )
        below = self.scores[entry.index] < self.scores[self.choice] - _SAME
        return replace(
            self._pick(
                entry,
                fit[entry.name][1],
                "a budget's pace is overtaken: the cheapest model serves.",
            ),
            gave_way=("accuracy",) if below else (),
        )

    def _stand_in(self, tried: frozenset[str], why: str) -> Pick:
        choice = self._live.router.models[self.choice]
        fit: list[tuple[PoolEntry, tuple[PoolModel, ...]]] = []
        refused: dict[str, str] = {}
        for entry in self._live.entries.values():
            upstreams = "it failed" if entry.name in tried else self._eligibility.upstreams(entry)
            if isinstance(upstreams, tuple):
                fit.append((entry, upstreams))
            else:
                refused[entry.name] = upstreams
        floor = self.scores[self.choice] - _SAME
        good = [found for found in fit if self.scores[found[0].index] >= floor]
        if good:
            entry, upstreams = min(good, key=lambda found: self._price(found[0]))
            reason = (
                f"{choice} was chosen, but {why}; {entry.name} is the cheapest model predicted to do as well."
            )
            return self._pick(entry, upstreams, reason)
        best_effort = self._ask.tier is not None and self._ask.tier.on_infeasible == "best_effort"
        if fit and best_effort:
            entry, upstreams = max(fit, key=lambda found: self.scores[found[0].index])
            reason = (
                f"{choice} was chosen, but {why}, and no model predicted to do as well is left: best effort."
            )
            return self._pick(entry, upstreams, reason)
        dear = [index for index in self._eligibility.too_dear if best_effort or self.scores[index] >= floor]
        if dear:
            raise self._infeasible_cost(dear)
        for entry, _ in fit:
            refused[entry.name] = (
                f"predicted to do worse ({self.scores[entry.index]:.3f}) than {choice} ({floor:.3f})"
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
        return self.costs_usd[entry.index], entry.usd_per_token

    def _pick(self, entry: PoolEntry, upstreams: tuple[PoolModel, ...], reason: str) -> Pick:
        chosen = entry.index == self.choice
        return Pick(
            entry=entry,
            upstreams=upstreams,
            predicted_cost_usd=self.costs_usd[entry.index],
            propensity=self.share if chosen else 0.0,
            certified=chosen
            and not self.unfamiliar
            and not self.explored
            and self.plan is not None
            and self.plan.certificate is not None
            and self.steering is None,
            reason="" if chosen and not self._locked else reason,
        )
