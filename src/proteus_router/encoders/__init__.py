"""Encoders: a text batch to float32 rows, behind one small protocol, with a cache on disk."""

from __future__ import annotations

from proteus_router.encoders.base import Encoder
from proteus_router.encoders.cache import CachedEncoder, cache_root
from proteus_router.encoders.loading import load_encoder

__all__ = ["CachedEncoder", "Encoder", "cache_root", "load_encoder"]
