"""One look at a tier: what its audits say now, and how it is steered; plain values for endpoints and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from proteus_router.control import (
    Agreement,
    AuditNeed,
    CertificateState,
    LiveCertificate,
    TierLoop,
    TrackingStatus,
    audit_need,
    long_run_shortfall,
)
from proteus_router.serving.control.fold import TierEvidence
from proteus_router.serving.records import TierRow
from proteus_router.serving.settings import TierSettings

__all__ = ["STATES", "TierView", "view_of"]

STATES: tuple[CertificateState, ...] = (
    "insufficient_evidence",
    "holding",
    "at_risk",
    "violated",
    "stale",
    "conflict",
)


@dataclass(frozen=True, slots=True)
class TierView:
    """What is known of a tier.

    Attributes
    ----------
    state
        Of the certificate that the configuration names: `since_reset` or `recent`.
    open_audits
        Drawn, without a score yet.
    audit_share
        In force now; raised above the configured one where the tier is rare.
    shortfall
        How far below the floor the expected mean score of a tracked tier's audited requests can be at most, where its
        strongest point can reach the floor; None where it is not tracked or was never audited.
    """

    name: str
    epoch: int
    since: float
    state: CertificateState
    state_since: float
    scope: Literal["since_reset", "recent"]
    since_reset: LiveCertificate
    recent: LiveCertificate
    requests: int
    drawn: int
    open_audits: int
    audit_share: float
    tracking: TrackingStatus | None
    need: AuditNeed | None
    shortfall: float | None
    sources: Mapping[str, int]
    agreements: tuple[Agreement, ...]

    @property
    def certificate(self) -> LiveCertificate:
        """The one that `state` is of."""
        return self.recent if self.scope == "recent" else self.since_reset

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        tracking: dict[str, Any] | None = None
        if self.tracking is not None and self.need is not None:
            tracking = {
                **asdict(self.tracking),
                "shortfall_at_most": self.shortfall,
                "audits": asdict(self.need),
            }
        return {
            "state": self.state,
            "state_since": self.state_since,
            "scope": self.scope,
            "reason": self.certificate.reason,
            "since": self.since,
            "requests": self.requests,
            "audits": {
                "drawn": self.drawn,
                "open": self.open_audits,
                "share": self.audit_share,
                "by_source": dict(self.sources),
            },
            "since_reset": _numbers(self.since_reset),
            "recent": _numbers(self.recent),
            "assumption": self.certificate.assumption,
            "tracking": tracking,
            "agreements": [asdict(found) for found in self.agreements],
        }


def view_of(
    row: TierRow, evidence: TierEvidence, loop: TierLoop, settings: TierSettings, *, audit_share: float
) -> TierView:
    """A tier as its counters and its folded scores show it.

    Parameters
    ----------
    row
        Read after the scores were, so that it counts every request that they belong to.
    """
    open_audits = max(0, row.drawn - loop.since_reset.audits)
    folded_recently = loop.recent.audits(row.requests)
    scope = settings.audits.scope
    agreements = evidence.agreements

    def certificate(*, recent: bool) -> LiveCertificate:
        return loop.certificate(
            row.requests,
            recent=recent,
            open_audits=max(0, row.drawn_recently - folded_recently) if recent else open_audits,
            previous=_as_state(row.state) if recent == (scope == "recent") else None,
            stale_reason=evidence.stale_reason,
            agreements=agreements,
        )

    since_reset, latest = certificate(recent=False), certificate(recent=True)
    tracking = loop.tracking(row.requests)
    wanted = settings.tracking
    shortfall = None
    if loop.control is not None and loop.control.audits:
        shortfall = long_run_shortfall(loop.control.audits, loop.control.gains)
    return TierView(
        name=row.name,
        epoch=row.epoch,
        since=evidence.since,
        state=(latest if scope == "recent" else since_reset).state,
        state_since=row.state_since,
        scope=scope,
        since_reset=since_reset,
        recent=latest,
        requests=row.requests,
        drawn=row.drawn,
        open_audits=open_audits,
        audit_share=audit_share,
        tracking=tracking,
        need=None
        if tracking is None
        else audit_need(min(audit_share, 1.0), width=wanted.width, horizon=wanted.horizon),
        shortfall=shortfall,
        sources=dict(evidence.sources),
        agreements=tuple(agreements),
    )


def _as_state(text: str) -> CertificateState | None:
    for state in STATES:
        if text == state:
            return state
    return None


def _numbers(certificate: LiveCertificate) -> dict[str, Any]:
    return {
        "state": certificate.state,
        **asdict(certificate.bounds),
        "audits_needed": certificate.audits_needed,
        "stale_reason": certificate.stale_reason or None,
    }
