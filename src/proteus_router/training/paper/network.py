"""The paper's network in torch: trunk, performance head, gated policy, critic. Import this module lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from proteus_router.config import PaperConfig
from proteus_router.types import Arrays

__all__ = ["PaperNetwork"]

_EPSILON = 1e-3  # keeps both Beta parameters off zero; routing.policy_net adds the same


class PaperNetwork(nn.Module):  # type: ignore[misc, unused-ignore]
    """Every learned part; sizes are (dim features) -> z -> K models."""

    def __init__(self, dim: int, n_models: int, config: PaperConfig) -> None:
        super().__init__()
        width = config.hidden
        self.trunk1, self.trunk2 = nn.Linear(dim, width), nn.Linear(width, width)
        self.head = nn.Linear(width, n_models)
        self.policy1, self.policy2 = nn.Linear(width + 2, width), nn.Linear(width, width)
        self.gate = nn.Linear(1, width)
        self.beta = nn.Linear(width, 2)
        self.critic1, self.critic2 = nn.Linear(width + 2, width), nn.Linear(width, 1)
        self.boosts = nn.Parameter(torch.zeros(n_models), requires_grad=config.learn_boosts)
        start = float(np.log((config.gamma_init - 2.0) / (8.0 - config.gamma_init)))
        self.gamma_logit = nn.Parameter(torch.tensor(start), requires_grad=config.learn_gamma)

    @property
    def gamma(self) -> Any:
        return 2.0 + 6.0 * torch.sigmoid(self.gamma_logit)

    def embed(self, features: Any) -> Any:
        """(n, dim) -> z (n, width)."""
        return torch.relu(self.trunk2(torch.relu(self.trunk1(features))))

    def scores(self, z: Any) -> Any:
        """(n, n_models) logits of p."""
        return self.head(z)

    def beta_parameters(self, z: Any, tau: float, dual: float) -> Any:
        """(n, 2) parameters of the Beta over mu."""
        hidden = torch.relu(self.policy1(_with(z, tau, dual)))
        hidden = hidden * torch.sigmoid(self.gate(torch.full((1, 1), dual)))
        hidden = torch.relu(self.policy2(hidden))
        return nn.functional.softplus(self.beta(hidden)) + _EPSILON

    def value(self, z: Any, tau: float, dual: float) -> Any:
        """(n,) expected reward."""
        return self.critic2(torch.relu(self.critic1(_with(z, tau, dual)))).squeeze(1)

    def utilities(self, p: Any, mu: Any, costs: Any) -> Any:
        """(n, n_models) selection scores s_i."""
        return p + mu[:, None] * self.boosts - (1.0 - mu[:, None]) ** self.gamma * costs

    def exported(self, mean: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> Arrays:
        """Weights as `routing.policy_net` reads them, the standardisation of features folded in."""
        names = {
            "trunk1": ("trunk_w1", "trunk_b1"),
            "trunk2": ("trunk_w2", "trunk_b2"),
            "head": ("head_w", "head_b"),
            "policy1": ("policy_w1", "policy_b1"),
            "policy2": ("policy_w2", "policy_b2"),
            "gate": ("gate_w", "gate_b"),
            "beta": ("beta_w", "beta_b"),
        }
        arrays: Arrays = {}
        for layer, (weight, bias) in names.items():
            linear = getattr(self, layer)
            arrays[weight] = np.ascontiguousarray(linear.weight.detach().numpy().astype(np.float64).T)
            arrays[bias] = linear.bias.detach().numpy().astype(np.float64)
        arrays["trunk_w1"] = arrays["trunk_w1"] / scale[:, None]
        arrays["trunk_b1"] = arrays["trunk_b1"] - mean @ arrays["trunk_w1"]
        return arrays


def _with(z: Any, tau: float, dual: float) -> Any:
    extra = torch.tensor([[tau, dual]], dtype=z.dtype).expand(z.shape[0], 2)
    return torch.cat([z, extra], dim=1)
