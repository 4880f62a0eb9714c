"""Typed configuration of training: one model a concern, unknown keys refused with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proteus_router.errors import ConfigError

__all__ = [
    "HeadsConfig",
    "PaperConfig",
    "PolicyConfig",
    "TrainConfig",
    "explain_validation",
    "load_train_config",
]

Location = tuple[int | str, ...]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HeadsConfig(_Section):
    """The estimators of predicted score and cost, and how they are cross-fitted."""

    n_folds: int = Field(
        default=10, ge=2, le=50, description="Folds of the out-of-fold predictions; whole text groups."
    )
    estimators: tuple[Literal["kernel", "forest"], ...] = Field(
        default=("kernel", "forest"),
        min_length=1,
        description="Estimators of the score; kernel alone is closed form.",
    )
    min_df: int = Field(default=2, ge=1, description="Texts a word must occur in to be known.")
    lexical_dim: int = Field(default=128, ge=1, le=1024, description="Directions of the dense lexical view.")
    kernel_alpha: float = Field(default=12.0, gt=0, description="Ridge penalty of the word kernel.")
    forest_trees: int = Field(default=100, ge=1, le=10_000, description="Trees of the forest.")
    forest_depth: int = Field(
        default=10, ge=1, le=30, description="Splits from a tree's root to a leaf, at most."
    )
    forest_leaf_rows: int = Field(default=5, ge=1, description="Rows a leaf must hold.")
    forest_tried: int = Field(
        default=42, ge=1, description="Numbers of a text tried at a split; about a third of the lexical view."
    )
    cost_alpha: float = Field(default=10.0, gt=0, description="Ridge penalty of the log-cost head.")


class PolicyConfig(_Section):
    """The default policy: exact-gradient Lagrangian training, then inversion of the out-of-fold frontier.

    Each departure from the published method is a setting of its own; docs/policy.md gives its ablation.
    """

    steps: int = Field(default=300, ge=0, le=100_000, description="Updates of the policy.")
    n_folds: int = Field(
        default=5, ge=2, le=50, description="Folds of the out-of-fold frontier; whole text groups."
    )
    n_settings: int = Field(
        default=300, ge=10, le=10_000, description="Operating points tried on the frontier."
    )
    min_gap: float = Field(
        default=0.002, ge=0.0, lt=1.0, description="Accuracy between neighbouring points kept."
    )
    n_targets: int = Field(
        default=31, ge=2, le=1000, description="Internal targets, even over the frontier's own range."
    )
    dual: Literal["per_target", "scalar"] = Field(
        default="per_target", description="scalar: the paper's one dual."
    )
    dual_rate: float = Field(
        default=1.0, ge=0.0, le=100.0, description="Step of log dual per unit of shortfall."
    )
    dual_every: int = Field(default=5, ge=1, description="Policy updates between two of the dual.")
    kappa_factor: float | None = Field(
        default=1.5,
        gt=0.0,
        description="kappa over the largest useful price of cost; null: kappa = 1 as in the paper.",
    )
    learn_boosts: bool = Field(default=True, description="Learn the quality boost of each model.")
    learn_gamma: bool = Field(default=True, description="Learn gamma in [2, 8].")
    gamma_init: float = Field(default=4.0, gt=2.0, lt=8.0, description="gamma at the start, or throughout.")
    temperature: float = Field(
        default=0.02, gt=0.0, description="Of the smoothed selection behind boosts and gamma."
    )
    learning_rate: float = Field(default=0.1, gt=0.0, description="Adam's rate of the quality preference.")
    selection_rate: float = Field(
        default=0.0002, gt=0.0, description="Adam's rate of boosts; ten times it for gamma."
    )
    refresh_every: int = Field(
        default=50, ge=1, description="Updates between two tabulations of the hard selection."
    )
    concentration_start: float = Field(
        default=30.0, gt=0.0, description="Beta concentration at the first update."
    )
    concentration_end: float = Field(
        default=300.0, gt=0.0, description="Beta concentration at the last update."
    )
    query_dependent: bool = Field(
        default=True, description="Also try a residual on 7 summary features of the query."
    )
    query_dependent_z: float = Field(
        default=3.0, ge=0.0, description="Standard errors by which it must win to ship."
    )
    margin: float = Field(
        default=0.0,
        ge=0.0,
        description="Excess in cost ratio that the trained policy may have at 95%; 0: shown to be no dearer.",
    )
    bootstrap: int = Field(
        default=400, ge=50, le=100_000, description="Resamples of text groups behind standard errors."
    )
    max_kl: float = Field(
        default=5.0, gt=0.0, description="Divergence is declared when one update moves the policy more."
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Updates between two checkpoints.")


class PaperConfig(_Section):
    """`--mode paper`: the published configuration (arXiv 2601.19402), to the letter.

    The defaults are the paper's; each other value is an ablation. What the paper leaves open is marked so, and
    docs/policy.md says why it was filled in that way.
    """

    steps: int = Field(default=10_000, ge=1, le=1_000_000, description="PPO updates, one batch each.")
    batch_size: int = Field(
        default=64, ge=2, le=100_000, description="Queries a batch; another passage says 32."
    )
    learning_rate: float = Field(default=3e-4, gt=0.0, description="AdamW's.")
    weight_decay: float = Field(default=0.01, ge=0.0, description="AdamW's; open, torch's default.")
    hidden: int = Field(default=256, ge=2, le=4096, description="Width of the embedding z and of the policy.")
    max_gradient_norm: float = Field(default=1.0, gt=0.0, description="Gradient clipping.")
    alpha: float = Field(default=1.0, ge=0.0, description="Weight of cost in the reward; open.")
    target_range: tuple[float, float] | None = Field(
        default=None,
        description="Range of tau; open for new data: 30% quantile of the models' accuracy to the best.",
    )
    n_targets: int = Field(
        default=31, ge=2, le=1000, description="Internal targets deployed, even over the range."
    )
    dual: Literal["scalar", "per_target"] = Field(
        default="scalar", description="per_target: one for each target."
    )
    use_dual: bool = Field(default=True, description="false: lambda stays 1.")
    dual_rate: float = Field(default=0.4, ge=0.0, description="eta of the dual ascent.")
    dual_every: int = Field(default=5, ge=1, description="Batches between two updates of the dual.")
    use_critic: bool = Field(default=True, description="false: the batch's mean reward is the baseline.")
    tau_conditioning: bool = Field(default=True, description="false: the policy sees no target.")
    learn_boosts: bool = Field(default=True, description="Learn the quality boost of each model.")
    learn_gamma: bool = Field(
        default=True, description="false: gamma stays at gamma_init (the paper's ablation: 3)."
    )
    gamma_init: float = Field(default=3.0, gt=2.0, lt=8.0, description="gamma at the start; open.")
    temperature: float = Field(
        default=0.1, gt=0.0, description="Smoothed selection behind boosts and gamma; open."
    )
    clip: float = Field(default=0.2, gt=0.0, lt=1.0, description="PPO's clip range; open.")
    epochs: int = Field(default=2, ge=1, le=100, description="Passes over a batch; open.")
    normalise_advantage: bool = Field(
        default=True, description="Scale advantages to unit variance a batch; open."
    )
    reward: Literal["predicted", "observed"] = Field(
        default="predicted", description="observed: the score seen takes the place of p in the reward."
    )
    max_kl: float = Field(
        default=50.0, gt=0.0, description="Divergence is declared above this approximate KL."
    )
    checkpoint_every: int = Field(default=500, ge=1, description="Updates between two checkpoints.")


class TrainConfig(_Section):
    """Everything `proteus train` can be told; a YAML file holds the same keys."""

    encoder: str = Field(default="lexical", description="lexical, minilm, or a Hugging Face name or folder.")
    mode: Literal["default", "paper"] = "default"
    scheme: Literal["crossfit", "split"] | None = Field(
        default=None,
        description="Evidence of the certificate; unset: crossfit for default mode, split for paper.",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0, description="1 - delta of every certificate.")
    calibration_share: float = Field(
        default=0.3, gt=0.0, lt=1.0, description="Share of rows held out by `split`."
    )
    seed: int = Field(default=0, ge=0)
    max_query_chars: int = Field(default=200_000, ge=1)
    heads: HeadsConfig = HeadsConfig()
    policy: PolicyConfig = PolicyConfig()
    paper: PaperConfig = PaperConfig()


def load_train_config(path: Path | None, **overrides: Any) -> TrainConfig:
    """Read a YAML file of `TrainConfig` keys; keyword arguments that are not None win over the file.

    Raises
    ------
    ConfigError
        The file is missing or not YAML, a key is unknown (the nearest key is named), a value is out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}).", hint="Check --config."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a YAML file: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(
                f"{path}: the top level must be a mapping of keys, not {type(loaded).__name__}."
            )
        values = loaded or {}
    given = {key: value for key, value in overrides.items() if value is not None}
    values.update(given)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        explained = explain_validation(
            error, TrainConfig, lambda loc: "settings" if path is None or loc[0] in given else str(path)
        )
        raise ConfigError(explained) from error


