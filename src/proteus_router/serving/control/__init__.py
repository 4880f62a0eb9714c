"""The closed loop beside the gateway: audits, live certificates, tracking, quarantine, webhooks."""

from proteus_router.serving.control.control import Control
from proteus_router.serving.control.fold import Fold
from proteus_router.serving.control.ports import LoopStorePort
from proteus_router.serving.control.steering import Steering
from proteus_router.serving.control.views import STATES, TierView

__all__ = ["STATES", "Control", "Fold", "LoopStorePort", "Steering", "TierView"]
