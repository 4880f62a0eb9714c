"""Training of the query-dependent residual on the tabulated selection of a trained policy.

The query-independent logit l_j becomes ``l_j + sum_d f_d(x) w_d sigmoid(a_d + g_d log lambda_j)``: the gate
lets a feature matter at some prices of accuracy and not at others (the paper's lambda-gating). Everything
else stays as trained. The objective is the same exact sum over the Beta's grid, now query by query.
"""

from __future__ import annotations

import numpy as np

from proteus_router.config import PolicyConfig
from proteus_router.routing.residual import SUMMARY_FEATURES, ResidualPolicy, summary_features
from proteus_router.training.policy.adam import Adam
from proteus_router.training.policy.beta import beta_pmf, entropy, kl_divergence, logit_gradient, sigmoid
from proteus_router.training.policy.learner import TrainedPolicy, check_finite
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray

__all__ = ["train_residual"]

_BATCH = 256
_TARGETS_A_STEP = 4
_LOG_EVERY = 10  # the diagnostics cost as much as the update


def train_residual(
    trained: TrainedPolicy,
    *,
    config: PolicyConfig,
    seed: int,
    stages: StageStore,
    stage_name: str,
    log: TrainLog,
) -> ResidualPolicy:
    """`config.n_settings` operating points along the targets, then every model alone.

    Raises
    ------
    DivergenceError
        A parameter stopped being finite.
    """
    environment = trained.environment
    unit = environment.cost_unit_usd
    raw = summary_features(environment.problem.predictions, unit)
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    features = (raw - mean) / scale
    names = ("weight", "gate_offset", "gate_slope")
    params: dict[str, FloatArray] = {name: np.zeros(len(SUMMARY_FEATURES)) for name in names}
    adam = Adam(params, dict.fromkeys(names, 0.02))
    start = 0
    saved = stages.load(stage_name)
    if saved is not None:
        start = int(saved["step"])
        params = {name: saved[f"param.{name}"].copy() for name in names}
        adam.restore(saved)
    if start < config.steps:
        table = environment.tabulate(trained.boosts, trained.gamma)  # (101, n)
        for step in range(start, config.steps):
            record = _update(trained, params, adam, table, features, step, config, seed)
            if record is not None:
                log.write({"stage": stage_name, "step": step, **record})
            check_finite(params, step, stage_name)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                arrays = {f"param.{name}": value.copy() for name, value in params.items()}
                stages.save(stage_name, arrays | adam.state() | {"step": np.array(step + 1)})
    return _points(trained, params, mean, scale, config.n_settings)


def _update(
    trained: TrainedPolicy,
    params: dict[str, FloatArray],
    adam: Adam,
    table: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    features: FloatArray,
    step: int,
    config: PolicyConfig,
    seed: int,
) -> dict[str, object] | None:
    environment = trained.environment
    rng = np.random.default_rng([seed, 1, step])
    rows = rng.choice(features.shape[0], size=min(_BATCH, features.shape[0]), replace=False)
    targets = rng.choice(config.n_targets, size=min(_TARGETS_A_STEP, config.n_targets), replace=False)
    batch, log_dual = features[rows], trained.log_dual[targets]
    scores = environment.reward_scores[rows, table[:, rows]].T  # (batch, 101)
    costs = environment.reward_costs[rows, table[:, rows]].T
    dual = np.exp(log_dual)[:, None, None]
    tau = environment.targets[targets]
    rewards = (dual * (scores - tau[:, None, None]) - costs) / (1.0 + dual)  # (targets, batch, 101)
    gate = sigmoid(params["gate_offset"] + log_dual[:, None] * params["gate_slope"])  # (targets, 7)
    logit = trained.quality_logit[targets][:, None] + (gate * params["weight"]) @ batch.T
    before = beta_pmf(logit, config.concentration_end)
    by_logit = logit_gradient(before, rewards, logit, config.concentration_end) / rows.size
    by_weights = by_logit @ batch / targets.size  # (targets, 7)
    by_gate = by_weights * params["weight"] * gate * (1.0 - gate)
    gradients = {
        "weight": (by_weights * gate).sum(axis=0),
        "gate_offset": by_gate.sum(axis=0),
        "gate_slope": (by_gate * log_dual[:, None]).sum(axis=0),
    }
    adam.ascend(params, gradients, scale=1.0 - 0.9 * step / max(config.steps - 1, 1))
    if step % _LOG_EVERY:
        return None
    gate = sigmoid(params["gate_offset"] + log_dual[:, None] * params["gate_slope"])
    moved = trained.quality_logit[targets][:, None] + (gate * params["weight"]) @ batch.T
    after = beta_pmf(moved, config.concentration_end)
    return {
        "approx_kl": kl_divergence(before, after),
        "clip_fraction": 0.0,  # exact gradient, nothing to clip
        "entropy": entropy(after),
        "targets": tau.tolist(),
        "dual": np.exp(log_dual).tolist(),
        "accuracy": (after * scores).sum(axis=2).mean(axis=1).tolist(),
        "cost_usd": ((after * costs).sum(axis=2).mean(axis=1) * environment.cost_unit_usd).tolist(),
    }


def _points(
    trained: TrainedPolicy, params: dict[str, FloatArray], mean: FloatArray, scale: FloatArray, count: int
) -> ResidualPolicy:
    environment = trained.environment
    wanted = np.linspace(environment.targets[0], environment.targets[-1], count)
    logit = np.interp(wanted, environment.targets, trained.quality_logit)
    log_dual = np.interp(wanted, environment.targets, trained.log_dual)
    weights = params["weight"] * sigmoid(params["gate_offset"] + log_dual[:, None] * params["gate_slope"])
    models = environment.problem.n_models
    return ResidualPolicy(
        logit=np.concatenate([logit, np.zeros(models)]),
        weights=np.concatenate([weights, np.zeros((models, weights.shape[1]))]),
        boosts=trained.boosts,
        gamma=trained.gamma,
        price_at_zero=environment.kappa / environment.cost_unit_usd,
        feature_mean=mean,
        feature_scale=scale,
        cost_unit_usd=environment.cost_unit_usd,
        fixed=np.concatenate([np.full(count, -1), np.arange(models)]).astype(np.int64),
    )
