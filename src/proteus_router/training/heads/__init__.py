"""Heads: predicted score and cost of every model from the text of a query."""

from __future__ import annotations

from proteus_router.training.heads.fit import FittedHeads, fit_heads
from proteus_router.training.heads.report import HeadsReport, ModelReport

__all__ = ["FittedHeads", "HeadsReport", "ModelReport", "fit_heads"]
