"""From a YAML file and the environment to `GatewaySettings` and a pool, or to an error that says what to change."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import SettingsError

from proteus_router.config import explain_validation
from proteus_router.errors import ConfigError
from proteus_router.serving.records import PoolModel, Timeouts
from proteus_router.serving.settings.litellm import parse_model_list
from proteus_router.serving.settings.secrets import refuse_placeholder_password
from proteus_router.serving.settings.sections import ENV_PREFIX, GatewaySettings
from proteus_router.serving.settings.variables import expand

__all__ = ["Configuration", "load_configuration", "make_configuration"]

_LITELLM_SECTIONS = (
    "litellm_settings", "general_settings", "router_settings", "environment_variables", "callback_settings",
    "credential_list", "guardrails", "mcp_servers",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, the pool they describe, and what was worth a warning."""

    settings: GatewaySettings
    pool: tuple[PoolModel, ...]
    warnings: tuple[str, ...]


def load_configuration(path: Path) -> Configuration:
    """Read a configuration file; ``PROTEUS__...`` variables win over it.

    Raises
    ------
    ConfigError
        The file is missing or no YAML, a key is unknown (the nearest is named), a value is out of range, a
        variable is not set, a secret is a placeholder.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", hint="Check --config.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not a YAML file: {_yaml_problem(error)}.") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of keys, not {type(loaded).__name__}.")
    return make_configuration(loaded or {}, source=str(path))


def make_configuration(
    values: Mapping[str, Any], *, source: str, environ: Mapping[str, str] | None = None
) -> Configuration:
    """Likewise from values at hand. ``environ`` (default: the process's) serves references in `values`."""
    environ = os.environ if environ is None else environ
    for key in values:
        if key in _LITELLM_SECTIONS:
            raise ConfigError(
                f"{source}: {key!r} is a section of LiteLLM's proxy; only its model_list is read here.",
                hint="Remove the section; docs/configuration.md lists what takes its place.",
            )
    _refuse_unknown_variables()
    expanded = expand(values, environ, source=source)
    try:
        settings = GatewaySettings(**{str(key): value for key, value in expanded.items()})
    except ValidationError as error:
        explained = explain_validation(error, GatewaySettings, lambda location: _source_of(location, source))
        raise ConfigError(explained) from error
    except SettingsError as error:
        raise ConfigError(f"environment: {error}.", hint="Write lists and mappings as JSON.") from error
    refuse_placeholder_password(settings.store.url, where=f"{source}: store.url")
    timeouts = settings.upstreams.timeouts
    parsed = parse_model_list(
        settings.model_list,
        default_timeouts=Timeouts(timeouts.connect_s, timeouts.first_byte_s, timeouts.total_s),
        environ=environ,
        source=source,
    )
    return Configuration(settings, parsed.models, parsed.warnings)


def _refuse_unknown_variables() -> None:
    """A typing error in a variable's name must not go unnoticed either; pydantic sees those inside sections."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            section = name[len(ENV_PREFIX) :].split("__")[0].lower()
            if section not in GatewaySettings.model_fields:
                near = difflib.get_close_matches(section, GatewaySettings.model_fields, n=1)
                meant = f" Did you mean {ENV_PREFIX}{near[0].upper()}?" if near else ""
                raise ConfigError(f"environment variable {name}: unknown key {section!r}.{meant}")


def _source_of(location: tuple[int | str, ...], source: str) -> str:
    parts: list[str] = []
    for part in location:
        parts.append(str(part).upper())
        if ENV_PREFIX + "__".join(parts) in {name.upper() for name in os.environ}:
            return f"environment variable {ENV_PREFIX}{'__'.join(parts)}"
    return source


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Where and what, without the line itself: it may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it can't be parsed"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
