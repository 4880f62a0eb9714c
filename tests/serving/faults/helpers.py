"""What may be said of any answer, whatever went wrong on the way to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.serving.gateways import Got

__all__ = ["ends_well", "keeps_the_floor"]

_LAST = ("[DONE]", '"response.completed"', '"message_stop"')


def ends_well(answer: Got) -> bool:
    """Whether the caller has a whole answer and no error."""
    if answer.status != 200:
        return False
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return not answer.json().get("error")
    events = answer.events()
    return bool(events) and any(mark in events[-1] for mark in _LAST)


def keeps_the_floor(decision: Mapping[str, Any]) -> bool:
    """Whether the model that answered is the operating point's choice, or predicted to do as well as a choice of it.

    Only the choice may be called certified.
    """
    drawn = [one["predicted_score"] for one in decision["candidates"] if one["propensity"] > 0]
    chosen = bool(decision["propensity"])
    if decision["certified"] and not chosen:
        return False
    return chosen or decision["predicted_score"] >= min(drawn) - 1e-9
