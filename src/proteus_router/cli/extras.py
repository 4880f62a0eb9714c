"""What to say when a command's optional packages are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proteus_router.errors import ConfigError

__all__ = ["extra"]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of a command: a missing package becomes the `pip install` that brings it.

    Raises
    ------
    ConfigError
        A package outside of this one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("proteus_router"):
            raise
        raise ConfigError(
            f"{error.name} is not installed.", hint=f"Run: pip install 'proteus-router[{name}]'"
        ) from error
