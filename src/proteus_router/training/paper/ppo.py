"""PPO as published: one batch, one tau, a clipped policy gradient with a critic, a scalar dual. Import lazily.

Reward (paper, section 2): r = p_m* - alpha c_m* + lambda (p_m* - tau). An episode is one decision, so the
advantage is r - V(z, tau, lambda). The performance head learns on the same batches (joint training: the paper
describes one optimiser, one schedule and no separate phase) by binary cross-entropy on observed scores.

The paper says that b and gamma are learned but not how: argmax has no derivative by them. Here the expected
reward under softmax(s / temperature) at the sampled mu gives it, on the first pass over each batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from proteus_router.config import PaperConfig
from proteus_router.errors import DivergenceError
from proteus_router.training.paper.network import PaperNetwork
from proteus_router.training.paper.rows import PaperRows
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays, FloatArray, ProgressFn

__all__ = ["dual_index", "train_network"]

_LOG_EVERY = 10
_LEAST_ENTROPY = -2000.0  # nats; under it log-probabilities leave the range of float32 ratios


def train_network(
    rows: PaperRows,
    *,
    config: PaperConfig,
    seed: int,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> tuple[PaperNetwork, FloatArray]:
    """The trained network and its final dual(s), (1,) or (n_targets,).

    Every batch draws from a generator seeded by (seed, step), so that a run resumed from a checkpoint draws
    what the uninterrupted one would have drawn.

    Raises
    ------
    DivergenceError
        A loss or parameter stopped being finite; KL or entropy exploded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PaperNetwork(rows.features.shape[1], rows.scores.shape[1], config)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    duals = np.ones(config.n_targets if config.dual == "per_target" else 1)
    saved = stages.load("paper")
    start = 0
    if saved is not None:
        start, duals = int(saved["step"]), saved["duals"].copy()
        _restore(network, optimiser, saved)
    for step in range(start, config.steps):
        rng = np.random.default_rng([seed, step])
        tau = float(rng.uniform(*rows.targets))
        index = dual_index(tau, rows.targets, duals.size)
        # Parameters first: a Beta whose parameters are not finite can't be drawn from.
        _check({"parameters": _largest(trained)}, step, config)
        record = _step(network, optimiser, trained, rows, tau, float(duals[index]), rng, config)
        _check(record, step, config)
        if config.use_dual and (step + 1) % config.dual_every == 0:
            duals[index] = max(0.0, duals[index] + config.dual_rate * (tau - record["accuracy"]))
        if step % _LOG_EVERY == 0 or step + 1 == config.steps:
            log.write(
                {
                    "stage": "paper",
                    "step": step,
                    **record,
                    "targets": [tau],
                    "dual": [float(duals[index])],
                    "accuracy": [record["accuracy"]],
                    "cost": [record["cost"]],
                }
            )
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            stages.save("paper", _checkpoint(network, optimiser, duals, step + 1))
            progress("paper", step + 1, config.steps)
    return network, duals


def dual_index(tau: float, limits: tuple[float, float], count: int) -> int:
    """Which dual belongs to `tau`: the nearest of `count` targets even over the range."""
    if count == 1:
        return 0
    return int(np.clip(np.rint((tau - limits[0]) / (limits[1] - limits[0]) * (count - 1)), 0, count - 1))


