"""What a tier's evidence was gathered under, and what it speaks of: kept with it, compared with what is served now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proteus_router.control import Gains, TierLoop

__all__ = ["Subject", "TierSpec"]


@dataclass(frozen=True, slots=True)
class TierSpec:
    """How a tier's evidence is gathered; another spec begins it anew.

    Attributes
    ----------
    share
        The usual share of audits, and the lowest.
    window
        Requests of the recent certificate.
    start
        Internal target that tracking began at; None: not tracked.
    """

    accuracy_target: float
    share: float
    window: int
    start: float | None

    def loop(self) -> TierLoop:
        """The evidence, with nothing in it."""
        return TierLoop(
            self.accuracy_target,
            rate=self.share,
            start=self.start,
            gains=Gains.at_rate(self.share),
            window=self.window,
        )

    def agrees_with(self, other: TierSpec) -> bool:
        """Whether evidence can go on; where tracking began does not matter to that."""
        return (self.accuracy_target, self.share, self.window, self.start is None) == (
            other.accuracy_target,
            other.share,
            other.window,
            other.start is None,
        )

    def to_state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TierSpec:
        return cls(**state)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is served: the evidence is stale once this is another.

    Attributes
    ----------
    router
        Fingerprint of the policy.
    models
        Pool name -> the artifact's model that it runs.
    prices
        Pool name -> USD per input and output token; None where they are not known.
    """

    router: str
    models: Mapping[str, str]
    prices: Mapping[str, tuple[float, float] | None]

    def change_to(self, now: Subject) -> str:
        """What has changed, in words; "" for nothing."""
        said = []
        if now.router != self.router:
            said.append("the router is another one")
        pool = [f"{name} was added" for name in now.models if name not in self.models]
        pool += [f"{name} was taken out" for name in self.models if name not in now.models]
        pool += [
            f"{name} runs {now.models[name]} instead of {model}"
            for name, model in self.models.items()
            if now.models.get(name, model) != model
        ]
        prices = [
            f"the price of {name} changed"
            for name, price in self.prices.items()
            if name in now.prices and now.prices[name] != price
        ]
        return "; ".join((*said, *pool, *prices))

    def to_state(self) -> dict[str, Any]:
        prices = {name: None if price is None else list(price) for name, price in self.prices.items()}
        return {"router": self.router, "models": dict(self.models), "prices": prices}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Subject:
        prices = {
            name: None if price is None else (price[0], price[1]) for name, price in state["prices"].items()
        }
        return cls(state["router"], dict(state["models"]), prices)
