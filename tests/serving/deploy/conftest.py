"""What a deployed gateway needs: a router, and an upstream."""

from tests.serving.e2e.conftest import provider, router_folder, served, site, world

__all__ = ["provider", "router_folder", "served", "site", "world"]  # fixtures
