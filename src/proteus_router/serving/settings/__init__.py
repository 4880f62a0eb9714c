"""Configuration of the gateway: typed sections, LiteLLM's model list, references to the environment."""

from proteus_router.serving.settings.loading import Configuration, load_configuration, make_configuration
from proteus_router.serving.settings.sections import GatewaySettings
from proteus_router.serving.settings.tiers import BudgetSettings, TierSettings

__all__ = [
    "BudgetSettings",
    "Configuration",
    "GatewaySettings",
    "TierSettings",
    "load_configuration",
    "make_configuration",
]
