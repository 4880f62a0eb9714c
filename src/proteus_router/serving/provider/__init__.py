"""A provider of language models that are simulated: real HTTP, known truth, trouble on order."""

from proteus_router.serving.provider.app import Provider
from proteus_router.serving.provider.orders import Order
from proteus_router.serving.provider.server import run_provider, serve_provider
from proteus_router.serving.provider.truth import Known, Outcome, Truth

__all__ = ["Known", "Order", "Outcome", "Provider", "Truth", "run_provider", "serve_provider"]
