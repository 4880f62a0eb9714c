"""The gateway's store: SQLite (WAL) or PostgreSQL."""

from proteus_router.serving.store.feedback import FeedbackResult, FeedbackStatus
from proteus_router.serving.store.store import Store, open_store

__all__ = ["FeedbackResult", "FeedbackStatus", "Store", "open_store"]
