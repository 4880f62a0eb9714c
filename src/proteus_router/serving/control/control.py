"""The closed loop beside a running gateway: reads scores, judges tiers, steers what is tracked.

Everything that decisions ask for is a plain attribute or a lookup; all work is done in `refresh`, once a second. While
the database is away nothing moves, and the last word stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from proteus_router.control import Gains, ModelTraffic, rate_with_minimum
from proteus_router.errors import InfeasibleTargetError, StoreError, UnknownModelError
from proteus_router.serving.clock import Clock
from proteus_router.serving.control.evidence import TierSpec
from proteus_router.serving.control.fold import FORMAT, Fold
from proteus_router.serving.control.helm import RECENT, Helm
from proteus_router.serving.control.history import History
from proteus_router.serving.control.inputs import InputWatch, reference_of
from proteus_router.serving.control.pool import PoolView, subject_of
from proteus_router.serving.control.ports import LoopStorePort
from proteus_router.serving.control.steering import Steering
from proteus_router.serving.control.views import TierView, view_of
from proteus_router.serving.control.webhook import Webhook
from proteus_router.serving.records import TierRow
from proteus_router.serving.settings import TierSettings
from proteus_router.types import Predictions

__all__ = ["Control"]

_log = logging.getLogger(__name__)
_PAGE = 1_000  # events read at a time
_BREATH = 50  # events folded between two turns of the event loop
_SNAPSHOT_EVERY = 2_000  # events
_HOUR_S, _DAY_H = 3_600, 24


class Control:
    """One gateway's part in the closed loop.

    Parameters
    ----------
    store
        Where audits, scores and the log are; shared with other gateways.
    live
        The configuration in force; read anew at each refresh, so that a reload is noticed.

    Attributes
    ----------
    fold
        The state that all gateways share.
    views
        Tier -> what its audits say; empty until the first refresh.
    quarantined
        Pool names that get no requests.
    """

    def __init__(self, store: LoopStorePort, live: Callable[[], PoolView], clock: Clock) -> None:
        self._store, self._live, self._clock = store, live, clock
        self._seen_live: PoolView | None = None
        self.fold = Fold()
        self.views: dict[str, TierView] = {}
        self.history = History()
        self.quarantined: frozenset[str] = frozenset()
        self._steering: dict[str, Steering] = {}
        self._shares: dict[str, float] = {}
        self._shares_hour = -1
        self._traffic = ModelTraffic()
        self._helm = Helm()
        self._inputs = InputWatch(None)
        self._inputs_of: str | None = None
        self._saved = 0
        self._said = 0
        self._webhook = Webhook()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    # What a request asks for -------------------------------------------------------------------------------------

    def share_of(self, tier: str, settings: TierSettings) -> float:
        """Chance with which an answer of this tier is drawn for audit; 0 where none is."""
        return self._shares.get(tier, settings.audits.share) if settings.audits.share else 0.0

    def draw_share(self, tier: str, settings: TierSettings, model: str) -> float:
        """Likewise of this answer, that comes from `model`; it counts as traffic."""
        share = self.share_of(tier, settings)
        if not share:
            return 0.0
        models = len(self._live().entries)
        rate = self._traffic.audit_rate(model, share, models=models, evenness=settings.audits.evenness)
        self._traffic.answered(model, models=models)
        return rate

    def steering_of(self, tier: str | None) -> Steering | None:
        """How a tracked tier is served; None: by its plan."""
        return self._steering.get(tier) if tier is not None else None

    def state_of(self, tier: str | None) -> str | None:
        """Of the tier's live certificate; None where it has none."""
        view = self.views.get(tier) if tier is not None else None
        return None if view is None else view.state

    def inputs(self) -> dict[str, Any]:
        """What this process saw of how the traffic's texts differ from the calibration queries."""
        return self._inputs.to_dict()

    @property
    def inputs_shifted(self) -> bool:
        """Whether the last window of texts was unlike the calibration queries."""
        return self._inputs.shifted

    def saw(self, text: str, predictions: Predictions) -> None:
        """One routed query, as the artifact predicted it; (1, n_models) each."""
        if self._seen_live is None:  # nobody watches
            return
        self._inputs.saw(text)
        self._helm.saw(predictions)

    # What operators ask for --------------------------------------------------------------------------------------

    async def reset(self, tier: str) -> None:
        """Begin a tier's evidence anew; raises UnknownModelError where it has none."""
        live = self._live()
        settings = live.tiers.get(tier)
        if settings is None or not settings.audits.share:
            raise UnknownModelError(
                f"tier {tier[:100]!r} is not audited.", hint="Set its audits.share, then reload."
            )
        async with self._turn:
            await self._catch_up()
            known = self.fold.tiers.get(tier)
            await self._begin(live, tier, settings, 1 if known is None else known.epoch + 1)
        await self.refresh()

    async def release(self, model: str) -> None:
        """Take a model out of quarantine; its level is learned anew."""
        if model not in self._live().entries:
            raise UnknownModelError(f"no model {model[:100]!r}.", hint="GET /v1/models lists what there is.")
        await self._store.append("release", tier=None, model=model, data={}, at=self._clock.wall())
        await self.refresh()

    # The loop itself ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on from the last snapshot, look once, then keep looking."""
        found = await self._store.snapshot(FORMAT)
        if found is not None:
            self.fold = Fold.from_json(found[1])
            self._saved = self.fold.sequence
        self._said = len(self.fold.changes)
        await self.refresh()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and leave a snapshot for whoever starts next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            try:
                await self._save()
            except StoreError as error:
                _log.warning("closed loop: no snapshot was left: %s", error)
        await self._webhook.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._live().settings.control.refresh_s)
            try:
                await self.refresh()
            except StoreError as error:
                _log.warning("closed loop: nothing moves until the database answers: %s", error)
            except Exception:  # whatever it was: without this task nothing would ever move again
                _log.exception("closed loop: this refresh failed; it is tried again")

    async def refresh(self) -> None:
        """Read what is new, judge every tier, steer the tracked ones."""
        async with self._turn:
            live = self._live()
            if not any(tier.audits.share for tier in live.tiers.values()):
                self.views, self._steering, self.quarantined = {}, {}, frozenset()
                self._seen_live = None
                return
            await self._catch_up()
            if live is not self._seen_live:
                await self._adopt(live)
                await self._catch_up()
                self._seen_live = live
            await self._inputs.look(self._clock.wall())
            await self._set_shares(live)
            await self._judge(live)
            self._quarantine(live)
            self._steering = await self._helm.steer(live, self.fold, self.quarantined)
            if self.fold.sequence - self._saved >= _SNAPSHOT_EVERY:
                await self._save()

    async def _catch_up(self) -> None:
        while events := await self._store.events(self.fold.sequence, _PAGE):
            for start in range(0, len(events), _BREATH):
                self.fold.apply_all(events[start : start + _BREATH])
                await asyncio.sleep(0)
            if len(events) < _PAGE:
                break
        for change in self.fold.changes[self._said :]:
            _log.warning(
                "%s has changed%s: it scores %+.3f against its predictions in its last %d audits, %+.3f before",
                change["model"], f" on task {change['task']}" if change["task"] else "", change["after"],
                change["audits"], change["before"],
            )  # fmt: skip
        self._said = len(self.fold.changes)

    async def _adopt(self, live: PoolView) -> None:
        """Hold a configuration that is new to us against what the evidence was gathered under."""
        if live.fingerprint != self._inputs_of:
            self._inputs, self._inputs_of = InputWatch(reference_of(live.router)), live.fingerprint
        subject = subject_of(live)
        for name, settings in live.tiers.items():
            if not settings.audits.share:
                continue
            known = self.fold.tiers.get(name)
            if known is None or not known.spec.agrees_with(_spec(live, settings)):
                await self._begin(live, name, settings, 1 if known is None else known.epoch + 1)
                continue
            reason = known.subject.change_to(subject)
            if reason and not known.stale_reason:
                _log.warning("tier %s: its live certificate is stale: %s", name, reason)
                data = {"epoch": known.epoch, "reason": reason}
                await self._store.append("stale", tier=name, model=None, data=data, at=self._clock.wall())
            await self._store.set_graders(name, admins_only=settings.audits.graders == "admins")
        if self._helm.is_new:
            self._helm.recall(live, await self._store.recent_candidates(RECENT))

    async def _begin(self, live: PoolView, name: str, settings: TierSettings, epoch: int) -> None:
        spec, subject = _spec(live, settings), subject_of(live)
        await self._store.begin(
            name,
            epoch,
            accuracy_target=spec.accuracy_target,
            rate_floor=spec.share,
            admins_only=settings.audits.graders == "admins",
            data={"spec": spec.to_state(), "subject": subject.to_state()},
            at=self._clock.wall(),
        )

    async def _set_shares(self, live: PoolView) -> None:
        """Once an hour: raise the share of rare tiers, by what they had in the last 24 whole hours."""
        hour = int(self._clock.wall() // _HOUR_S)
        if hour == self._shares_hour:
            return
        day: Mapping[str, int] = {}
        if any(tier.audits.min_per_day for tier in live.tiers.values()):
            day = await self._store.requests_between((hour - _DAY_H) * _HOUR_S, hour * _HOUR_S)
        self._shares = {
            name: rate_with_minimum(
                tier.audits.share, recent_requests=day.get(name, 0), minimum=tier.audits.min_per_day
            )
            for name, tier in live.tiers.items()
            if tier.audits.share
        }
        self._shares_hour = hour

    async def _judge(self, live: PoolView) -> None:
        loops = self.fold.loop.tiers

        def window_start(tier: str, requests: int) -> int:
            return loops[tier].recent.start(requests) if tier in loops else 0

        rows = await self._store.tiers(window_start)
        views = {}
        for name, settings in live.tiers.items():
            row, evidence = rows.get(name), self.fold.tiers.get(name)
            if not settings.audits.share or row is None or evidence is None:
                continue
            if row.epoch != evidence.epoch:  # it began anew a moment ago: the next look will see it
                if name in self.views:
                    views[name] = self.views[name]
                continue
            view = view_of(row, evidence, loops[name], settings, audit_share=self.share_of(name, settings))
            views[name] = view
            self.history.saw(name, view.epoch, view.since_reset.bounds, self._clock.wall())
            if view.state != row.state:
                await self._announce(live, view, row)
        self.views = views

    async def _announce(self, live: PoolView, view: TierView, row: TierRow) -> None:
        """Tell the world of a new state, once for all gateways."""
        now = self._clock.wall()
        if not await self._store.change_state(view.name, view.epoch, row.state, view.state, at=now):
            return
        _log.warning("tier %s: %s, was %s. %s", view.name, view.state, row.state, view.certificate.reason)
        url = live.settings.control.webhook_url
        if url is not None:
            news = {
                "object": "proteus.tier_state",
                "tier": view.name,
                "at": now,
                "from": row.state,
                "to": view.state,
            }
            floor = view.certificate.accuracy_target
            self._webhook.send(url, {**news, "accuracy_target": floor, **view.to_dict(), "state_since": now})

    def _quarantine(self, live: PoolView) -> None:
        wanted = frozenset(self.fold.collapsed) & live.entries.keys()
        if live.settings.control.on_collapse != "quarantine":
            wanted = frozenset()
        if wanted and len({live.entries[name].index for name in live.entries.keys() - wanted}) == 0:
            _log.error("every model has collapsed; none is put into quarantine")
            wanted = frozenset()
        for name in wanted - self.quarantined:
            _log.error("%s is in quarantine: %s", name, self.fold.collapsed[name]["reason"])
        self.quarantined = wanted

    async def _save(self) -> None:
        if self.fold.sequence > self._saved:
            await self._store.save_snapshot(FORMAT, self.fold.sequence, self.fold.to_json())
            self._saved = self.fold.sequence


def _spec(live: PoolView, settings: TierSettings) -> TierSpec:
    """How a tier's evidence is to be gathered; a tracked one starts at its certified point."""
    start = None
    if settings.tracking.enabled:
        target = settings.accuracy_target
        try:
            plan = live.router.plan(
                target, guarantee=settings.guarantee, on_infeasible=settings.on_infeasible
            )
            start = plan.mix.internal_target
        except InfeasibleTargetError:
            start = target + Gains.at_rate(settings.audits.share).slack
    return TierSpec(settings.accuracy_target, settings.audits.share, settings.audits.window, start)
