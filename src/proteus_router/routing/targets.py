"""Reading an accuracy target: a fraction strictly between 0 and 1, nothing else."""

from __future__ import annotations

import math
from typing import Any

from proteus_router.errors import InvalidTargetError

__all__ = ["parse_target", "round_down"]

_HINT = "Give a fraction strictly between 0 and 1, e.g. 0.80."


def parse_target(value: Any) -> float:
    """The accuracy target as a float in (0, 1).

    Numbers and strings that spell one are read ("0.8" from a command line); a percentage is not guessed at,
    because 95 and 0.95 promise very different things.

    Raises
    ------
    InvalidTargetError
        Anything else; a percentage is answered with the fraction it seems to mean.

    Examples
    --------
    >>> parse_target("0.8")
    0.8
    """
    if value is None or isinstance(value, bool):
        raise InvalidTargetError(f"accuracy target must be a number, not {value!r}.", hint=_HINT)
    percent = isinstance(value, str) and value.strip().endswith("%")
    try:
        number: float = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidTargetError(f"accuracy target must be a number, not {value!r}.", hint=_HINT) from None
    if math.isfinite(number) and not percent and 0.0 < number < 1.0:
        return number
    meant = number / 100.0
    hint = f"Did you mean {meant:g}?" if (percent or number > 1.0) and 0.0 < meant < 1.0 else _HINT
    raise InvalidTargetError(f"accuracy target {value!r} is not between 0 and 1 (both excluded).", hint=hint)


def round_down(value: float, decimals: int = 4) -> float:
    """The largest float with `decimals` decimals that is <= `value`, so that what is printed still certifies.

    >>> round_down(0.79999)
    0.7999
    """
    scale = 10**decimals
    steps = round(value * scale)
    return float((steps - 1 if steps / scale > value else steps) / scale)
