"""Recognising secrets that nobody ever replaced."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from proteus_router.errors import ConfigError

__all__ = ["refuse_placeholder", "refuse_placeholder_password"]

_UNFILLED = re.compile(
    r".*(change[-_ ]?(me|this)|replace[-_ ]?(me|this)|fill[-_ ]?(me|in)|placeholder|todo|insert[-_ ]).*"
    r"|(<.*>|\[.*\]|\{.*\})"
    r"|(sk-)?(your|my)[-_ ].*(key|secret|token|password).*"
    r"|(sk-)?(x{3,}|\.{3,}|\*{3,})",
    re.IGNORECASE,
)
_DUMMY = re.compile(
    r"(sk-)?(1234|12345|123456|test|dummy|fake|secret|password|passwd|token|api-?key|example|proteus)([-_ ]?key)?",
    re.IGNORECASE,
)


def refuse_placeholder(secret: str, *, where: str, allow_dummy: bool = False) -> None:
    """Raise `ConfigError` where `secret` is a placeholder; the message does not repeat it.

    With `allow_dummy` a well-known dummy ("sk-1234", "test") passes: servers in one's own network often want
    any key at all. What says of itself that it is to be replaced never passes.
    """
    given = secret.strip()
    if _UNFILLED.fullmatch(given) or (_DUMMY.fullmatch(given) and not allow_dummy):
        raise ConfigError(
            f"{where} is a placeholder, not a secret.",
            hint="Put the real one into an environment variable and refer to it: ${NAME}.",
        )


def refuse_placeholder_password(url: str, *, where: str) -> None:
    """Likewise for the password inside a database URL."""
    password = urlsplit(url).password
    if password:
        refuse_placeholder(unquote(password), where=f"the password in {where}")
