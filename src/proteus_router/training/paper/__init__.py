"""`--mode paper`: PPO on the published configuration. Needs torch, which only `fit_paper` imports."""

from __future__ import annotations

from proteus_router.training.paper.fit import PaperFit, fit_paper

__all__ = ["PaperFit", "fit_paper"]
