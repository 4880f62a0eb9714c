"""The default policy: trained on honest predictions, shipped only if nothing simpler wins."""

from __future__ import annotations

from proteus_router.training.policy.fit import fit_default_policy
from proteus_router.training.policy.problem import PolicyFit, Problem

__all__ = ["PolicyFit", "Problem", "fit_default_policy"]
