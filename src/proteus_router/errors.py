"""Every error the package raises on purpose, as one tree.

::

    ProteusError                    .code  .hint  .exit_code  .http_status
    ├─ ConfigError                  unknown key, value out of range; names file, key, nearest key
    ├─ DataError
    │  ├─ SchemaError               a file, column, row or value that is not as documented
    │  ├─ LeakageError              the same text on two sides of a split
    │  └─ InsufficientDataError     .needed  .available
    ├─ EncoderError                 weights missing, changed, or an extra not installed
    ├─ ArtifactError
    │  ├─ ArtifactNotFoundError
    │  ├─ ArtifactVersionError      written by a newer release
    │  └─ ArtifactIntegrityError    truncated, edited, or incomplete
    ├─ TargetError
    │  ├─ InvalidTargetError        not a fraction in (0, 1)
    │  ├─ InfeasibleTargetError     .best_certified
    │  └─ InfeasibleCostError       .least_cost_usd
    ├─ RoutingError
    │  ├─ InvalidQueryError         empty, too long, not text
    │  ├─ InvalidRequestError       a body or a field that is not as documented
    │  ├─ RequestTooLargeError      a body too long or too deeply nested
    │  ├─ UnknownModelError         no such model or tier
    │  └─ NoEligibleModelError      .reasons
    ├─ TrainingError
    │  └─ DivergenceError           .step  .metric
    ├─ UpstreamError                .model  .retryable  .attempts  .retry_after_s
    │  ├─ UpstreamConnectError      refused, reset, or no address
    │  ├─ UpstreamTimeoutError      silent for too long, or past the request's deadline
    │  ├─ UpstreamRateLimitedError  it answered 429
    │  ├─ UpstreamReplyError        it answered, but with a failure or with something that can't be read
    │  ├─ UpstreamRejectedError     it refused what the caller sent; .body is its own answer
    │  └─ UpstreamUnavailableError  not called: its breaker is open
    ├─ StoreError
    │  ├─ StoreUnavailableError     no answer from the database, or it can't write; nothing was acknowledged
    │  ├─ StoreVersionError         its tables were made by a newer release
    │  ├─ DecisionNotFoundError     unknown, too old, or another tenant's
    │  ├─ KeyNotFoundError
    │  ├─ InvalidFeedbackError      score not in [0, 1], no source, or too many at once
    │  └─ FeedbackConflictError     .stored_score: the same source said otherwise before
    └─ AccessError
       ├─ AuthenticationError       no key, an unknown one, or a revoked one
       ├─ PermissionDeniedError     the key is good, but not for this
       ├─ InvalidKeyError           a key that can't be made: a limit below 0, a budget without its period
       ├─ RateLimitedError          .retry_after_s
       └─ BudgetExhaustedError      .retry_after_s

Each class fixes its exit code (what a shell sees) and its HTTP status (what a client of a server sees), so
that no caller has to guess.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AccessError",
    "ArtifactError",
    "ArtifactIntegrityError",
    "ArtifactNotFoundError",
    "ArtifactVersionError",
    "AuthenticationError",
    "BudgetExhaustedError",
    "ConfigError",
    "DataError",
    "DecisionNotFoundError",
    "DivergenceError",
    "EncoderError",
    "FeedbackConflictError",
    "InfeasibleCostError",
    "InfeasibleTargetError",
    "InsufficientDataError",
    "InvalidFeedbackError",
    "InvalidKeyError",
    "InvalidQueryError",
    "InvalidRequestError",
    "InvalidTargetError",
    "KeyNotFoundError",
    "LeakageError",
    "NoEligibleModelError",
    "PermissionDeniedError",
    "ProteusError",
    "RateLimitedError",
    "RequestTooLargeError",
    "RoutingError",
    "SchemaError",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "TargetError",
    "TrainingError",
    "UnknownModelError",
    "UpstreamConnectError",
    "UpstreamError",
    "UpstreamRateLimitedError",
    "UpstreamRejectedError",
    "UpstreamReplyError",
    "UpstreamTimeoutError",
    "UpstreamUnavailableError",
]


class ProteusError(Exception):
    """Base of every deliberate error.

    Parameters
    ----------
    message
        What was given and what is allowed.
    hint
        What to do next, one sentence; printed after the message.
    """

    code = "proteus_error"
    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(ProteusError):
    code = "invalid_config"
    exit_code = 2
    http_status = 500


class DataError(ProteusError):
    code = "invalid_data"
    exit_code = 3
    http_status = 400


class SchemaError(DataError):
    code = "invalid_schema"


class LeakageError(DataError):
    code = "leakage"


class InsufficientDataError(DataError):
    code = "insufficient_data"

    def __init__(self, message: str, *, needed: int, available: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.available = available


class EncoderError(ProteusError):
    code = "encoder_unavailable"
    exit_code = 4
    http_status = 503


class ArtifactError(ProteusError):
    code = "invalid_artifact"
    exit_code = 5
    http_status = 503


class ArtifactNotFoundError(ArtifactError):
    code = "artifact_not_found"


class ArtifactVersionError(ArtifactError):
    code = "artifact_version"


class ArtifactIntegrityError(ArtifactError):
    code = "artifact_integrity"


class TargetError(ProteusError):
    code = "target_error"
    exit_code = 6
    http_status = 400


class InvalidTargetError(TargetError):
    code = "invalid_target"


class InfeasibleTargetError(TargetError):
    code = "infeasible_target"
    exit_code = 7
    http_status = 422

    def __init__(self, message: str, *, best_certified: float | None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.best_certified = best_certified


class InfeasibleCostError(TargetError):
    """No model that keeps the target is predicted to cost as little as the caller allows."""

    code = "infeasible_cost"
    exit_code = 7
    http_status = 422

    def __init__(self, message: str, *, least_cost_usd: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.least_cost_usd = least_cost_usd


class RoutingError(ProteusError):
    code = "routing_error"
    exit_code = 8
    http_status = 400


class InvalidQueryError(RoutingError):
    code = "invalid_query"


class InvalidRequestError(RoutingError):
    code = "invalid_request"


class RequestTooLargeError(RoutingError):
    code = "request_too_large"
    http_status = 413


class UnknownModelError(RoutingError):
    code = "model_not_found"
    http_status = 404


class NoEligibleModelError(RoutingError):
    code = "no_eligible_model"
    http_status = 503

    def __init__(self, message: str, *, reasons: Mapping[str, str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reasons = dict(reasons)


class TrainingError(ProteusError):
    code = "training_failed"
    exit_code = 9
    http_status = 500


class DivergenceError(TrainingError):
    code = "training_diverged"

    def __init__(self, message: str, *, step: int, metric: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.metric = metric


class UpstreamError(ProteusError):
    """One model could not answer.

    Attributes
    ----------
    model
        Its name in the pool.
    retryable
        Whether another model may be asked instead; False where the fault is the caller's.
    attempts
        Calls made to this model for the request.
    retry_after_s
        When the upstream asked to be called again, or None.
    """

    code = "upstream_error"
    exit_code = 11
    http_status = 502

    def __init__(
        self,
        message: str,
        *,
        model: str,
        retryable: bool = True,
        attempts: int = 1,
        retry_after_s: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.retryable = retryable
        self.attempts = attempts
        self.retry_after_s = retry_after_s


class UpstreamConnectError(UpstreamError):
    code = "upstream_connect"


class UpstreamTimeoutError(UpstreamError):
    code = "upstream_timeout"
    http_status = 504


class UpstreamRateLimitedError(UpstreamError):
    code = "upstream_rate_limited"
    http_status = 429


class UpstreamReplyError(UpstreamError):
    code = "upstream_reply"


class UpstreamUnavailableError(UpstreamError):
    code = "upstream_unavailable"
    http_status = 503


class UpstreamRejectedError(UpstreamError):
    """The upstream refused the request itself: its status and body go to the caller as they came.

    Attributes
    ----------
    status, body, content_type
        The upstream's own answer.
    """

    code = "upstream_rejected"
    http_status = 400

    def __init__(
        self,
        message: str,
        *,
        model: str,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        attempts: int = 1,
        hint: str = "",
    ) -> None:
        super().__init__(message, model=model, retryable=False, attempts=attempts, hint=hint)
        self.status = status
        self.body = body
        self.content_type = content_type


class StoreError(ProteusError):
    code = "store_error"
    exit_code = 12
    http_status = 503


class StoreUnavailableError(StoreError):
    code = "store_unavailable"


class StoreVersionError(StoreError):
    code = "store_version"


class DecisionNotFoundError(StoreError):
    code = "decision_not_found"
    http_status = 404


class KeyNotFoundError(StoreError):
    code = "key_not_found"
    http_status = 404


class InvalidFeedbackError(StoreError):
    code = "invalid_feedback"
    http_status = 400


class FeedbackConflictError(StoreError):
    code = "feedback_conflict"
    http_status = 409

    def __init__(self, message: str, *, stored_score: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stored_score = stored_score


class AccessError(ProteusError):
    code = "access_error"
    exit_code = 13
    http_status = 403


class AuthenticationError(AccessError):
    code = "invalid_api_key"
    http_status = 401


class PermissionDeniedError(AccessError):
    code = "permission_denied"


class InvalidKeyError(AccessError):
    code = "invalid_key"
    http_status = 400


class RateLimitedError(AccessError):
    code = "rate_limit_exceeded"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class BudgetExhaustedError(AccessError):
    code = "budget_exhausted"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
