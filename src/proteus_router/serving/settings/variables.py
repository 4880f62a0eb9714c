"""``${VAR}``, ``${VAR:-default}`` and LiteLLM's ``os.environ/VAR`` in configuration values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proteus_router.errors import ConfigError

__all__ = ["expand"]

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WHOLE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


def expand(value: Any, environ: Mapping[str, str], *, source: str, path: tuple[str, ...] = ()) -> Any:
    """`value` with every reference in its strings replaced; ``$${`` stands for a literal ``${``.

    Raises
    ------
    ConfigError
        A variable is not set and has no default; names file, key and variable.

    Examples
    --------
    >>> expand({"port": "${PORT:-8080}"}, {}, source="proteus.yaml")
    {'port': '8080'}
    """
    if isinstance(value, Mapping):
        return {
            key: expand(item, environ, source=source, path=(*path, str(key))) for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            expand(item, environ, source=source, path=(*path, str(place))) for place, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value

    def read(name: str, default: str | None) -> str:
        found = environ.get(name)
        if found:
            return found
        if default is None:
            raise ConfigError(
                f"{source}: {'.'.join(path)}: environment variable {name} is not set.",
                hint=f"Set it, or give a default: ${{{name}:-...}}.",
            )
        return default

    whole = _WHOLE.fullmatch(value)
    if whole:
        return read(whole[1], None)
    return _REFERENCE.sub(lambda match: read(match[1], match[2]) if match[1] else "${", value)
