"""Which share of recent requests each model answered, and how much more often the answers of a rare one are audited."""

from __future__ import annotations

__all__ = ["ModelTraffic"]

_MEMORY = 1_000
"""Requests that shares are taken over, the latest counting most."""


class ModelTraffic:
    """Shares of the requests answered, that forget exponentially; they begin as if every model were asked alike.

    Answers drawn at one rate bring a seldom asked model few audits, and what became of it is found out late: a router
    that asks a model once in a hundred requests gathers one audit of it in two thousand at 5%.
    """

    def __init__(self) -> None:
        self._requests = 0
        self._shares: dict[str, tuple[float, int]] = {}  # and after how many requests it was that

    def answered(self, model: str, *, models: int) -> None:
        """`model` answered a request; there are `models` of them."""
        before = self.share_of(model, models=models)
        self._requests += 1
        self._shares[model] = before + (1.0 - before) / _MEMORY, self._requests

    def share_of(self, model: str, *, models: int) -> float:
        """Its share of recent requests, in [0, 1]; 0 where it has not been asked for very long."""
        share, at = self._shares.get(model, (1.0 / models, 0))
        return float(share * (1.0 - 1.0 / _MEMORY) ** (self._requests - at))

    def audit_rate(self, model: str, rate: float, *, models: int, evenness: float) -> float:
        """The rate at which this model's next answer is drawn for audit.

        Parameters
        ----------
        rate
            The rate of models that are asked often, in (0, 1].
        models
            How many there are.
        evenness
            Which part of an even share of the audits each model gets at least, in [0, 1]; 0: all are drawn at `rate`.

        Returns
        -------
        float
            `rate` or more, 1 at most. It depends on who answers and on what went before, not on the answer, and is to
            be stored with the decision. Audits grow by the part `evenness` at most.
        """
        least = evenness / models
        share = self.share_of(model, models=models)
        return rate * least / max(share, rate * least) if share < least else rate
