"""What a tier's audits say about its floor now: a state, and the numbers that it rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proteus_router.control.agreement import Agreement
from proteus_router.control.audit_need import audits_to_decide
from proteus_router.control.confidence_sequence import Bounds

__all__ = ["CertificateState", "LiveCertificate", "live_certificate"]

CertificateState = Literal["insufficient_evidence", "holding", "at_risk", "violated", "stale", "conflict"]

_WARN_AT, _CALM_AT = 3.0, 1.5


@dataclass(frozen=True, slots=True)
class LiveCertificate:
    """The mean expected score of a tier's requests since its reset (or within its window) against its floor.

    Attributes
    ----------
    state
        ``holding``: the whole interval is at or above the floor. ``violated``: it is below. Between them,
        ``at_risk``: the odds against the floor reached 3 to 1 and have not fallen under 1.5 since, else
        ``insufficient_evidence``. ``stale``: pool, prices or policy have changed since the reset. ``conflict``: the
        sources of the scores disagree on the mean.
    accuracy_target
        The floor.
    bounds
        Interval, estimate, requests, audits.
    audits_needed
        About how many audits would decide, if the estimate were right; None once decided, or with no gap at all.
    reason
        A sentence.
    stale_reason
        What changed, or "".
    conflicts
        The sources that disagree.
    assumption
        What the interval rests on, in words.
    """

    state: CertificateState
    accuracy_target: float
    bounds: Bounds
    audits_needed: int | None
    reason: str
    stale_reason: str
    conflicts: tuple[Agreement, ...]
    assumption: str

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value; JSON-able."""
        return dataclasses.asdict(self)


def live_certificate(
    bounds: Bounds,
    *,
    accuracy_target: float,
    previous: CertificateState | None = None,
    stale_reason: str = "",
    agreements: Sequence[Agreement] = (),
) -> LiveCertificate:
    """The certificate that `bounds` amounts to.

    ``holding`` and ``violated`` are said and taken back by the interval alone: they claim something, and a claim must
    not outlive its evidence. Only the warning ``at_risk`` remembers `previous`, so that it doesn't flicker.

    Parameters
    ----------
    bounds
        Of the sequence since the reset, or of the rolling one.
    previous
        The state last reported for this tier.
    stale_reason
        Why the evidence speaks of something that is no longer served; "" where it doesn't.
    agreements
        Of the sources that scored this tier.
    """
    conflicts = tuple(found for found in agreements if found.conflict)
    state = _state(bounds, accuracy_target, previous, bool(stale_reason), bool(conflicts))
    needed = None
    if bounds.lower < accuracy_target <= bounds.upper:
        needed = audits_to_decide(bounds.estimate - accuracy_target, bounds.estimate)
    return LiveCertificate(
        state=state,
        accuracy_target=accuracy_target,
        bounds=bounds,
        audits_needed=needed,
        reason=_reason(state, bounds, accuracy_target, needed, stale_reason, conflicts),
        stale_reason=stale_reason,
        conflicts=conflicts,
        assumption=_ASSUMPTION,
    )


def _state(
    bounds: Bounds, floor: float, previous: CertificateState | None, stale: bool, conflict: bool
) -> CertificateState:
    if stale:
        return "stale"
    if conflict:
        return "conflict"
    if bounds.upper < floor:
        return "violated"
    if bounds.lower >= floor:
        return "holding"
    warned = previous in ("at_risk", "violated")
    return "at_risk" if bounds.odds_below >= (_CALM_AT if warned else _WARN_AT) else "insufficient_evidence"


def _reason(
    state: CertificateState,
    bounds: Bounds,
    floor: float,
    needed: int | None,
    stale_reason: str,
    conflicts: tuple[Agreement, ...],
) -> str:
    seen = (
        f"{bounds.audits} audits of {bounds.requests} requests put the mean score between {bounds.lower:.4f} and "
        f"{bounds.upper:.4f} (confidence {bounds.confidence:g}, at every look)"
    )
    if state == "stale":
        return f"{stale_reason.rstrip('.')}. Before that, {seen}. Reset the tier to start anew."
    if state == "conflict":
        said = "; ".join(
            f"{found.source} scores {found.difference:+.3f} against {found.reference} on {found.pairs} answers"
            for found in conflicts
        )
        return f"The sources disagree: {said}. Until that is settled, {seen} proves nothing about {floor:g}."
    if state == "holding":
        return f"{seen}: at or above {floor:g}."
    if state == "violated":
        return f"{seen}: below {floor:g}."
    more = (
        f" About {max(needed - bounds.audits, 1)} more would tell, if it is as estimated." if needed else ""
    )
    if state == "at_risk":
        return f"{seen}; the odds that it is below {floor:g} are {bounds.odds_below:.1f} to 1.{more}"
    return f"{seen}: too wide to tell on which side of {floor:g}.{more}"


_ASSUMPTION = (
    "Each request was audited with the stated probability, by a coin thrown without regard to its score, and whether "
    "and when an audit closes does not depend on the score either. Models, traffic, prices and policy may change in "
    "any way: the interval is for the mean expected score of the requests served, as they came."
)
