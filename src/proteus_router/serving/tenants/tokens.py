"""The secret of a key: made here, kept nowhere."""

from __future__ import annotations

import hashlib
import secrets

__all__ = ["PREFIX", "new_token", "token_sha256"]

PREFIX = "sk-proteus-"
_BYTES = 32  # 256 random bits: too many to guess, so that a plain hash keeps them safe


def new_token() -> str:
    """A new secret; shown once, stored nowhere."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def token_sha256(token: str) -> str:
    """What is stored of a token, hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
