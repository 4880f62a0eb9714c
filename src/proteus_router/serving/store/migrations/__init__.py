"""Alembic's side of the store. Applied versions are never edited; a change is a new file in versions/."""
