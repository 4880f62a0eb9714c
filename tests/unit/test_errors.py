from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proteus_router import errors
from proteus_router.errors import ProteusError

# class -> (code, exit code, HTTP status): the promise to shells and clients, written out a second time.
PROMISED = {
    "ConfigError": ("invalid_config", 2, 500),
    "SchemaError": ("invalid_schema", 3, 400),
    "LeakageError": ("leakage", 3, 400),
    "InsufficientDataError": ("insufficient_data", 3, 400),
    "EncoderError": ("encoder_unavailable", 4, 503),
    "ArtifactNotFoundError": ("artifact_not_found", 5, 503),
    "ArtifactVersionError": ("artifact_version", 5, 503),
    "ArtifactIntegrityError": ("artifact_integrity", 5, 503),
    "InvalidTargetError": ("invalid_target", 6, 400),
    "InfeasibleTargetError": ("infeasible_target", 7, 422),
    "InfeasibleCostError": ("infeasible_cost", 7, 422),
    "InvalidQueryError": ("invalid_query", 8, 400),
    "InvalidRequestError": ("invalid_request", 8, 400),
    "RequestTooLargeError": ("request_too_large", 8, 413),
    "UnknownModelError": ("model_not_found", 8, 404),
    "NoEligibleModelError": ("no_eligible_model", 8, 503),
    "DivergenceError": ("training_diverged", 9, 500),
    "UpstreamConnectError": ("upstream_connect", 11, 502),
    "UpstreamTimeoutError": ("upstream_timeout", 11, 504),
    "UpstreamRateLimitedError": ("upstream_rate_limited", 11, 429),
    "UpstreamReplyError": ("upstream_reply", 11, 502),
    "UpstreamUnavailableError": ("upstream_unavailable", 11, 503),
    "UpstreamRejectedError": ("upstream_rejected", 11, 400),
    "StoreUnavailableError": ("store_unavailable", 12, 503),
    "StoreVersionError": ("store_version", 12, 503),
    "DecisionNotFoundError": ("decision_not_found", 12, 404),
    "KeyNotFoundError": ("key_not_found", 12, 404),
    "InvalidFeedbackError": ("invalid_feedback", 12, 400),
    "FeedbackConflictError": ("feedback_conflict", 12, 409),
    "AuthenticationError": ("invalid_api_key", 13, 401),
    "PermissionDeniedError": ("permission_denied", 13, 403),
    "InvalidKeyError": ("invalid_key", 13, 400),
    "RateLimitedError": ("rate_limit_exceeded", 13, 429),
    "BudgetExhaustedError": ("budget_exhausted", 13, 429),
}
REQUIRED: dict[str, dict[str, Any]] = {
    "InsufficientDataError": {"needed": 30, "available": 7},
    "InfeasibleTargetError": {"best_certified": 0.81},
    "InfeasibleCostError": {"least_cost_usd": 0.002},
    "NoEligibleModelError": {"reasons": {"small": "switched off"}},
    "DivergenceError": {"step": 12, "metric": "kl"},
    "UpstreamConnectError": {"model": "small"},
    "UpstreamTimeoutError": {"model": "small", "attempts": 3},
    "UpstreamRateLimitedError": {"model": "small", "retry_after_s": 2.5},
    "UpstreamReplyError": {"model": "small"},
    "UpstreamUnavailableError": {"model": "small", "retry_after_s": 8.0},
    "UpstreamRejectedError": {"model": "small", "status": 422, "body": b"{}"},
    "FeedbackConflictError": {"stored_score": 0.25},
    "RateLimitedError": {"retry_after_s": 1.5},
    "BudgetExhaustedError": {"retry_after_s": 3600.0},
}


def _tree(root: type[ProteusError]) -> Iterator[type[ProteusError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


# Other modules may be imported by now; only the package's own tree is walked.
TREE = [error for error in _tree(ProteusError) if error.__module__ == errors.__name__]
LEAVES = [error for error in TREE if not error.__subclasses__()]


def test_the_leaves_are_the_promised_ones() -> None:
    assert {leaf.__name__ for leaf in LEAVES} == set(PROMISED)


def test_no_error_is_defined_outside_the_tree() -> None:
    assert {error for error in _tree(ProteusError) if error.__module__.startswith("proteus_router")} == set(
        TREE
    )
    assert {error.__name__ for error in TREE} == set(errors.__all__)


def test_codes_are_unique_over_the_whole_tree() -> None:
    codes = [error.code for error in TREE]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_a_leaf_carries_what_a_shell_and_a_client_need(leaf: type[ProteusError]) -> None:
    details = REQUIRED.get(leaf.__name__, {})
    error = leaf("3 given, 4 needed.", hint="Give one more.", **details)
    assert (error.code, error.exit_code, error.http_status) == PROMISED[leaf.__name__]
    assert str(error) == "3 given, 4 needed. Give one more."
    assert (error.message, error.hint) == ("3 given, 4 needed.", "Give one more.")
    assert {name: getattr(error, name) for name in details} == details
    assert str(leaf("Alone.", **details)) == "Alone."
    family = next(base for base in leaf.__mro__ if ProteusError in base.__bases__)
    with pytest.raises(family):
        raise error


def test_infeasible_says_when_nothing_at_all_is_certified() -> None:
    assert errors.InfeasibleTargetError("None.", best_certified=None).best_certified is None


def test_reasons_are_the_errors_own_copy() -> None:
    reasons = {"small": "switched off"}
    error = errors.NoEligibleModelError("None left.", reasons=reasons)
    reasons.clear()
    assert error.reasons == {"small": "switched off"}