def _step(
    network: PaperNetwork,
    optimiser: Any,
    trained: list[Any],
    rows: PaperRows,
    tau: float,
    dual: float,
    rng: np.random.Generator,
    config: PaperConfig,
) -> dict[str, float]:
    count = rows.features.shape[0]
    batch = rng.choice(count, size=min(config.batch_size, count), replace=False)
    features, scores = torch.from_numpy(rows.features[batch]), torch.from_numpy(rows.scores[batch])
    seen, costs = torch.from_numpy(rows.observed[batch]), torch.from_numpy(rows.costs)
    seen_tau = tau if config.tau_conditioning else 0.0
    with torch.no_grad():
        z = network.embed(features)
        p = torch.sigmoid(network.scores(z))
        old = network.beta_parameters(z, seen_tau, dual)
        drawn = rng.beta(*old.double().numpy().T)
        mu = torch.from_numpy(np.clip(drawn, 1e-4, 1.0 - 1e-4).astype(np.float32))
        old_log = _beta(old).log_prob(mu)
        worth = torch.where(seen, scores, p) if config.reward == "observed" else p
        outcomes = worth - config.alpha * costs + dual * (worth - tau)  # (batch, n_models)
        choice = network.utilities(p, mu, costs).argmax(dim=1, keepdim=True)
        reward = outcomes.gather(1, choice).squeeze(1)
        baseline = network.value(z, seen_tau, dual) if config.use_critic else reward.mean()
        advantage = reward - baseline
        if config.normalise_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        accuracy = float(torch.where(seen, scores, p).gather(1, choice).mean())
        cost = float(costs[choice].mean())
    record: dict[str, float] = {}
    for epoch in range(config.epochs):
        z = network.embed(features)
        logits = network.scores(z)
        beta = _beta(network.beta_parameters(z, seen_tau, dual))
        log_ratio = beta.log_prob(mu) - old_log
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        head_loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[seen], scores[seen])
        loss = policy_loss + head_loss
        if config.use_critic:
            loss = loss + 0.5 * (network.value(z, seen_tau, dual) - reward).square().mean()
        if epoch == 0 and (config.learn_boosts or config.learn_gamma):
            chances = torch.softmax(network.utilities(p, mu, costs) / config.temperature, dim=1)
            loss = loss - (chances * outcomes).sum(dim=1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.max_gradient_norm)
        optimiser.step()
        with torch.no_grad():
            record = {
                "approx_kl": float((ratio - 1.0 - log_ratio).mean()),
                "clip_fraction": float(((ratio - 1.0).abs() > config.clip).float().mean()),
                "entropy": float(beta.entropy().mean()),
                "loss": float(loss),
            }
    with torch.no_grad():
        record["gamma"] = float(network.gamma)
    return record | {
        "head_loss": float(head_loss.detach()),
        "reward": float(reward.mean()),
        "quality_preference": float(mu.mean()),
        "accuracy": accuracy,
        "cost": cost,
    }


def _beta(parameters: Any) -> Any:
    return torch.distributions.Beta(parameters[:, 0], parameters[:, 1], validate_args=False)


def _largest(parameters: list[Any]) -> float:
    norms = torch.stack(torch._foreach_norm(parameters, float("inf")))
    return float(norms.detach().max())


def _check(record: dict[str, float], step: int, config: PaperConfig) -> None:
    for metric, value in record.items():
        if not np.isfinite(value):
            raise DivergenceError(
                f"paper: {metric} not finite at update {step}.",
                step=step,
                metric=metric,
                hint="Lower paper.learning_rate.",
            )
    kl, entropy = record.get("approx_kl", 0.0), record.get("entropy", 0.0)
    if kl > config.max_kl or entropy < _LEAST_ENTROPY:
        metric = "approx_kl" if kl > config.max_kl else "entropy"
        raise DivergenceError(
            f"paper: {metric} is {record[metric]:.3g} at update {step}.",
            step=step,
            metric=metric,
            hint="Lower paper.learning_rate or paper.epochs.",
        )


def _checkpoint(network: PaperNetwork, optimiser: Any, duals: FloatArray, step: int) -> Arrays:
    arrays: Arrays = {f"net.{name}": value.numpy().copy() for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            arrays[f"opt.{index}.{key}"] = value.numpy().copy()
    return arrays | {"duals": duals.copy(), "step": np.array(step)}


def _restore(network: PaperNetwork, optimiser: Any, saved: Arrays) -> None:
    network.load_state_dict(
        {name[4:]: torch.from_numpy(value.copy()) for name, value in saved.items() if name.startswith("net.")}
    )
    state: dict[int, dict[str, Any]] = {}
    for name, value in saved.items():
        if name.startswith("opt."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
