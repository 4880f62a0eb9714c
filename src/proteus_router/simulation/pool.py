"""The pool's models as the gateway calls them, answering from a bank at once."""

from __future__ import annotations

from collections.abc import Mapping

from proteus_router.serving.records import PoolModel, Usage
from proteus_router.serving.upstream import BreakerState, Reply
from proteus_router.simulation.world import Bank

__all__ = ["BankPool"]

_HEADERS = {"content-type": "application/json"}


class BankPool:
    """Answers whatever it is asked with the tokens that the bank has for the query at hand.

    Attributes
    ----------
    bank, row
        What the world is now, and which query is being asked.
    answered
        Column of the model that answered last.
    """

    def __init__(self, bank: Bank, models: tuple[str, ...]) -> None:
        self.bank, self.row, self.answered = bank, 0, -1
        self._column = {name: column for column, name in enumerate(models)}

    def available(self, model: PoolModel) -> bool:
        return True

    def breaker_state(self, model: PoolModel) -> BreakerState:
        return "closed"

    async def call(
        self,
        model: PoolModel,
        body: bytes | Mapping[str, object],
        *,
        headers: Mapping[str, str],
        deadline: float,
        stream: bool,
    ) -> Reply:
        column = self.answered = self._column[model.name]
        tokens = self.bank.input_tokens[self.row, column], self.bank.output_tokens[self.row, column]
        usage = Usage(int(tokens[0]), int(tokens[1]))
        return Reply(model, dict(_HEADERS), b'{"choices":[]}', None, 0.0, usage=usage)
