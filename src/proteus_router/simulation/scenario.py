"""What happens in a stream, read from a small YAML file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from proteus_router.config import explain_validation
from proteus_router.errors import ConfigError

__all__ = ["Happening", "MovingTargets", "Scenario", "load_scenario", "shipped_scenarios"]

BEST = "best"
"""Stands for the model with the highest mean score."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Happening(_Record):
    """A change of the world before the request number `at` (from 0); one of the three.

    Attributes
    ----------
    model
        Name of a model, or ``best``.
    skill_points
        Added to the model's mean score: -0.15 is fifteen points worse.
    price_factor
        New price over old; the gateway is reloaded with it, as an operator would.
    hard_share
        From now on so much of the traffic comes from the hardest third of the tasks.
    """

    at: int = Field(ge=0)
    model: str = BEST
    skill_points: float | None = Field(default=None, gt=-1.0, lt=1.0)
    price_factor: float | None = Field(default=None, gt=0.0)
    hard_share: float | None = Field(default=None, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _one(self) -> Happening:
        if sum(value is not None for value in (self.skill_points, self.price_factor, self.hard_share)) != 1:
            raise ValueError("give one of skill_points, price_factor, hard_share")
        return self


class MovingTargets(_Record):
    """One target at a time, that moves: the paper's scenarios, their range mapped to [low, high].

    A request goes to the cheapest of `tiers` tiers, floors evenly from `low` to `high`, whose floor is at least its
    target.
    """

    shape: Literal["step", "drift", "cycle", "peak/off-peak"]
    low: float = Field(gt=0.0, lt=1.0)
    high: float = Field(gt=0.0, lt=1.0)
    tiers: int = Field(default=7, ge=2, le=50)


class Scenario(_Record):
    """A stream.

    Attributes
    ----------
    tiers
        Name -> floor; requests are shared out evenly and at random. Or `targets`.
    moment
        Request at which the summary's "before" ends; default: the first happening, else the middle.
    tail
        The summary's "after" is the last so many requests.
    """

    name: str
    description: str
    requests: int = Field(default=20_000, ge=100)
    tiers: dict[str, float] | None = None
    targets: MovingTargets | None = None
    happenings: tuple[Happening, ...] = ()
    tail: int = Field(default=4_000, ge=1)

    @model_validator(mode="after")
    def _either(self) -> Scenario:
        if (self.tiers is None) == (self.targets is None):
            raise ValueError("give tiers or targets")
        return self

    @property
    def moment(self) -> int:
        return min((found.at for found in self.happenings), default=self.requests // 2)

    @property
    def floors(self) -> dict[str, float]:
        """Tier -> floor."""
        if self.tiers is not None:
            return self.tiers
        assert self.targets is not None
        low, high, count = self.targets.low, self.targets.high, self.targets.tiers
        floors = [round(low + (high - low) * step / (count - 1), 6) for step in range(count)]
        return {f"floor-{floor:g}": floor for floor in floors}

    def shortened(self, requests: int) -> Scenario:
        """The same story told in fewer requests, or in more."""
        scale = requests / self.requests
        moved = tuple(h.model_copy(update={"at": int(h.at * scale)}) for h in self.happenings)
        return self.model_copy(
            update={"requests": requests, "happenings": moved, "tail": max(1, int(self.tail * scale))}
        )


def shipped_scenarios() -> dict[str, str]:
    """Name -> YAML text of the scenarios in the package."""
    folder = files("proteus_router.simulation").joinpath("scenarios")
    found = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name
    )
    return {item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8") for item in found}


def load_scenario(name: str) -> Scenario:
    """A scenario of the package by its name, or any by the path of its file.

    Raises
    ------
    ConfigError
        No such scenario, or not as documented.
    """
    shipped = shipped_scenarios()
    if name in shipped:
        return _parse(shipped[name], f"scenario {name}")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"no scenario {name!r}.", hint=f"Give a YAML file, or one of {', '.join(shipped)}.")
    return _parse(path.read_text(encoding="utf-8"), name)


def _parse(text: str, source: str) -> Scenario:
    try:
        content: Any = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise ConfigError(f"{source}: not a mapping of keys.")
        return Scenario(**content)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not a YAML file ({error}).") from error
    except ValidationError as error:
        raise ConfigError(explain_validation(error, Scenario, lambda _: source)) from error
