"""What the router makes of one request: predictions, the operating point's choice, and what is tried in its place."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from proteus_router.routing.router import Plan
from proteus_router.routing.target_map import MOST_ACCURATE
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.eligibility import Eligibility
from proteus_router.serving.app.exploration import Tries
from proteus_router.serving.app.live import Live
from proteus_router.serving.app.newcomers import share_of_newcomers
from proteus_router.serving.app.pick import Pick
from proteus_router.serving.ceilings import Ceilings
from proteus_router.serving.control import Steering

__all__ = ["Drawing"]

_TOKENS = 1_000.0  # of a request, where every known model is free and nothing tells


class Drawing:
    """The draw of one request's model, before it is asked whether that model can serve.

    Parameters
    ----------
    text
        What the router reads; "": nothing can be told from it.
    steering
        How the tier is served where it is tracked; concerns requests at the tier's own floor.
    rng
        Source of the coins.

    Attributes
    ----------
    predictions
        The artifact's.
    scores, costs_usd
        By `PoolEntry.index`, as they are decided by: corrected where the tier is tracked, newcomers' supposed.
    unfamiliar
        Why nothing can be predicted of the request, or "".
    choice
        Index of the model that was drawn; -1 where a model was named.
    chances
        Probability of every model that could be drawn.
    explored
        Whether the choice is not the operating point's.
    newcomer
        What is to be tried in the place of the choice, or None.

    Raises
    ------
    InfeasibleTargetError
        The target can't be certified and the tier does not serve without.
    """

    def __init__(
        self, live: Live, ask: Ask, text: str, *, steering: Steering | None, rng: random.Random
    ) -> None:
        self._live, self._ask, self._rng = live, ask, rng
        self.plan: Plan | None = None
        if ask.tier is not None and ask.accuracy_target is not None:
            self.plan = live.router.plan(
                ask.accuracy_target, guarantee=ask.tier.guarantee, on_infeasible=ask.tier.on_infeasible
            )
        self._at_floor = ask.tier is not None and ask.accuracy_target == ask.tier.accuracy_target
        self.steering = steering if self._at_floor else None
        self.predictions = live.router.predict([text])
        seen = self.predictions if self.steering is None else self.steering.seen(self.predictions)
        self._seen = seen
        self.scores: list[float] = seen.scores[0].tolist()
        self.costs_usd: list[float] = seen.costs_usd[0].tolist()
        self.unfamiliar = self._unfamiliar(
            text, None if seen.known_shares is None else float(seen.known_shares[0])
        )
        self.explored = False
        self.newcomer: Pick | None = None
        self.choice, self._other, self.chances = self._draw()
        if live.newcomers:
            self._suppose()

    @property
    def share(self) -> float:
        """Probability of the choice; where a newcomer is tried it can only stand in for that, which is no draw."""
        return self.chances.get(self.choice, 1.0) if self.newcomer is None else 0.0

    @property
    def certified(self) -> bool:
        """Whether the offline certificate speaks of the choice."""
        return (
            self.plan is not None
            and self.plan.certificate is not None
            and self.steering is None
            and not self.unfamiliar
            and not self.explored
        )

    @property
    def internal_target(self) -> float | None:
        """Of the operating point that serves; None where a model was named."""
        if self.steering is not None:
            return self.steering.mix.internal_target
        return None if self.plan is None else self.plan.mix.internal_target

    def explore(self, eligibility: Eligibility, ceilings: Ceilings | None) -> None:
        """Perhaps draw another model than the operating point's choice, or a newcomer in its place."""
        tier, base = self._ask.tier, self.chances
        if tier is None or self.plan is None or self.unfamiliar or tier.exploration.share == 0.0:
            return
        if any(name in self._live.newcomers for name in tier.exploration.newcomers):
            self._try_newcomer(tier.exploration.newcomers, eligibility, ceilings)
            return
        # Those that the router would take at some other target: of the others nothing needs to be known.
        rivals = set(self._live.router.choose_all(self._seen)[:, 0].tolist())
        open_to = [
            entry.index
            for entry in self._live.entries.values()
            if entry.index in rivals and isinstance(eligibility.upstreams(entry), tuple)
        ]
        above = (self.internal_target or 0.0) - (self._ask.accuracy_target or 1.0)
        tries = Tries.of(base, self.scores, open_to, share=tier.exploration.share, above_floor=above)
        if self._rng.random() < tries.share:
            drawn = self._rng.choice(tries.models[self.choice])
            self.explored, self.choice = drawn not in base, drawn
        self.chances = tries.chances

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
            other = self._live.router.models[self._other]
            said.append(f"Drawn with probability {self.share:.3f}; otherwise {other}.")
        return tuple(said)

    def predicted_score(self, pick: Pick) -> float | None:
        """The artifact's, which audits are held against; None: of a newcomer nothing is known."""
        scores, index = self.predictions.scores, pick.entry.index
        return float(scores[0, index]) if index < scores.shape[1] else None

    @property
    def as_predicted(self) -> tuple[Sequence[float | None], Sequence[float]]:
        """Scores and costs of the artifact by `PoolEntry.index`; of a newcomer no score, and its supposed cost."""
        if self.steering is None and not self._live.newcomers:
            return self.scores, self.costs_usd
        scores, costs = self.predictions.scores[0].tolist(), self.predictions.costs_usd[0].tolist()
        return [*scores, *[None] * len(self._live.newcomers)], [*costs, *self.costs_usd[len(costs) :]]

    def certificate(self) -> dict[str, Any] | None:
        """The promise behind this request's operating point; ``stale`` where billing prices moved away.

        ``covers`` is False where the tier is tracked: its operating point is no longer the certified one.
        """
        offline = None if self.plan is None else self._live.certificate_of(self.plan)
        if offline is None or self.steering is None:
            return offline
        return {**offline, "covers": False}

    def _unfamiliar(self, text: str, known_share: float | None) -> str:
        least = self._live.settings.routing.min_known_words
        if not text:
            return "The request holds no text to judge by."
        if known_share is not None and known_share < least:
            return f"Only {known_share:.0%} of its words are known from training, less than {least:.0%}."
        return ""

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

    def _try_newcomer(
        self, names: Sequence[str], eligibility: Eligibility, ceilings: Ceilings | None
    ) -> None:
        entries = [self._live.newcomers[name] for name in names if name in self._live.newcomers]
        open_to = [
            (entry, upstreams)
            for entry in entries
            if isinstance(upstreams := eligibility.upstreams(entry), tuple)
            and (ceilings is None or ceilings.keeps(entry.name, self.costs_usd[entry.index]))
        ]
        floor, expected = self._ask.accuracy_target, self.internal_target
        if not open_to or not self._at_floor or floor is None or expected is None:
            return
        assert self._ask.tier is not None
        share = share_of_newcomers(self._ask.tier.exploration.share, internal_target=expected, floor=floor)
        each = share / len(open_to)
        if self._rng.random() < share:
            entry, upstreams = self._rng.choice(open_to)
            self.newcomer = Pick(entry, upstreams, self.costs_usd[entry.index], each, False, "")
            self.explored = True
        chances = {index: chance * (1.0 - share) for index, chance in self.chances.items()}
        self.chances = chances | {entry.index: each for entry, _ in open_to}

    def _draw(self) -> tuple[int, int, dict[int, float]]:
        """The choice, the choice of the operating point that the coin did not pick, the probabilities of both."""
        router, plan, predictions = self._live.router, self.plan, self._seen
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
