"""Models that the router does not know yet: how often they may be tried."""

from __future__ import annotations

__all__ = ["share_of_newcomers"]


def share_of_newcomers(share: float, *, internal_target: float, floor: float) -> float:
    """Chance with which a request goes to a newcomer.

    Nothing is known of its answers, so each counts as wrong beforehand: the expected mean of the tier, tries included,
    then stays at the floor or above.

    Parameters
    ----------
    share
        The most that the operator allows.
    internal_target
        Expected mean score of the operating point that serves otherwise.

    Examples
    --------
    >>> round(share_of_newcomers(0.05, internal_target=0.82, floor=0.80), 4)
    0.0244
    >>> share_of_newcomers(0.05, internal_target=0.80, floor=0.80)
    0.0
    """
    if internal_target <= floor:
        return 0.0
    return min(share, (internal_target - floor) / internal_target)
