"""A transformer tuned end to end on the outcomes: alone, and as a third estimator beside the shipped heads.

    python benchmarks/fine_tuning.py tune FOLDER -o tuned.npz [--device cuda] [--jobs 12] [--minutes 8]
    python benchmarks/fine_tuning.py compare tuned.npz [--jobs 2]

`tune` fits the encoder in FOLDER (a Hugging Face folder) once for each fold and once on all training rows, for every
data set of PROTEUS_DATA, seed and setting, and keeps the predictions of held-out folds and of the test rows. It wants
an accelerator; `compare` does not. Splits and cost ratio (REQ) are those of `core.py`; the setting is chosen by
out-of-fold error on the training rows, so no test outcome picks anything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import core
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import read_outcomes
from proteus_router.data.splits import fold_ids, split_rows
from proteus_router.types import FloatArray, IntArray, Predictions

DATA_SETS = ("mmlupro13", "routerbench11", "cascades9")  # the longest first
N_FOLDS = 5
SETTINGS = ((3e-5, 3), (1e-4, 4), (2e-4, 6))  # highest rate of the encoder, passes over the rows


class Unit(NamedTuple):
    """One fit; `fold` -1 is the one on all training rows, which predicts the test rows."""

    setting: int
    data: str
    seed: int
    fold: int

    @property
    def key(self) -> str:
        return "|".join(map(str, self))


class Split(NamedTuple):
    train: OutcomeTable
    test: OutcomeTable
    groups: IntArray
    folds: IntArray


@lru_cache(maxsize=4)
def split_of(data: str, seed: int) -> Split:
    from proteus_router.training.pipeline import canonical_models

    table = read_outcomes(Path(os.environ.get("PROTEUS_DATA", "../shared/data")) / data)
    groups = near_text_groups(table.queries)
    split = split_rows(groups, test_share=core.TEST_SHARE, seed=seed)
    train = canonical_models(table.take(split.train))
    own = near_text_groups(train.queries)
    test = table.take(split.test).with_models(train.models)
    return Split(train, test, own, fold_ids(own, N_FOLDS, seed))


@lru_cache(maxsize=1)
def _encoder(folder: str, device: str) -> Any:
    from proteus_router.encoders.transformer import TransformerEncoder

    return TransformerEncoder(folder, device=device)


def fit(unit: Unit, folder: str, device: str) -> tuple[Unit, FloatArray]:
    """(rows, models) scores of the rows that this fit has not seen."""
    from proteus_router.encoders.fine_tune import fine_tune

    split = split_of(unit.data, unit.seed)
    kept = split.folds != unit.fold
    texts = np.array(split.train.queries, dtype=object)
    lr, epochs = SETTINGS[unit.setting]
    tuned = fine_tune(
        _encoder(folder, device),
        list(texts[kept]),
        split.train.scores[kept],
        seed=unit.seed,
        epochs=epochs,
        lr=lr,
    )
    unseen = list(split.test.queries) if unit.fold < 0 else list(texts[~kept])
    return unit, tuned.predict_scores(unseen).astype(np.float32)


def tune(options: argparse.Namespace) -> None:
    started = time.monotonic()
    units = [
        Unit(setting, data, seed, fold)
        for setting, data, seed, fold in product(
            options.settings, options.data, range(options.seeds), range(-1, N_FOLDS)
        )
    ]
    found: dict[str, FloatArray] = {}
    work = partial(fit, folder=str(options.folder), device=options.device)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        waiting = iter(units)
        running: set[Future[tuple[Unit, FloatArray]]] = set()
        while True:
            late = time.monotonic() - started > 60 * options.minutes
            while not late and len(running) < options.jobs and (unit := next(waiting, None)) is not None:
                running.add(pool.submit(work, unit))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                unit, scores = future.result()
                found[unit.key] = scores
                print(
                    f"{time.monotonic() - started:5.0f} s  {len(found)}/{len(units)}  {unit.key}", flush=True
                )
    np.savez_compressed(options.output, **found)  # type: ignore[arg-type, unused-ignore]


def compare(options: argparse.Namespace) -> None:
    with np.load(options.tuned) as file:
        found = {
            Unit(int(a), b, int(c), int(d)): file[key] for key in file for a, b, c, d in [key.split("|")]
        }
    complete = [
        (setting, data, seed)
        for setting, data, seed in product(range(len(SETTINGS)), options.data, range(options.seeds))
        if all(Unit(setting, data, seed, fold) in found for fold in range(-1, N_FOLDS))
    ]
    cells = sorted({(data, seed) for _, data, seed in complete})
    tuned = {
        cell: {s: _assemble(found, s, *cell) for s, *own in complete if tuple(own) == cell} for cell in cells
    }
    rows: dict[str, dict[str, list[float]]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for (data, seed), outcome in zip(
            cells, pool.map(measure, cells, [tuned[cell] for cell in cells]), strict=True
        ):
            print(data, seed, {name: round(value, 4) for name, value in outcome.items()}, flush=True)
            for name, value in outcome.items():
                rows.setdefault(data, {}).setdefault(name, []).append(value)
    print("\n| data set | " + " | ".join(next(iter(rows.values()))) + " |")
    print("|---" * (1 + len(next(iter(rows.values())))) + "|")
    for data, columns in rows.items():
        print(f"| {data} | " + " | ".join(_mean(values) for values in columns.values()) + " |")


def _assemble(
    found: dict[Unit, FloatArray], setting: int, data: str, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Out-of-fold scores of the training rows, and scores of the test rows."""
    split = split_of(data, seed)
    oof = np.empty_like(split.train.scores)
    for fold in range(N_FOLDS):
        oof[split.folds == fold] = found[Unit(setting, data, seed, fold)]
    return oof, found[Unit(setting, data, seed, -1)].astype(np.float64)


