"""Which requests are audited: a coin that every process throws alike, with a known chance."""

from __future__ import annotations

import hashlib
import math

__all__ = ["audit_coin", "is_audited", "rate_with_minimum"]


def audit_coin(decision_id: str, *, seed: str) -> float:
    """A uniform number in [0, 1) that depends on the decision's id and a secret seed alone.

    Two processes, or one process twice, agree on it; nobody without the seed can tell which requests are audited.

    Examples
    --------
    >>> round(audit_coin("dec_1", seed="secret"), 4)
    0.4937
    """
    key = hashlib.sha256(seed.encode("utf-8")).digest()
    digest = hashlib.blake2b(decision_id.encode("utf-8"), key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def is_audited(decision_id: str, rate: float, *, seed: str) -> bool:
    """Whether this request is drawn for audit at `rate`; raising the rate only adds requests."""
    return audit_coin(decision_id, seed=seed) < rate


def rate_with_minimum(rate: float, *, recent_requests: int, minimum: int, ceiling: float = 1.0) -> float:
    """The audit rate of a tier, raised where the tier is so rare that `rate` would bring too few audits.

    Parameters
    ----------
    rate
        The rate asked for, in (0, 1].
    recent_requests
        The tier's requests in the last complete period. A complete one, so that all processes see the same number and
        the rate is fixed before the requests it applies to.
    minimum
        Audits wanted per period.
    ceiling
        The rate is not raised above this.

    Returns
    -------
    float
        What to draw with, and to store with every decision: later sums weigh an audit by it.

    Examples
    --------
    >>> rate_with_minimum(0.05, recent_requests=200, minimum=50)
    0.25
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"an audit rate must lie in (0, 1], not {rate}.")
    if minimum <= 0:
        return rate
    wanted = minimum / recent_requests if recent_requests > 0 else math.inf
    return max(rate, min(wanted, ceiling))
