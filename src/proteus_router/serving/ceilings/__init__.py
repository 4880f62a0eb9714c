"""Ceilings beside the floor: time to the first token, and what a tier or a key may spend."""

from __future__ import annotations

from proteus_router.serving.ceilings.budget import TierBudgets
from proteus_router.serving.ceilings.latency import FirstBytes
from proteus_router.serving.ceilings.precedence import Ceilings, narrowed

__all__ = ["Ceilings", "FirstBytes", "TierBudgets", "narrowed"]
