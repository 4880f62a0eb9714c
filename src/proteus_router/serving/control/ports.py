"""What the closed loop needs of its collaborators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proteus_router.serving.records import Audit, LoopEvent, LoopEventKind, TierRow

__all__ = ["LoopStorePort"]


class LoopStorePort(Protocol):
    """What the closed loop needs of the store."""

    async def events(self, after: int, limit: int = ...) -> list[LoopEvent]: ...
    async def append(
        self, kind: LoopEventKind, *, tier: str | None, model: str | None, data: Mapping[str, Any], at: float
    ) -> None: ...
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
    ) -> bool: ...
    async def set_graders(self, tier: str, *, admins_only: bool) -> None: ...
    async def tiers(self, window_starts: Callable[[str, int], int]) -> dict[str, TierRow]: ...
    async def change_state(self, tier: str, epoch: int, before: str, after: str, *, at: float) -> bool: ...
    async def snapshot(self, form: int) -> tuple[int, str] | None: ...
    async def save_snapshot(self, form: int, sequence: int, state: str) -> None: ...
    async def requests_between(self, since: float, until: float) -> dict[str, int]: ...
    async def recent_candidates(self, limit: int) -> list[list[dict[str, Any]]]: ...
    async def audits(
        self,
        *,
        key_id: str | None,
        tier: str | None = None,
        after: int = 0,
        limit: int = 100,
        without_score_of: str | None = None,
    ) -> list[Audit]: ...
