"""What the router promises at a target, or why it can't: plain records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proteus_router.errors import ArtifactIntegrityError

__all__ = ["Certificate", "Infeasible", "OperatingMix", "Scheme"]

Scheme = Literal["split", "crossfit"]


@dataclass(frozen=True, slots=True)
class OperatingMix:
    """Two adjacent operating points and the probability of the more accurate one.

    Attributes
    ----------
    upper, lower
        Vertex indices, most accurate first; equal where no coin is needed.
    weight_upper
        Probability of `upper`, in [0, 1]. A request takes `upper` iff its uniform draw is < `weight_upper`.
    internal_target
        Estimated mean score of the mix.
    expected_cost_usd
        Estimated cost of the mix, USD per request.
    """

    upper: int
    lower: int
    weight_upper: float
    internal_target: float
    expected_cost_usd: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """With probability >= `confidence` over the evidence rows, the mean score of `internal_target` is >=
    `accuracy_target`.

    The promise concerns the mean over traffic like the evidence, at one target fixed before the evidence
    was seen (or `simultaneous` of them together); never a single query. `assumption` says in words what it
    rests on.

    Attributes
    ----------
    accuracy_target
        The floor asked for.
    internal_target
        Estimated mean score of the operating point that serves it.
    n
        Evidence rows behind the bound (after thinning, where outcomes were missing).
    confidence
        1 - delta, for all `simultaneous` targets together.
    lower_bound
        Lower confidence bound of the point's mean score; >= `accuracy_target`.
    expected_cost_usd
        Estimated USD per request.
    scheme
        ``split``: held-out rows, finite-sample theorem. ``crossfit``: out-of-fold outcomes, validity by
        simulation.
    simultaneous
        How many targets hold together at `confidence`.
    data_fingerprint, policy_fingerprint
        What it was made from and for; another policy, pool or price voids it.
    assumption
        What must be true of the traffic, in words.
    """

    accuracy_target: float
    internal_target: float
    n: int
    confidence: float
    lower_bound: float
    expected_cost_usd: float
    scheme: Scheme
    simultaneous: int
    data_fingerprint: str
    policy_fingerprint: str
    assumption: str

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value; JSON-able."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """Inverse of `to_dict`.

        Raises
        ------
        ArtifactIntegrityError
            A field is missing or unknown.
        """
        return cls(**_known_fields(cls, values))


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Why a target can't be promised, and what could be.

    Attributes
    ----------
    accuracy_target
        The floor asked for.
    best_certified
        The largest target that can be certified, rounded down to 4 decimals; None when there is none.
    best_expected
        Estimated mean score of the most accurate operating point, rounded down to 4 decimals.
    needed_n
        Evidence rows with which the most accurate point would be about as likely as not to certify the
        target; None when its estimate is below the target, so that no number of rows would do.
    n
        Evidence rows behind the most accurate point.
    confidence
        1 - delta.
    reason
        The above in a sentence.
    """

    accuracy_target: float
    best_certified: float | None
    best_expected: float
    needed_n: int | None
    n: int
    confidence: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value; JSON-able."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Infeasible:
        """Inverse of `to_dict`; raises `ArtifactIntegrityError` on a missing or unknown field."""
        return cls(**_known_fields(cls, values))


def _known_fields(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in dataclasses.fields(record)}
    if set(values) != names:
        odd = ", ".join(sorted(names ^ set(values)))
        raise ArtifactIntegrityError(f"a {record.__name__} has missing or unknown fields: {odd}.")
    return dict(values)