def measure(cell: tuple[str, int], tuned: dict[int, tuple[FloatArray, FloatArray]]) -> dict[str, float]:
    """Mean REQ of the plug-in on three predictors of the score; costs from the shipped heads."""
    from proteus_router.config import HeadsConfig
    from proteus_router.training.heads import fit_heads
    from proteus_router.training.heads.stack import combine, fit_stack
    from proteus_router.training.stages import MemoryStages

    data, seed = cell
    split = split_of(data, seed)
    train, test = split.train, split.test
    heads = fit_heads(
        train,
        split.groups,
        encoder=None,
        config=HeadsConfig(),
        seed=seed,
        stages=MemoryStages(),
        progress=lambda *_: None,
    )
    ours, ours_test = heads.oof, heads.predictor.predict(list(test.queries))
    stacks = {setting: fit_stack([oof, ours.scores], train.scores) for setting, (oof, _) in tuned.items()}
    errors = {
        setting: float(np.nanmean((combine(stacks[setting], [oof, ours.scores]) - train.scores) ** 2))
        for setting, (oof, _) in tuned.items()
    }
    best = min(errors, key=errors.__getitem__)
    oof, on_test = tuned[best]
    alone = fit_stack([oof], train.scores)
    pairs = {
        "shipped heads": (ours.scores, ours_test.scores),
        "tuned": (combine(alone, [oof]), combine(alone, [on_test])),
        "both": (
            combine(stacks[best], [oof, ours.scores]),
            combine(stacks[best], [on_test, ours_test.scores]),
        ),
    }
    outcome = {
        name: _cost_ratio(
            split, seed, Predictions(mine, ours.costs_usd), Predictions(theirs, ours_test.costs_usd)
        )
        for name, (mine, theirs) in pairs.items()
    }
    return outcome | {"setting chosen": float(best), "weight of tuned": float(stacks[best].contrast[0])}


def _mean(values: list[float]) -> str:
    array = np.array(values)
    error = array.std(ddof=1) / np.sqrt(array.size) if array.size > 1 else np.nan
    return f"{array.mean():.3f} ± {error:.3f} (n = {array.size})"


def _cost_ratio(split: Split, seed: int, fitted: Predictions, predicted: Predictions) -> float:
    """REQ as `core.py` measures it: levels, out-of-fold inversion without a margin, held-out outcome."""
    server = core.plugin_server(_limited(fitted), _limited(predicted), split.train)
    return float(core.measure(server, split.test, seed)["req"])


def _limited(predictions: Predictions) -> Predictions:
    from proteus_router.routing.predictor import limit_scores

    return Predictions(limit_scores(predictions.scores), predictions.costs_usd)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("tune")
    first.add_argument("folder", type=Path)
    first.add_argument("-o", "--output", type=Path, required=True)
    first.add_argument("--device", default="cpu")
    first.add_argument("--settings", nargs="+", type=int, default=list(range(len(SETTINGS))))
    first.add_argument("--minutes", type=float, default=600.0, help="start no further fit after that")
    first.set_defaults(run=tune)
    second = commands.add_parser("compare")
    second.add_argument("tuned", type=Path)
    second.set_defaults(run=compare)
    for command in (first, second):
        command.add_argument("--data", nargs="+", default=list(DATA_SETS))
        command.add_argument("--seeds", type=int, default=5)
        command.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
