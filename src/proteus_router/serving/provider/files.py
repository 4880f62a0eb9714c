"""What the provider can write for those who use it: questions it knows, and the pool it serves."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from proteus_router.serving.provider.truth import Truth

__all__ = ["write_config", "write_prompts"]

_TARGET = 0.80


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


def write_config(truth: Truth, path: Path, address: str, *, api_key: str = "") -> None:
    """Write a gateway's configuration whose pool is the world's models at `address`, at the world's prices."""
    pool = [
        {
            "model_name": card.name,
            "litellm_params": {
                "model": f"openai/{card.name}",
                "api_base": f"{address}/v1",
                "api_key": api_key or "none",
            },
            "model_info": {
                "input_cost_per_token": card.input_price_usd_per_mtok / 1e6,
                "output_cost_per_token": card.output_price_usd_per_mtok / 1e6,
                "proteus_api": ["chat", "responses", "messages"],
            },
        }
        for card in truth.world.models
    ]
    values = {"model_list": pool, "tiers": {"standard": {"accuracy_target": _TARGET}}}
    path.write_text("# Simulated models.\n" + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
