"""Do two sources of scores measure the same thing? Judged on the answers that both have scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proteus_router.control.confidence_sequence import ConfidenceSequence

__all__ = ["Agreement", "SourceAgreement"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is known of the mean of (score of `source` - score of `reference`) over answers scored by both.

    `lower` and `upper` hold at all looks together with probability >= `confidence`; `conflict` says that the whole
    interval lies more than `tolerance` away from 0.
    """

    source: str
    reference: str
    pairs: int
    difference: float
    lower: float
    upper: float
    tolerance: float
    confidence: float
    conflict: bool


class SourceAgreement:
    """Folds pairs of scores into an `Agreement`.

    The mean difference is what counts, because it moves a certificate by just that much; two judges may contradict
    each other on single answers and still agree on the mean.

    Parameters
    ----------
    source, reference
        Names; the reference is usually people.
    tolerance
        Mean difference that is put up with, a fraction.
    """

    def __init__(
        self, source: str, reference: str, *, tolerance: float = 0.05, confidence: float = 0.95
    ) -> None:
        self.source = source
        self.reference = reference
        self.tolerance = tolerance
        self._sequence = ConfidenceSequence(0.5, confidence=confidence)

    def add(self, score: float, reference_score: float) -> None:
        """The two scores of one answer."""
        self._sequence.add(0.5 + 0.5 * (score - reference_score))

    def report(self) -> Agreement:
        bounds = self._sequence.bounds(self._sequence.audits)
        lower, upper = 2.0 * bounds.lower - 1.0, 2.0 * bounds.upper - 1.0
        return Agreement(
            source=self.source,
            reference=self.reference,
            pairs=bounds.audits,
            difference=2.0 * bounds.estimate - 1.0,
            lower=lower,
            upper=upper,
            tolerance=self.tolerance,
            confidence=bounds.confidence,
            conflict=lower > self.tolerance or upper < -self.tolerance,
        )

    def to_state(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "reference": self.reference,
            "tolerance": self.tolerance,
            "sequence": self._sequence.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SourceAgreement:
        found = cls(state["source"], state["reference"], tolerance=state["tolerance"])
        found._sequence = ConfidenceSequence.from_state(state["sequence"])
        return found
