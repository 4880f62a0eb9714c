"""Lagrangian policy gradient, exact and in closed form, over the tabulated hard selection.

For target tau_j the policy is Beta(mu; m_j, s) with m_j = sigmoid(l_j), a linear spline in tau with a knot
at every target. With R_j[m] the mean reward of the hard selection at mu_m,

    J = sum_j sum_m Beta_m(m_j, s) R_j[m],      R_j[m] = (lambda_j (Y[m] - tau_j) - C[m]) / (1 + lambda_j),

where Y and C are the mean score and cost at mu_m. Nothing is sampled, so nothing needs a clip or a critic.
The division keeps targets of different price on one scale; it moves no optimum. Every few steps each
target's dual follows its own shortfall. Boosts and gamma move along `smooth.smoothed_reward`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.config import PolicyConfig
from proteus_router.errors import DivergenceError
from proteus_router.routing.points import PointPolicy
from proteus_router.training.policy.adam import Adam
from proteus_router.training.policy.beta import beta_pmf, entropy, kl_divergence, logit_gradient, sigmoid
from proteus_router.training.policy.environment import Environment
from proteus_router.training.policy.smooth import smoothed_reward
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import Arrays, FloatArray, IntArray

__all__ = ["TrainedPolicy", "check_finite", "train_policy"]

_BATCH = 512
_TARGETS_A_STEP = 6


@dataclass(frozen=True)
class TrainedPolicy:
    """The fitted tau-conditioned policy.

    Attributes
    ----------
    environment
        The rows and scales it was trained with.
    quality_logit
        (n_targets,) logit of the mean quality preference at each internal target.
    log_dual
        (n_targets,)
    boosts
        (n_models,)
    gamma
        In [2, 8].
    """

    environment: Environment
    quality_logit: FloatArray
    log_dual: FloatArray
    boosts: FloatArray
    gamma: float

    def settings(self, count: int) -> FloatArray:
        """(count,) mean quality preference at targets even over the range."""
        targets = self.environment.targets
        wanted = np.linspace(targets[0], targets[-1], count)
        return sigmoid(np.interp(wanted, targets, self.quality_logit))

    def points(self, count: int) -> PointPolicy:
        """`count` operating points along the targets, from the lowest to the highest."""
        return self.environment.points_at(self.settings(count), self.boosts, self.gamma)


def train_policy(
    environment: Environment,
    *,
    config: PolicyConfig,
    seed: int,
    stages: StageStore,
    stage_name: str,
    log: TrainLog,
) -> TrainedPolicy:
    """Train, or go on from the stage's last checkpoint; both end in the same parameters.

    Raises
    ------
    DivergenceError
        A parameter stopped being finite, or one update moved the policy by more than `max_kl`.
    """
    params: dict[str, FloatArray] = {
        "quality_logit": np.zeros(config.n_targets),
        "boosts": np.zeros(environment.problem.n_models),
        "gamma_logit": np.array(np.log((config.gamma_init - 2.0) / (8.0 - config.gamma_init))),
        "log_dual": environment.log_dual.copy(),
    }
    if config.dual == "scalar":
        params["log_dual"][:] = environment.log_dual.mean()
    rates = {"quality_logit": config.learning_rate}
    if config.learn_boosts:
        rates["boosts"] = config.selection_rate
    if config.learn_gamma:
        rates["gamma_logit"] = 10.0 * config.selection_rate
    adam = Adam(params, rates)
    start, table = 0, None
    saved = stages.load(stage_name)
    if saved is not None:
        start = int(saved["step"])
        params = {name: saved[f"param.{name}"].copy() for name in params}
        adam.restore(saved)
        table = saved["table"]
    for step in range(start, config.steps):
        if table is None or step % config.refresh_every == 0:
            table = _mean_outcomes(environment, environment.tabulate(params["boosts"], _gamma(params)))
        kl, record = _update(environment, params, adam, table, step, config, seed)
        log.write({"stage": stage_name, "step": step, **record})
        check_finite(params, step, stage_name)
        if kl > config.max_kl:
            raise DivergenceError(
                f"{stage_name}: update {step} moved the policy by KL {kl:.3g} > max_kl.",
                step=step,
                metric="approx_kl",
                hint="Lower policy.learning_rate or policy.concentration_end.",
            )
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            stages.save(stage_name, _checkpoint(params, adam, table, step + 1))
    return TrainedPolicy(
        environment, params["quality_logit"], params["log_dual"], params["boosts"], _gamma(params)
    )


def check_finite(params: dict[str, FloatArray], step: int, stage_name: str) -> None:
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise DivergenceError(
                f"{stage_name}: {name} is not finite after update {step}.",
                step=step,
                metric=name,
                hint="Lower policy.learning_rate and policy.selection_rate.",
            )


def _update(
    environment: Environment,
    params: dict[str, FloatArray],
    adam: Adam,
    table: FloatArray,
    step: int,
    config: PolicyConfig,
    seed: int,
) -> tuple[float, dict[str, object]]:
    progress = step / max(config.steps - 1, 1)
    concentration = (
        config.concentration_start * (config.concentration_end / config.concentration_start) ** progress
    )
    logit, dual = params["quality_logit"], np.exp(params["log_dual"])
    before = beta_pmf(logit, concentration)
    lagrangian = dual[:, None] * (table[0] - environment.targets[:, None]) - table[1]
    rewards = lagrangian / (1.0 + dual)[:, None]  # (n_targets, 101)
    gradients = {"quality_logit": logit_gradient(before, rewards, logit, concentration)}
    if config.learn_boosts or config.learn_gamma:
        gradients |= _selection_gradients(environment, params, step, config, seed)
    objective = float((before * rewards).sum(axis=1).mean())
    adam.ascend(params, gradients, scale=1.0 - 0.9 * progress)
    after = beta_pmf(params["quality_logit"], concentration)
    accuracy, cost = after @ table[0], after @ table[1]
    if (step + 1) % config.dual_every == 0:
        shortfall = environment.targets - accuracy
        if config.dual == "scalar":
            shortfall = np.full_like(shortfall, shortfall.mean())
        moved = params["log_dual"] + config.dual_rate * shortfall
        params["log_dual"] = np.clip(moved, *environment.log_dual_range)
    kl = kl_divergence(before, after)
    return kl, {
        "approx_kl": kl,
        "clip_fraction": 0.0,  # the gradient is exact: there is no ratio to clip
        "entropy": entropy(after),
        "objective": objective,
        "gamma": _gamma(params),
        "targets": environment.targets.tolist(),
        "dual": np.exp(params["log_dual"]).tolist(),
        "accuracy": accuracy.tolist(),
        "cost_usd": (cost * environment.cost_unit_usd).tolist(),
    }


def _selection_gradients(
    environment: Environment, params: dict[str, FloatArray], step: int, config: PolicyConfig, seed: int
) -> dict[str, FloatArray]:
    # Seeded by the step, so that a resumed run draws what the uninterrupted one would have drawn.
    rng = np.random.default_rng([seed, step])
    count = environment.problem.n_queries
    rows = rng.choice(count, size=min(_BATCH, count), replace=False)
    targets = rng.choice(config.n_targets, size=min(_TARGETS_A_STEP, config.n_targets), replace=False)
    dual = np.exp(params["log_dual"][targets])[:, None, None]
    rewards = (dual * environment.reward_scores[rows] - environment.reward_costs[rows]) / (1.0 + dual)
    gamma = _gamma(params)
    _, by_boosts, by_gamma = smoothed_reward(
        environment.problem.predicted_scores[rows],
        environment.predicted_costs[rows],
        rewards,
        sigmoid(params["quality_logit"][targets]),
        params["boosts"],
        gamma,
        environment.kappa,
        config.temperature,
    )
    gradients: dict[str, FloatArray] = {}
    if config.learn_boosts:
        gradients["boosts"] = by_boosts
    if config.learn_gamma:
        inner = (gamma - 2.0) / 6.0
        gradients["gamma_logit"] = np.array(by_gamma * 6.0 * inner * (1.0 - inner))
    return gradients


def _gamma(params: dict[str, FloatArray]) -> float:
    return 2.0 + 6.0 * float(sigmoid(params["gamma_logit"]))


def _mean_outcomes(environment: Environment, choices: IntArray) -> FloatArray:
    """(2, 101) mean reward score and cost of the hard selection at every mu of the grid."""
    rows = np.arange(choices.shape[1])
    means = np.empty((2, choices.shape[0]))
    for index, choice in enumerate(choices):
        means[0, index] = environment.reward_scores[rows, choice].mean()
        means[1, index] = environment.reward_costs[rows, choice].mean()
    return means


def _checkpoint(params: dict[str, FloatArray], adam: Adam, table: FloatArray, step: int) -> Arrays:
    arrays: Arrays = {f"param.{name}": value.copy() for name, value in params.items()}
    return arrays | adam.state() | {"table": table, "step": np.array(step)}