def explain_validation(
    error: ValidationError, root: type[BaseModel], source_of: Callable[[Location], str]
) -> str:
    """What is wrong, a line each: where, which key, the nearest known key or the value that was given.

    Parameters
    ----------
    root
        The model that was validated; its sections are searched for the nearest key.
    source_of
        Names the file or option that a location came from.
    """
    lines = []
    for item in error.errors():
        location = item["loc"]
        source, key = source_of(location), ".".join(str(part) for part in location)
        message = item["msg"].removeprefix("Value error, ").rstrip(".")
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _known_keys(root, location[:-1]), n=1)
            lines.append(f"{source}: unknown key {key!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        elif item["type"] == "missing":
            lines.append(f"{source}: {key} is missing.")
        elif not location:  # a rule about several keys
            lines.append(f"{source}: {message}.")
        else:
            given = "" if _is_secret(location) else f" (given {item['input']!r})"
            lines.append(f"{source}: {key}: {message}{given}.")
    return "\n".join(lines)


def _is_secret(location: Location) -> bool:
    """Whether the value there must not be printed: it is, holds, or may hold a credential."""
    words = "_".join(str(part) for part in location).lower()
    return any(
        word in words for word in ("key", "secret", "password", "token", "headers", "url", "model_list")
    )


def _known_keys(root: type[BaseModel], path: Location) -> list[str]:
    section: type[BaseModel] | None = root
    for part in path:
        if section is None or str(part) not in section.model_fields:
            continue  # a place in a list, or a name that the user chose
        section = _inner_model(section.model_fields[str(part)].annotation)
    return [] if section is None else list(section.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The first model inside ``X``, ``X | None``, ``tuple[X, ...]`` or ``dict[str, X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_inner_model(argument) for argument in get_args(annotation))
    return next((model for model in inner if model is not None), None)
