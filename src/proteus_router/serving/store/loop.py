"""What the closed loop keeps in the store: its log, its tiers' counters, snapshots, and the audits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from proteus_router.serving.records import Audit, LoopEvent, LoopEventKind, TierRow
from proteus_router.serving.store.audits import read_audits
from proteus_router.serving.store.events import NewEvent, append_events, read_events
from proteus_router.serving.store.tables import (
    audits,
    decisions,
    feedback,
    loop_snapshots,
    spend,
    tiers,
)

__all__ = ["LoopStore"]

_T = TypeVar("_T")
_CHUNK = 1_000


class Run(Protocol):
    """Runs work in one transaction of the store's threads."""

    def __call__(self, work: Callable[[sa.Connection], _T], /) -> Awaitable[_T]: ...


@dataclass(frozen=True, slots=True)
class LoopStore:
    """One database, as the closed loop sees it; all calls raise StoreUnavailableError while it is away."""

    read: Run
    write: Run

    async def events(self, after: int, limit: int = _CHUNK) -> list[LoopEvent]:
        """The log from a number on, at most `limit` rows."""
        return await self.read(lambda connection: read_events(connection, after, limit))

    async def append(
        self, kind: LoopEventKind, *, tier: str | None, model: str | None, data: Mapping[str, Any], at: float
    ) -> None:
        event = NewEvent(kind, tier, model, data)
        await self.write(lambda connection: append_events(connection, [event], at=at))

    async def begin(
        self,
        tier: str,
        epoch: int,
        *,
        accuracy_target: float,
        rate_floor: float,
        admins_only: bool,
        data: Mapping[str, Any],
        at: float,
    ) -> bool:
        """Start a tier's evidence anew, as number `epoch`; False where another gateway has done so already."""

        def work(connection: sa.Connection) -> bool:
            there = connection.execute(
                sa.select(tiers.c.epoch).where(tiers.c.name == tier).with_for_update()
            ).scalar()
            if there is not None and there >= epoch:
                return False
            values = {
                "epoch": epoch,
                "accuracy_target": accuracy_target,
                "rate_floor": rate_floor,
                "admins_only": admins_only,
                "requests": 0,
                "drawn": 0,
                "state": "insufficient_evidence",
                "state_since": at,
            }
            if there is None:
                added = connection.execute(
                    _insert(connection, tiers).values(name=tier, **values).on_conflict_do_nothing()
                )
                if not added.rowcount:
                    return False
            else:
                connection.execute(sa.update(tiers).where(tiers.c.name == tier).values(**values))
            append_events(connection, [NewEvent("begin", tier, None, {**data, "epoch": epoch})], at=at)
            return True

        return await self.write(work)

    async def set_graders(self, tier: str, *, admins_only: bool) -> None:
        """Whose scores count from now on; not part of the evidence, so nothing begins anew."""
        await self.write(
            lambda connection: (
                connection.execute(
                    sa.update(tiers).where(tiers.c.name == tier).values(admins_only=admins_only)
                ).rowcount
            )
        )

    async def tiers(self, window_starts: Callable[[str, int], int]) -> dict[str, TierRow]:
        """Counters of every tier.

        Parameters
        ----------
        window_starts
            Tier and its requests -> how many of them the recent certificate leaves out.
        """

        def work(connection: sa.Connection) -> dict[str, TierRow]:
            found = {}
            for row in connection.execute(sa.select(tiers)).mappings().all():
                start = window_starts(row["name"], row["requests"])
                recent = sa.select(sa.func.count()).where(
                    audits.c.tier == row["name"], audits.c.epoch == row["epoch"], audits.c.position > start
                )
                found[row["name"]] = TierRow(
                    name=row["name"],
                    epoch=row["epoch"],
                    requests=row["requests"],
                    drawn=row["drawn"],
                    drawn_recently=row["drawn"]
                    if start <= 0
                    else int(connection.execute(recent).scalar_one()),
                    state=row["state"],
                    state_since=row["state_since"],
                )
            return found

        return await self.read(work)

    async def change_state(self, tier: str, epoch: int, before: str, after: str, *, at: float) -> bool:
        """Note a tier's new state; False where somebody else has noted one, who then tells the world."""
        statement = (
            sa.update(tiers)
            .where(tiers.c.name == tier, tiers.c.epoch == epoch, tiers.c.state == before)
            .values(state=after, state_since=at)
        )
        return bool(await self.write(lambda connection: connection.execute(statement).rowcount))

    async def snapshot(self, form: int) -> tuple[int, str] | None:
        """The last snapshot of this format: the number of the last event in it, and its text."""
        wanted = sa.select(loop_snapshots.c.sequence, loop_snapshots.c.state).where(
            loop_snapshots.c.format == form
        )
        row = await self.read(lambda connection: connection.execute(wanted).first())
        return None if row is None else (int(row[0]), str(row[1]))

    async def save_snapshot(self, form: int, sequence: int, state: str) -> None:
        """Keep a snapshot, unless there is one of more events."""

        def work(connection: sa.Connection) -> None:
            statement = _insert(connection, loop_snapshots).values(
                format=form, sequence=sequence, state=state
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["format"],
                    set_={"sequence": statement.excluded.sequence, "state": statement.excluded.state},
                    where=loop_snapshots.c.sequence < statement.excluded.sequence,
                )
            )

        await self.write(work)

    async def audits(
        self,
        *,
        key_id: str | None,
        tier: str | None = None,
        after: int = 0,
        limit: int = 100,
        without_score_of: str | None = None,
    ) -> list[Audit]:
        """See `read_audits`."""
        return await self.read(
            lambda connection: read_audits(
                connection,
                key_id=key_id,
                tier=tier,
                after=after,
                limit=limit,
                without_score_of=without_score_of,
            )
        )

    async def labels(self, source: str, other: str) -> list[tuple[float, float]]:
        """Scores of two sources on the audits that both have scored."""
        mine, theirs = feedback.alias("mine"), feedback.alias("theirs")
        wanted = (
            sa.select(mine.c.score, theirs.c.score)
            .join(theirs, theirs.c.decision_id == mine.c.decision_id)
            .join(audits, audits.c.decision_id == mine.c.decision_id)
            .where(mine.c.source == source, theirs.c.source == other)
            .order_by(mine.c.id)
        )
        return await self.read(
            lambda connection: [(float(a), float(b)) for a, b in connection.execute(wanted).all()]
        )

    async def requests_between(self, since: float, until: float) -> dict[str, int]:
        """Requests of each tier in the whole hours from `since` to `until`, over all gateways."""
        wanted = (
            sa.select(spend.c.tier, sa.func.sum(spend.c.requests))
            .where(spend.c.hour >= since, spend.c.hour < until)
            .group_by(spend.c.tier)
        )
        return await self.read(
            lambda connection: {tier: int(count) for tier, count in connection.execute(wanted).all()}
        )

    async def recent_candidates(self, limit: int) -> list[list[dict[str, Any]]]:
        """What the router knew of every model in the latest routed decisions, oldest first."""
        wanted = (
            sa.select(decisions.c.candidates)
            .where(decisions.c.tier.is_not(None))
            .order_by(decisions.c.created_at.desc())
            .limit(limit)
        )
        found = await self.read(lambda connection: list(connection.execute(wanted).scalars()))
        return found[::-1]


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
