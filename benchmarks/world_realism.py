"""How real do simulated worlds look to the shipped heads? The same figures for worlds and for real data.

    python benchmarks/world_realism.py                                  # five worlds
    python benchmarks/world_realism.py --data $PROTEUS_DATA/cascades9   # a real data set, five splits

Per world (or split): shipped heads and the plug-in policy on `--train` queries, everything else held out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proteus_router.baselines.plugin import fit_plugin
from proteus_router.config import HeadsConfig
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import read_outcomes
from proteus_router.data.splits import split_rows
from proteus_router.data.synthetic import make_world
from proteus_router.evaluation.yardsticks import accuracy_levels, cost_ratio, outcome_of
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.training.heads import fit_heads
from proteus_router.training.stages import MemoryStages
from proteus_router.types import FloatArray, IntArray

COLUMNS = ("contrasts", "scores", "ratio", "oracle", "lowest", "best", "router", "agreement", "twins")


@dataclass(frozen=True)
class Case:
    """A table split in two; expected scores of the test rows where the truth is known."""

    label: str
    train: OutcomeTable
    test: OutcomeTable
    truth: FloatArray | None
    groups: IntArray


def explained(predicted: FloatArray, observed: FloatArray, mean: FloatArray) -> float:
    """Share of the squared deviations from the training means that a prediction removes."""
    return float(1.0 - ((observed - predicted) ** 2).sum() / ((observed - mean) ** 2).sum())


def centred(values: FloatArray) -> FloatArray:
    """Contrasts between models: each row less its mean over models."""
    contrasts: FloatArray = values - values.mean(axis=-1, keepdims=True)
    return contrasts


def figures(case: Case, seed: int) -> dict[str, float]:
    """Everything in one row of the table."""
    train, test = case.train, case.test
    heads = fit_heads(
        train,
        near_text_groups(train.queries),
        encoder=None,
        config=HeadsConfig(),
        seed=seed,
        stages=MemoryStages(),
        progress=lambda stage, done, total: None,
    )
    predictions = heads.predictor.predict(list(test.queries))
    plugin = fit_plugin(heads.oof, train.scores, train.costs_usd)
    choices = plugin.policy.choose_all(predictions)
    levels = accuracy_levels(test.scores)
    outcomes = []
    for level in levels:
        mix = mix_at_accuracy(
            plugin.estimates.accuracy, min(float(level), float(plugin.estimates.accuracy[0]))
        )
        outcomes.append(
            outcome_of(choices[mix.upper], choices[mix.lower], mix.weight_upper, test.scores, test.costs_usd)
        )
    ratio = cost_ratio(levels, outcomes, test.scores, test.costs_usd)
    mean: FloatArray = np.asarray(train.scores.mean(axis=0))
    rows = np.arange(test.n_queries)
    known = test.scores if case.truth is None else case.truth
    pairs = np.asarray(np.corrcoef(test.scores.T))[np.triu_indices(test.n_models, 1)]
    return {
        "contrasts": explained(centred(predictions.scores), centred(test.scores), centred(mean)),
        "scores": explained(predictions.scores, test.scores, mean),
        "ratio": ratio.mean,
        "oracle": ratio.oracle_ratio,
        "lowest": float(test.scores.mean(axis=0).min()),
        "best": float(known.mean(axis=0).max()),
        "router": float(max(known[rows, choice].mean() for choice in choices)),
        "agreement": float(pairs.mean()),
        "twins": float((np.bincount(case.groups)[case.groups] > 1).mean()),
    }


def world_case(seed: int, n_train: int, n_test: int, n_models: int) -> Case:
    """The first rows of a sample train, the rest test."""
    sample = make_world(seed, n_models=n_models).sample(n_train + n_test, seed=1)
    table = sample.table
    return Case(
        label=table.name,
        train=table.take(np.arange(n_train)),
        test=table.take(np.arange(n_train, n_train + n_test)),
        truth=sample.expected_scores[n_train:],
        groups=near_text_groups(table.queries),
    )


def data_case(table: OutcomeTable, seed: int, n_train: int) -> Case:
    """A grouped 70/30 split, cut to ``n_train`` training rows."""
    groups = near_text_groups(table.queries)
    split = split_rows(groups, test_share=0.3, seed=seed)
    return Case(
        label=f"{table.name} split {seed}",
        train=table.take(split.train[:n_train]),
        test=table.take(split.test),
        truth=None,
        groups=groups,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="a real data set instead of simulated worlds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=4000)
    parser.add_argument("--models", type=int, default=10)
    arguments = parser.parse_args()
    real = None if arguments.data is None else read_outcomes(arguments.data)
    print(f"{'n_train=' + str(arguments.train):24s}" + "".join(f"{name:>11s}" for name in COLUMNS))
    rows = []
    for seed in range(arguments.seeds):
        if real is None:
            case = world_case(seed, arguments.train, arguments.test, arguments.models)
        else:
            case = data_case(real, seed, arguments.train)
        row = figures(case, seed)
        rows.append([row[name] for name in COLUMNS])
        print(f"{case.label:24s}" + "".join(f"{value:11.3f}" for value in rows[-1]), flush=True)
    values = np.array(rows)
    print(f"{'mean':24s}" + "".join(f"{value:11.3f}" for value in values.mean(axis=0)))
    print(
        f"{'s.e. over seeds':24s}"
        + "".join(f"{v:11.3f}" for v in values.std(axis=0, ddof=1) / len(rows) ** 0.5)
    )


if __name__ == "__main__":
    main()
