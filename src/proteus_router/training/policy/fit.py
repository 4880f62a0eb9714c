"""Cross-fit the candidates, compare them out of fold, refit and ship one."""

from __future__ import annotations

import numpy as np

from proteus_router.calibration.selection import out_of_fold_choices
from proteus_router.config import PolicyConfig
from proteus_router.data.splits import fold_ids
from proteus_router.routing.frontier import estimate_points, frontier_vertices
from proteus_router.training.policy.candidates import CANDIDATES, fit_candidates
from proteus_router.training.policy.compare import bootstrap_ratios, decide
from proteus_router.training.policy.outcomes import (
    LevelOutcomes,
    accuracy_levels,
    outcomes_at_levels,
    weighted_outcomes,
)
from proteus_router.training.policy.problem import PolicyFit, Problem
from proteus_router.training.stages import StageStore
from proteus_router.training.train_log import TrainLog
from proteus_router.types import IntArray, ProgressFn

__all__ = ["fit_default_policy"]

_EVIDENCE_FOLDS = 10


def fit_default_policy(
    problem: Problem,
    *,
    config: PolicyConfig,
    seed: int,
    stages: StageStore,
    log: TrainLog,
    progress: ProgressFn,
) -> PolicyFit:
    """Fit the policy that ships.

    Every candidate is fitted on the other folds and tried on each fold in turn: that decides which one
    ships, and gives the out-of-fold accuracy and cost of its operating points. Its parameters are then
    fitted on all rows.

    Parameters
    ----------
    problem
        Cross-fitted predictions beside outcomes.
    stages
        Keeps checkpoints under names that start with ``policy``.

    Raises
    ------
    DivergenceError
        Training left the finite numbers, or jumped.
    """
    names = CANDIDATES[:2] if config.steps == 0 else CANDIDATES[: 3 + config.query_dependent]
    folds = fold_ids(problem.groups, config.n_folds, seed)
    n_folds = int(folds.max()) + 1
    levels = accuracy_levels(problem.scores)
    weighted = weighted_outcomes(problem)
    outcomes = {name: LevelOutcomes.empty(levels.size, problem.n_queries) for name in names}
    choices: dict[str, IntArray] = {}
    for fold in range(n_folds):
        progress("policy", fold, n_folds + 1)
        rows, held_rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fitted = fit_candidates(
            problem.take(rows),
            config=config,
            seed=seed,
            stages=stages,
            stage_name=f"policy_fold{fold}",
            log=log,
            names=names,
        )
        held = problem.take(held_rows)
        held_weighted = (weighted[0][held_rows], weighted[1][held_rows], weighted[2][held_rows])
        for name, settings in fitted.items():
            policy, accuracy = settings.frontier(config.min_gap)
            result = outcomes_at_levels(policy, accuracy, held, held_weighted, levels)
            outcomes[name].score[:, held_rows] = result.score
            outcomes[name].cost_usd[:, held_rows] = result.cost_usd
            outcomes[name].weight[:, held_rows] = result.weight
            if name in CANDIDATES[:2]:
                continue
            found = settings.policy.choose_all(held.predictions)
            choices.setdefault(name, np.empty((found.shape[0], problem.n_queries), dtype=np.int64))
            choices[name][:, held_rows] = found
    progress("policy", n_folds, n_folds + 1)
    verdict = decide(bootstrap_ratios(problem, outcomes, config.bootstrap, seed), config)
    shipped = names[: names.index(verdict.shipped) + 1]
    final = fit_candidates(
        problem, config=config, seed=seed, stages=stages, stage_name="policy_all", log=log, names=shipped
    )[verdict.shipped]
    if verdict.shipped in ("static mix", "plug-in"):
        # Nothing was fitted but the choice of points: predictions are out of fold already.
        estimates = final.estimates
        found = final.policy.choose_all(problem.predictions)
    else:
        found = choices[verdict.shipped]
        estimates = estimate_points(found, problem.scores, problem.costs_usd)
    vertices = frontier_vertices(estimates, min_gap=config.min_gap)
    kept = estimates.take(vertices)
    # Rows that chose a vertex must not also vouch for it: each fold's rows take what the others would choose.
    evidence = out_of_fold_choices(
        accuracy=kept.accuracy,
        cost_usd=kept.cost_usd,
        candidates=found,
        scores=problem.scores,
        costs_usd=problem.costs_usd,
        folds=fold_ids(problem.groups, min(_EVIDENCE_FOLDS, np.unique(problem.groups).size), seed),
    )
    log.write({"stage": "policy", **verdict.report})
    progress("policy", n_folds + 1, n_folds + 1)
    return PolicyFit(
        policy=final.policy.take(vertices),
        accuracy=kept.accuracy,
        cost_usd=kept.cost_usd,
        out_of_fold_choices=evidence,
        report=verdict.report,
    )
