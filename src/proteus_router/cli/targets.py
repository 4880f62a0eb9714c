"""Reading --targets."""

from __future__ import annotations

import numpy as np

from proteus_router.errors import SchemaError
from proteus_router.routing.target_map import parse_target

__all__ = ["parse_targets"]


def parse_targets(text: str) -> list[float]:
    """``A:B:N`` (N evenly spaced, both ends in) or a comma-separated list of fractions.

    Raises
    ------
    InvalidTargetError
        A value is not a fraction in (0, 1).
    SchemaError
        The text has neither form.
    """
    if ":" not in text:
        return [parse_target(part) for part in text.split(",")]
    parts = text.split(":")
    if len(parts) != 3 or not parts[2].strip().isdigit() or int(parts[2]) < 1 or int(parts[2]) > 10_000:
        raise SchemaError(f"--targets {text!r}: expected A:B:N, for example 0.70:0.85:16.")
    return [
        float(value) for value in np.linspace(parse_target(parts[0]), parse_target(parts[1]), int(parts[2]))
    ]
