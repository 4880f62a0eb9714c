"""The pool's models as the gateway calls them, answering from a bank at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proteus_router.serving.records import PoolModel, Usage
from proteus_router.serving.upstream import BreakerState, Reply
from proteus_router.simulation.world import Bank
from proteus_router.types import FloatArray

__all__ = ["BankPool", "model_list"]

_HEADERS = {"content-type": "application/json"}


def model_list(models: Sequence[str], usd_per_token: FloatArray) -> list[dict[str, Any]]:
    """The configuration's `model_list` of a pool that is never called over a socket.

    Parameters
    ----------
    usd_per_token
        (n_models, 2) input and output prices.
    """
    return [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": "http://127.0.0.1:9/v1",
                "api_key": "x",
            },
            "model_info": {
                "input_cost_per_token": float(price[0]),
                "output_cost_per_token": float(price[1]),
                "proteus_api": ["chat"],
            },
        }
        for name, price in zip(models, usd_per_token, strict=True)
    ]


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
