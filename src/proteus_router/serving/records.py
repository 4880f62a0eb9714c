"""Frozen records that cross the borders inside the gateway: pool, decision, feedback, key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "ApiKey",
    "ApiShape",
    "Audit",
    "BudgetPeriod",
    "DecisionRecord",
    "DecisionStatus",
    "Feedback",
    "LoopEvent",
    "LoopEventKind",
    "PoolModel",
    "TierRow",
    "Timeouts",
    "Usage",
]

ApiShape = Literal["chat", "responses", "messages"]
"""POST /v1/chat/completions, POST /v1/responses, POST /v1/messages."""
BudgetPeriod = Literal["hour", "day", "month"]
Ceiling = Literal["accuracy", "latency", "budget"]
LoopEventKind = Literal["begin", "outcome", "pair", "stale", "release"]
DecisionStatus = Literal["ok", "failed", "rejected", "cancelled"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one upstream may take: to connect, to its first byte, altogether."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True)
class PoolModel:
    """One entry of the pool, ready to call.

    Attributes
    ----------
    name
        The pool's public name (LiteLLM's ``model_name``).
    proteus_model
        The artifact's model that this entry runs.
    api
        The one shape its upstream speaks; nothing is translated.
    api_base
        For example ``http://127.0.0.1:9000/v1``; the client appends ``/chat/completions``, ``/responses`` or
        ``/messages``.
    api_key
        Sent to the upstream; "" for none.
    upstream_model
        What is sent upstream as ``model``.
    input_usd_per_token, output_usd_per_token
        Billing prices.
    context_tokens
        Longest input plus output; None where unknown, and then never a reason to refuse.
    images, tools, json_mode
        What requests it may be given.
    headers
        Sent to this upstream beside the client's own.
    """

    name: str
    proteus_model: str
    api: ApiShape
    api_base: str
    api_key: str = field(repr=False)
    upstream_model: str
    input_usd_per_token: float
    output_usd_per_token: float
    context_tokens: int | None = None
    images: bool = True
    tools: bool = True
    json_mode: bool = True
    timeouts: Timeouts = Timeouts()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One request as it is remembered: one row of the table ``decisions``. JSON-able fields only.

    Attributes
    ----------
    id
        ``dec_`` and 32 hexadecimal digits.
    created_at
        Unix seconds.
    accuracy_target, internal_target
        The floor of this request and the operating point that served it; None where a pool model was named.
    certified
        Whether the model that answered is the one a certificate speaks of.
    model
        Pool name of the model that answered, or was chosen.
    requested_model
        ``model`` as the caller wrote it.
    propensity
        Probability with which `model` was drawn; None where nothing was drawn.
    latency_s, first_byte_s, overhead_s
        The whole request; until the upstream's first byte; spent in the gateway itself.
    session_id
        A hash, never the caller's own words.
    candidates
        What the router knew of every model.
    predicted_score
        Of the artifact, without corrections.
    audit_probability, audited
        Probability with which the decision could be drawn for grading, and whether it was; None where none are drawn.
    prompt, answer
        None unless the operator switched their storage on.
    task
        What kind of request it was, in the caller's words.
    """

    id: str
    created_at: float
    key_id: str | None
    tier: str | None
    accuracy_target: float | None
    internal_target: float | None
    certified: bool
    model: str
    requested_model: str
    api: ApiShape
    stream: bool
    predicted_score: float | None
    predicted_cost_usd: float | None
    cost_usd: float | None
    propensity: float | None
    input_tokens: int | None
    output_tokens: int | None
    attempts: int
    status: DecisionStatus
    error_code: str | None
    http_status: int
    latency_s: float
    first_byte_s: float | None
    overhead_s: float
    session_id: str | None
    request_id: str | None
    reasons: tuple[str, ...]
    candidates: tuple[dict[str, Any], ...]
    certificate: dict[str, Any] | None
    prompt: str | None
    answer: str | None
    router_fingerprint: str
    audit_probability: float | None = None
    audited: bool | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """An observed score of one decision; unique by (`decision_id`, `source`).

    `trusted`: given by an operator, not by a tenant about his own requests.
    """

    decision_id: str
    source: str
    score: float
    created_at: float
    key_id: str | None = None
    comment: str | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Audit:
    """One decision that was drawn for grading.

    Attributes
    ----------
    id
        Rises; what a reader goes on from.
    source, score
        Who graded it first, and how; None while it waits.
    prompt, answer
        None unless the tier keeps the text of its audits.
    """

    id: int
    decision_id: str
    tier: str
    model: str
    task: str | None
    probability: float
    drawn_at: float
    source: str | None
    score: float | None
    api: ApiShape
    stream: bool
    prompt: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class LoopEvent:
    """One row of the log that the closed loop is a fold over.

    Attributes
    ----------
    sequence
        Rises in the order of the commits, so that whoever has read up to one number has missed nothing below it.
    kind
        ``begin``: a tier's evidence starts anew; ``outcome``: an audit got its score; ``pair``: another source scored
        the same answer; ``stale``: what a tier's evidence speaks of has changed; ``release``: a model leaves quarantine.
    """

    sequence: int
    at: float
    kind: LoopEventKind
    tier: str | None
    model: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TierRow:
    """How much a tier has served since its evidence began, over all gateways, and the state last said of it.

    Attributes
    ----------
    requests, drawn
        Answered at the tier's floor, and drawn for audit among them.
    drawn_recently
        Drawn within the window that was asked about.
    """

    name: str
    epoch: int
    requests: int
    drawn: int
    drawn_recently: int
    state: str
    state_since: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A tenant's key as the gateway keeps it: everything but the secret.

    Attributes
    ----------
    tier
        Default tier; None: the server's.
    tiers, models
        What it may ask for; None: everything.
    target_range
        Smallest and largest accuracy target it may ask for; None: any.
    budget_paced
        Whether the budget is spread evenly over its period, in the tier's order of precedence.
    admin
        May use the admin API and read every tenant's decisions.
    """

    id: str
    name: str
    tier: str | None = None
    tiers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    target_range: tuple[float, float] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_usd: float | None = None
    budget_period: BudgetPeriod | None = None
    budget_paced: bool = False
    admin: bool = False
    created_at: float = 0.0
    revoked_at: float | None = None
