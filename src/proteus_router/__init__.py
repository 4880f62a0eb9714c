"""PROTEUS: a router over language models that keeps a certified accuracy floor at the lowest cost it can find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proteus_router._version import __version__

if TYPE_CHECKING:
    from proteus_router.routing.router import Router
    from proteus_router.types import Decision

__all__ = ["Decision", "Router", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import proteus_router` stays cheap for callers that only want the version.
    if name == "Router":
        from proteus_router.routing.router import Router

        return Router
    if name == "Decision":
        from proteus_router.types import Decision

        return Decision
    raise AttributeError(f"module 'proteus_router' has no attribute {name!r}")
