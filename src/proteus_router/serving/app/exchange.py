"""One request on its way through the gateway, and the record it leaves."""

from __future__ import annotations

import math

from proteus_router.control import is_audited
from proteus_router.errors import ProteusError, UpstreamError
from proteus_router.serving.app.asgi import Header
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.gateway import Gateway
from proteus_router.serving.app.live import Live
from proteus_router.serving.app.pick import Pick
from proteus_router.serving.app.selection import Selection
from proteus_router.serving.records import ApiKey, ApiShape, DecisionRecord, DecisionStatus, PoolModel
from proteus_router.serving.upstream import Reply, cost_usd

__all__ = ["Exchange"]


class Exchange:
    """Filled in step by step; `finish` tells store, limits, metrics, log and trace what became of it."""

    def __init__(self, gateway: Gateway, api: ApiShape, endpoint: str, headers: dict[bytes, bytes]) -> None:
        clock = gateway.clock
        self.gateway, self.live, self.api, self.endpoint = gateway, gateway.live, api, endpoint
        self.started, self.created_at = clock.monotonic(), clock.wall()
        self.id = gateway.decision_id()
        self.request_id = gateway.request_id(headers)
        self.span = gateway.tracer.begin(headers)
        self.key: ApiKey | None = None
        self.ask: Ask | None = None
        self.selection: Selection | None = None
        self.pick: Pick | None = None
        self.model: PoolModel | None = None
        self.reply: Reply | None = None
        self.session: str | None = None
        self.stream = False
        self.reserved_usd = 0.0
        self.tier_reserved_usd = 0.0
        self.attempts = 0
        self.waited_s = 0.0  # for upstreams
        self.first_byte_s: float | None = None
        self.status: DecisionStatus = "ok"
        self.http_status = 0
        self.error_code: str | None = None
        self.text: str | None = None
        self.encoded = ""  # what the router read; a shadow reads it too
        self.answer: list[bytes] = []
        self.audit_share = 0.0  # chance with which the answer is drawn for grading
        self._fallbacks: list[str] = []

    def failed_at(self, error: UpstreamError) -> None:
        """One model could not answer; another may."""
        self.attempts += error.attempts
        self._fallbacks.append(str(error))
        self.gateway.metrics.attempts(error.model, error.attempts)
        self.gateway.metrics.upstream_error(error)

    def answered_by(self, model: PoolModel, reply: Reply) -> None:
        self.model, self.reply = model, reply
        self.attempts += reply.attempts
        self.first_byte_s = reply.first_byte_s
        now = self.gateway.clock.monotonic()
        self.gateway.first_bytes.saw(model.name, reply.first_byte_s, now, streamed=self.stream)
        self.gateway.metrics.attempts(model.name, reply.attempts)
        self._draw()

    def _draw(self) -> None:
        """Whether the answer is drawn for grading: it is known who gives it, and nothing yet of what it says."""
        ask, pick, tier = self.ask, self.pick, None if self.ask is None else self.ask.tier
        if ask is None or pick is None or tier is None or ask.tier_name is None:
            return
        name = pick.entry.name
        new = name in self.live.newcomers
        if new:  # they are few, and tried for their scores
            self.audit_share = 1.0
        elif ask.accuracy_target == tier.accuracy_target:
            self.audit_share = self.gateway.control.draw_share(ask.tier_name, tier, name)
        if (tier.audits.keep_text or new) and self.audited:
            self.text = self.encoded

    def refused(self, error: ProteusError, http_status: int) -> None:
        """It ends with an error, the caller's or an upstream's."""
        self.status = "failed" if isinstance(error, UpstreamError) else "rejected"
        self.error_code, self.http_status = error.code, http_status

    def ended(self, status: DecisionStatus, error_code: str) -> None:
        self.status, self.error_code = status, error_code

    def headers(self) -> list[Header]:
        """What every answer of a decided request says about it."""
        said: list[Header] = [
            (b"x-request-id", self.request_id.encode("ascii")),
            (b"x-proteus-decision-id", self.id.encode("ascii")),
        ]
        if self.ask is not None and self.ask.accuracy_target is not None:
            said.append((b"x-proteus-accuracy-target", b"%r" % self.ask.accuracy_target))
        if self.pick is not None:
            said += [
                (b"x-proteus-model", self.pick.entry.name.encode("ascii")),
                (b"x-proteus-certified", b"true" if self.pick.certified else b"false"),
                (b"x-proteus-attempts", b"%d" % self.attempts),
            ]
            if self.pick.gave_way:
                said.append((b"x-proteus-gave-way", ",".join(self.pick.gave_way).encode("ascii")))
            state = self.gateway.control.state_of(None if self.ask is None else self.ask.tier_name)
            if state is not None:
                said.append((b"x-proteus-tier-state", state.encode("ascii")))
            if self.stream:
                said.append((b"x-proteus-predicted-cost-usd", _usd(self.pick.predicted_cost_usd)))
            elif self.reply is not None:
                said.append((b"x-proteus-cost-usd", _usd(self.cost_usd or 0.0)))
        return said

    @property
    def audited(self) -> bool:
        """Whether the answer, if there will be one, is drawn for grading."""
        return is_audited(self.id, self.audit_share, seed=self.gateway.audit_seed)

    @property
    def cost_usd(self) -> float | None:
        """Billed by the upstream's usage; the artifact's estimate where usage or prices are not known; None where
        nothing was answered.
        """
        reply, model, pick = self.reply, self.model, self.pick
        if reply is None or model is None or pick is None:
            return None
        if reply.usage is not None:
            billed = cost_usd(model, reply.usage)
            if math.isfinite(billed):
                return billed
        return pick.predicted_cost_usd

    def finish(self) -> None:
        """Settle and record; called once, whatever happened."""
        gateway, seconds = self.gateway, self.gateway.clock.monotonic() - self.started
        usage = None if self.reply is None else self.reply.usage
        if self.key is not None and (self.reserved_usd or self.reply is not None):
            gateway.limits.settle(
                self.key,
                tokens=0 if usage is None else usage.input_tokens + usage.output_tokens,
                cost_usd=self.cost_usd or 0.0,
                reserved_usd=self.reserved_usd,
            )
        tier = None if self.ask is None else self.ask.tier_name
        if tier is not None and (self.tier_reserved_usd or self.reply is not None):
            gateway.budgets.settle(tier, cost_usd=self.cost_usd or 0.0, reserved_usd=self.tier_reserved_usd)
        record = self._record(self.live, seconds)
        gateway.tracer.end(self.span, record)
        gateway.request_log.decision(self.endpoint, record)
        decided = self.ask is not None
        gateway.metrics.request(self.endpoint, self.http_status, seconds, record if decided else None)
        if decided:
            gateway.store.record(record)
            self._shadow()

    def _shadow(self) -> None:
        """Let the shadow decide too, now that the answer is out."""
        shadow, ask, model = self.gateway.shadow, self.ask, self.model
        if shadow is None or ask is None or model is None or self.status != "ok":
            return
        if ask.tier_name is not None and ask.accuracy_target is not None:
            shadow.saw(ask.tier_name, ask.accuracy_target, self.encoded, model.proteus_model)

    def _record(self, live: Live, seconds: float) -> DecisionRecord:
        ask, pick, selection = self.ask, self.pick, self.selection
        usage = None if self.reply is None else self.reply.usage
        reasons: tuple[str, ...] = () if selection is None else selection.draw.reasons()
        if pick is not None and pick.reason:
            reasons = (*reasons, pick.reason)
        counts = self.status == "ok" and self.audit_share > 0.0
        return DecisionRecord(
            id=self.id,
            created_at=self.created_at,
            key_id=None if self.key is None else self.key.id,
            tier=None if ask is None else ask.tier_name,
            accuracy_target=None if ask is None else ask.accuracy_target,
            internal_target=None if selection is None else selection.draw.internal_target,
            certified=pick is not None and pick.certified,
            model="" if pick is None else pick.entry.name,
            requested_model="" if ask is None else ask.requested,
            api=self.api,
            stream=self.stream,
            predicted_score=None
            if pick is None or selection is None
            else selection.draw.predicted_score(pick),
            predicted_cost_usd=None if pick is None else pick.predicted_cost_usd,
            cost_usd=self.cost_usd,
            propensity=None if pick is None else pick.propensity,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            attempts=self.attempts,
            status=self.status,
            error_code=self.error_code,
            http_status=self.http_status,
            latency_s=seconds,
            first_byte_s=self.first_byte_s,
            overhead_s=max(0.0, seconds - self.waited_s),
            session_id=self.session,
            request_id=self.request_id,
            reasons=(*reasons, *self._fallbacks),
            candidates=() if selection is None else selection.candidates(with_reasons=False),
            certificate=None
            if selection is None or not (pick and pick.certified)
            else selection.draw.certificate(),
            prompt=self.text,
            answer=b"".join(self.answer).decode("utf-8", "replace") if self.answer else None,
            router_fingerprint=live.fingerprint,
            audit_probability=self.audit_share if counts else None,
            audited=self.audited if counts else None,
            task=None if ask is None else ask.task,
        )


def _usd(amount: float) -> bytes:
    return b"%.10f" % amount
