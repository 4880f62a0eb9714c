"""The closed loop: audits, live certificates, tracking, drift. Pure numerics; no HTTP, no store."""

from proteus_router.control.agreement import Agreement, SourceAgreement
from proteus_router.control.audit_need import AuditNeed, audit_need, audits_to_decide, supported_width
from proteus_router.control.audits import audit_coin, is_audited, rate_with_minimum
from proteus_router.control.confidence_sequence import Bounds, ConfidenceSequence
from proteus_router.control.input_drift import InputDrift, InputReference, InputShift
from proteus_router.control.integral import Gains, IntegralControl, TrackingStatus, long_run_shortfall
from proteus_router.control.live_certificate import CertificateState, LiveCertificate, live_certificate
from proteus_router.control.loop import AuditedOutcome, ControlLoop, Observation, TierLoop
from proteus_router.control.model_traffic import ModelTraffic
from proteus_router.control.operating_points import Frontier, TrackedMix, corrected, reinvert
from proteus_router.control.quarantine import Collapse, CollapseWatch
from proteus_router.control.recalibration import ModelChange, Recalibration
from proteus_router.control.rolling import RollingSequence

__all__ = [
    "Agreement",
    "AuditNeed",
    "AuditedOutcome",
    "Bounds",
    "CertificateState",
    "Collapse",
    "CollapseWatch",
    "ConfidenceSequence",
    "ControlLoop",
    "Frontier",
    "Gains",
    "InputDrift",
    "InputReference",
    "InputShift",
    "IntegralControl",
    "LiveCertificate",
    "ModelChange",
    "ModelTraffic",
    "Observation",
    "Recalibration",
    "RollingSequence",
    "SourceAgreement",
    "TierLoop",
    "TrackedMix",
    "TrackingStatus",
    "audit_coin",
    "audit_need",
    "audits_to_decide",
    "corrected",
    "is_audited",
    "live_certificate",
    "long_run_shortfall",
    "rate_with_minimum",
    "reinvert",
    "supported_width",
]
