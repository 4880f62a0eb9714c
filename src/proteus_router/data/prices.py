"""Prices of models, for published outcomes that say tokens, or nothing at all, instead of cost."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from proteus_router.errors import ConfigError, SchemaError

__all__ = ["Price", "read_prices", "require_prices"]


@dataclass(frozen=True, slots=True)
class Price:
    """What one request costs: ``usd_per_request + (input tokens, output tokens) . prices / 1e6``."""

    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    usd_per_request: float = 0.0

    @property
    def needs_tokens(self) -> bool:
        return self.input_usd_per_mtok > 0 or self.output_usd_per_mtok > 0

    def cost_usd(self, input_tokens: float, output_tokens: float) -> float:
        by_token = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return self.usd_per_request + by_token / 1e6


_KEYS = tuple(field.name for field in fields(Price))


def read_prices(path: Path) -> dict[str, Price]:
    """Read a YAML or JSON mapping of model names to prices.

    Raises
    ------
    ConfigError
        The file cannot be read, an unknown key (the nearest is named), or a price that is not a number >= 0.

    Examples
    --------
    ``gpt-4o: {input_usd_per_mtok: 2.5, output_usd_per_mtok: 10}`` or ``small: {usd_per_request: 0.0002}``.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", hint="Check --prices.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(loaded, dict) or not loaded:
        raise ConfigError(f"{path}: must map model names to prices.", hint="See docs/loaders.md.")
    return {str(model): _price(path, str(model), entry) for model, entry in loaded.items()}


def require_prices(source: Path, models: Iterable[str], prices: Mapping[str, Price]) -> None:
    """Raise `SchemaError` for the first model without a price, naming the nearest that has one."""
    for model in models:
        if model not in prices:
            near = difflib.get_close_matches(model, prices, n=1)
            hint = f"Did you mean {near[0]!r} in --prices?" if near else "Add it to --prices."
            raise SchemaError(f"{source}: no price for model {model!r}.", hint=hint)


def _price(path: Path, model: str, entry: Any) -> Price:
    if not isinstance(entry, dict) or not entry:
        raise ConfigError(f"{path}: {model}: must be a mapping with {', '.join(_KEYS)}, not {entry!r}.")
    for key, value in entry.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(_KEYS)}."
            raise ConfigError(f"{path}: {model}: unknown key {key!r}.", hint=hint)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not isfinite(value) or value < 0:
            raise ConfigError(f"{path}: {model}: {key} must be a number >= 0, not {value!r}.")
    return Price(**{key: float(value) for key, value in entry.items()})
