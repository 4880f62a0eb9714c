"""How far a judge can be trusted: its scores beside those of people, on the answers that both have scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proteus_router.control import Agreement, SourceAgreement

__all__ = ["HumanAgreement", "agreement_of"]


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """A judge beside another source.

    Attributes
    ----------
    mean
        Of the difference of scores, with its interval; what moves a certificate.
    same_verdict
        Share of answers on which both are at 0.5 or above, or both below.
    kappa
        Cohen's: that share, less what two would agree on by chance; None where one of them always says the same.
    """

    mean: Agreement
    same_verdict: float
    kappa: float | None


def agreement_of(source: str, other: str, pairs: Sequence[tuple[float, float]]) -> HumanAgreement | None:
    """Of (score by `source`, score by `other`) pairs; None for none."""
    if not pairs:
        return None
    found = SourceAgreement(source, other)
    for mine, theirs in pairs:
        found.add(mine, theirs)
    verdicts = [(mine >= 0.5, theirs >= 0.5) for mine, theirs in pairs]
    same = sum(mine == theirs for mine, theirs in verdicts) / len(pairs)
    first = sum(mine for mine, _ in verdicts) / len(pairs)
    second = sum(theirs for _, theirs in verdicts) / len(pairs)
    chance = first * second + (1.0 - first) * (1.0 - second)
    kappa = None if chance >= 1.0 else (same - chance) / (1.0 - chance)
    return HumanAgreement(found.report(), same, kappa)
