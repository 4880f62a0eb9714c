"""What the provider can write for those who use it: prompts it knows, and the pool it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proteus_router.serving.provider.truth import Truth
from proteus_router.serving.records import ApiShape

__all__ = ["pool_entries", "write_prompts"]


def write_prompts(truth: Truth, path: Path, limit: int | None = None) -> int:
    """Write known prompts as JSON lines (``query_id``, ``query``, ``task``, ``reference``); returns how many."""
    lines = [
        json.dumps(
            {"query_id": item.query_id, "query": item.text, "task": item.task, "reference": item.reference},
            ensure_ascii=False,
        )
        for item in truth.known()
    ][:limit]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return len(lines)


def pool_entries(
    truth: Truth, address: str, *, api: ApiShape = "chat", api_key: str = "simulated"
) -> list[dict[str, Any]]:
    """A ``model_list`` for the world's models at `address`, at the world's prices."""
    provider = "anthropic" if api == "messages" else "openai"
    return [
        {
            "model_name": card.name,
            "litellm_params": {
                "model": f"{provider}/{card.name}",
                "api_base": f"{address}/v1",
                "api_key": api_key,
            },
            "model_info": {
                "input_cost_per_token": card.input_price_usd_per_mtok / 1e6,
                "output_cost_per_token": card.output_price_usd_per_mtok / 1e6,
            },
        }
        for card in truth.world.models
    ]
