"""Whether a candidate may take the live router's place: its off-policy intervals decide, and say why."""

from __future__ import annotations

from dataclasses import dataclass

from proteus_router.learning.replay import Replay

__all__ = ["LEAST_EFFECTIVE", "LEAST_OVERLAP", "TOLERANCE", "Verdict", "judge"]

LEAST_OVERLAP = 0.95
"""Where the traffic could not show one in twenty of its choices, too little is known of the candidate."""
LEAST_EFFECTIVE = 500.0
TOLERANCE = 0.01
"""How far below its target the interval of its score may begin: the certificate speaks of the target itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Promoted or not, and why."""

    promoted: bool
    reason: str


def judge(found: Replay) -> Verdict:
    """Promote a candidate that is certified at its target, shown to score near it or above, and shown to be cheaper."""
    target, score, saved = found.accuracy_target, found.score, found.cost_saved_usd
    about = f"its score on recorded traffic is {score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"
    if not found.certified:
        return Verdict(False, f"it can't certify {target:g}.")
    if found.overlap < LEAST_OVERLAP or found.effective_n < LEAST_EFFECTIVE:
        return Verdict(
            False,
            f"the traffic shows {found.overlap:.0%} of its choices, worth {found.effective_n:.0f} decisions; "
            f"{LEAST_OVERLAP:.0%} and {LEAST_EFFECTIVE:.0f} are needed. Explore more, or longer.",
        )
    if score.low < target - TOLERANCE:
        return Verdict(False, f"{about}, which may lie more than {TOLERANCE:g} below {target:g}.")
    if saved.low <= 0.0:
        return Verdict(
            False,
            f"it is not shown to be cheaper than what serves: saves {saved.value:.3g} [{saved.low:.3g}, {saved.high:.3g}] "
            "USD.",
        )
    return Verdict(
        True,
        f"{about} at a floor of {target:g}, and it saves {saved.value:.3g} [{saved.low:.3g}, {saved.high:.3g}] of "
        f"{found.served_cost_usd.value:.3g} USD a request.",
    )
