"""What the clients' tests share: the gateway they call, and what its upstream must have said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proteus_router.serving.provider import Provider

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
"""Arguments of the tool that the tests offer."""


@dataclass(frozen=True)
class Served:
    """A listening gateway whose upstream is the simulated provider."""

    address: str
    provider: Provider
    questions: tuple[str, ...]

    @property
    def v1(self) -> str:
        return f"{self.address}/v1"

    def check_answer(self, text: str, model: str, question: str) -> None:
        """The text is what the model of this public name says to the question."""
        assert model.startswith("pool-"), model
        outcome = self.provider.truth.outcome(model.removeprefix("pool-"), question)
        assert outcome.answer in text.splitlines()[0]
        assert self.provider.truth.grade(question, text) == outcome.score


def check_headers(headers: Mapping[str, str], model: str, *, stream: bool = False) -> None:
    """Every answer says which model gave it, for which floor, and at what cost."""
    assert headers["x-proteus-model"] == model
    assert headers["x-proteus-certified"] == "true"
    assert headers["x-proteus-attempts"] == "1"
    assert headers["x-proteus-decision-id"].startswith("dec_")
    cost = "x-proteus-predicted-cost-usd" if stream else "x-proteus-cost-usd"
    assert float(headers[cost]) > 0
