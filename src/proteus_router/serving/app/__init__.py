"""The gateway's HTTP side: an ASGI application over store, keys, limits and upstreams."""

from proteus_router.serving.app.factory import create_app, openapi_document
from proteus_router.serving.app.gateway import Gateway, is_loopback

__all__ = ["Gateway", "create_app", "is_loopback", "openapi_document"]
