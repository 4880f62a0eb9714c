"""`make bench-core`: cost, response, floors and time on real data, held out, per data set and seed.

    python benchmarks/core.py [--data cascades9 routerbench11 mmlupro13] [--seeds 20] [--cost-seeds 5]
                              [--paper-seeds 5] [--jobs 2] [-o bench-results]

Every (data set, seed) is one process with one BLAS thread; finished ones are kept in RESULTS/core.jsonl and not
repeated, so an interrupted run goes on. Splits are 70/30 by near-text group. RESULTS/core.md is the summary.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from proteus_router.training.stages import MemoryStages, StageStore
from proteus_router.types import Arrays

LEVELS, RESPONSE_TARGETS, FLOOR_TARGETS, TEST_SHARE = 12, 16, 10, 0.3
DATA_SETS = ("cascades9", "routerbench11", "mmlupro13")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS))
    parser.add_argument(
        "--seeds", type=int, default=20, help="splits for floors; cost uses the first --cost-seeds"
    )
    parser.add_argument("--cost-seeds", type=int, default=5)
    parser.add_argument("--paper-seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--encoder", default="lexical")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results"))
    parser.add_argument("--unit", nargs=3, metavar=("DATA", "ROUTER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.unit:
        name, router, seed = options.unit
        print(json.dumps(run_unit(name, router, int(seed), options.encoder)))
        return
    folder = Path(os.environ.get("PROTEUS_DATA", "../shared/data"))
    missing = [name for name in options.data if not (folder / name).is_dir()]
    if missing:
        print(f"skipped: no {', '.join(missing)} in PROTEUS_DATA={folder}")
    names = [name for name in options.data if name not in missing]
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "core.jsonl"
    done = {_key(record) for record in _read(results)}
    suffix = "" if options.encoder == "lexical" else f"+{Path(options.encoder).name}"
    units = [
        (name, router + (suffix if router == "default" else ""), seed)
        for seed in range(max(options.seeds, options.paper_seeds))
        for name in names
        for router, limit in (
            ("default", options.seeds),
            ("ridge", options.cost_seeds),
            ("knn", options.cost_seeds),
            ("paper", options.paper_seeds),
        )
        if seed < limit
    ]
    todo = [unit for unit in units if unit not in done]
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, records in enumerate(pool.map(lambda unit: _spawn(unit, options.encoder), todo), 1):
            with results.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
            left = (time.monotonic() - started) / number * (len(todo) - number)
            done_now = f"{_key(records[-1])} {records[-1]['seconds']:.0f} s"
            print(f"[{number}/{len(todo)}] {done_now}, {left / 60:.0f} min left", flush=True)
    text = summary(_read(results))
    (options.output / "core.md").write_text(text, encoding="utf-8")
    print("\n" + text)


def _key(record: dict[str, Any]) -> tuple[str, str, int]:
    return record["data"], record["router"], record["seed"]


def _read(path: Path) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def _spawn(unit: tuple[str, str, int], encoder: str) -> list[dict[str, Any]]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(
        [sys.executable, __file__, "--encoder", encoder, "--unit", *map(str, unit)],
        env=os.environ | one_thread,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{unit}: {run.stderr[-3000:]}")
    records: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    return records


def run_unit(name: str, router_name: str, seed: int, encoder_name: str) -> list[dict[str, Any]]:
    """Train on one split and measure everything on the held-out rows.

    The default router brings the plug-in over the same heads along: a second record, last but one.
    """
    from proteus_router.data.grouping import near_text_groups
    from proteus_router.data.sources import read_outcomes
    from proteus_router.data.splits import split_rows
    from proteus_router.training.pipeline import canonical_models

    table = read_outcomes(Path(os.environ.get("PROTEUS_DATA", "../shared/data")) / name)
    split = split_rows(near_text_groups(table.queries), test_share=TEST_SHARE, seed=seed)
    train = canonical_models(table.take(split.train))
    test = table.take(split.test).with_models(train.models)
    about = {"data": name, "seed": seed, "n_train": train.n_queries, "n_test": test.n_queries}
    about["n_models"] = test.n_models
    records = []
    heads = _HeadsOnly()
    for server_name in ("default", "plug-in") if router_name.startswith("default") else (router_name,):
        started = time.monotonic()
        server: Any
        if server_name in ("ridge", "knn"):
            server = _baseline(server_name, train, test)
        elif server_name == "paper":
            server = _paper(train, test, seed)
        else:
            server = _router(train, test, seed, encoder_name, heads, train_policy=server_name == "default")
        seconds = time.monotonic() - started
        label = router_name if server_name == "default" else server_name
        records.append(about | {"router": label, "seconds": seconds} | measure(server, test, seed))
    return records[::-1]


class _HeadsOnly(MemoryStages):
    """Remembers heads, so that a second policy over the same heads need not fit them again."""

    def save(self, name: str, arrays: Arrays) -> None:
        if name.startswith("heads"):
            super().save(name, arrays)


class _Served:
    """Choices of every vertex on the test rows, and the two ways from a target to a mix of vertices."""

    def __init__(self, choices: Any, target_map: Any, policy_report: Any) -> None:
        self.choices, self.map, self.policy_report = choices, target_map, policy_report
        accuracy = target_map.vertex_accuracy
        self.range = float(accuracy[-1]), float(accuracy[0])

    def requested(self, target: float) -> tuple[Any, Any, float]:
        """(n,) choices of two operating points and the probability of the first, for a requested accuracy."""
        mix = self.map.expected(target, clamp=True)
        return self.choices[mix.upper], self.choices[mix.lower], mix.weight_upper


class _ServedToTheLetter(_Served):
    """The paper's way from target to operating point: the policy is conditioned on the target itself."""

    def __init__(self, choices: Any, target_map: Any, report: Any, targets: Any, raw_choices: Any) -> None:
        super().__init__(choices, target_map, report)
        self.targets, self.raw_choices = targets, raw_choices
        self.range = float(targets.min()), float(targets.max())

    def requested(self, target: float) -> tuple[Any, Any, float]:
        choice = self.raw_choices[int(np.abs(self.targets - target).argmin())]
        return choice, choice, 1.0


def _paper(train: Any, test: Any, seed: int) -> _Served:
    from proteus_router.calibration.certify import calibrate
    from proteus_router.config import TrainConfig
    from proteus_router.data.grouping import near_text_groups
    from proteus_router.data.splits import split_rows
    from proteus_router.training.paper import fit_paper
    from proteus_router.training.stages import MemoryStages
    from proteus_router.training.train_log import TrainLog

    config = TrainConfig()
    groups = near_text_groups(train.queries)
    split = split_rows(groups, test_share=config.calibration_share, seed=seed)
    fitting, evidence = train.take(split.train), train.take(split.test)
    fit = fit_paper(
        fitting,
        groups[split.train],
        encoder=None,
        config=config.paper,
        seed=seed,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    target_map = calibrate(
        accuracy=fit.accuracy,
        cost_usd=fit.cost_usd,
        choices=fit.policy.choose_all(fit.predictor.predict(list(evidence.queries))),
        scores=evidence.scores,
        costs_usd=evidence.costs_usd,
        confidence=0.95,
        scheme="split",
        data_fingerprint="",
        policy_fingerprint="",
        seed=seed,
    )
    predictions = fit.predictor.predict(list(test.queries))
    return _ServedToTheLetter(
        fit.policy.choose_all(predictions),
        target_map,
        {"shipped": "paper"},
        fit.all_points.targets,
        fit.all_points.choose_all(predictions),
    )


def _router(
    train: Any, test: Any, seed: int, encoder_name: str, stages: StageStore, *, train_policy: bool
) -> _Served:
    from proteus_router.config import load_train_config
    from proteus_router.routing.router import Router
    from proteus_router.training.pipeline import train_router
    from proteus_router.training.train_log import TrainLog

    encoder = None
    if encoder_name != "lexical":
        from proteus_router.encoders import load_encoder

        encoder = load_encoder(encoder_name)
    config = load_train_config(None, seed=seed, encoder=encoder_name)
    if not train_policy:  # zero steps: static mix and plug-in are the only candidates
        config = config.model_copy(update={"policy": config.policy.model_copy(update={"steps": 0})})
    artifact = train_router(
        train,
        config=config,
        encoder=encoder,
        stages=stages,
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    router = Router.from_artifact(artifact)
    choices = router.policy.choose_all(router.predict(test.queries))
    return _Served(choices, router.target_map, artifact.manifest["policy"]["report"])


def _baseline(name: str, train: Any, test: Any) -> _Served:
    from proteus_router.baselines.learned import cross_fitted, knn, ridge
    from proteus_router.data.grouping import near_text_groups
    from proteus_router.encoders.lexical import LexicalEncoder

    encoder = LexicalEncoder.fit(train.queries)
    features, held_out = (encoder.encode(part.queries).astype(np.float64) for part in (train, test))
    fitted, predicted = cross_fitted(
        ridge() if name == "ridge" else knn(),
        features,
        train.scores,
        train.costs_usd,
        near_text_groups(train.queries),
        held_out,
    )
    return plugin_server(fitted, predicted, train)


def plugin_server(fitted: Any, predicted: Any, train: Any) -> _Served:
    """The plug-in inverted on out-of-fold predictions `fitted` of the training rows, serving rows with `predicted`."""
    from proteus_router.baselines.plugin import fit_plugin
    from proteus_router.calibration.certify import calibrate

    plugin = fit_plugin(fitted, train.scores, train.costs_usd)
    target_map = calibrate(
        accuracy=plugin.estimates.accuracy,
        cost_usd=plugin.estimates.cost_usd,
        choices=plugin.policy.choose_all(fitted),
        scores=train.scores,
        costs_usd=train.costs_usd,
        confidence=0.95,
        scheme="crossfit",
        data_fingerprint="",
        policy_fingerprint="",
        seed=0,
    )
    return _Served(plugin.policy.choose_all(predicted), target_map, {})


def measure(server: Any, test: Any, seed: int) -> dict[str, Any]:
    """Cost, response and floors on the test rows."""
    from scipy.stats import binom

    from proteus_router.evaluation.yardsticks import (
        accuracy_levels,
        cost_ratio,
        frontier_ratio,
        outcome_of,
        tau_correlation,
    )
    from proteus_router.routing.target_map import Certificate

    choices, target_map = server.choices, server.map

    def outcome(mix: Any) -> Any:
        return outcome_of(
            choices[mix.upper], choices[mix.lower], mix.weight_upper, test.scores, test.costs_usd
        )

    def asked(target: float) -> Any:
        upper, lower, weight = server.requested(target)
        return outcome_of(upper, lower, weight, test.scores, test.costs_usd)

    levels = accuracy_levels(test.scores, LEVELS)
    requested = cost_ratio(levels, [asked(float(v)) for v in levels], test.scores, test.costs_usd)
    last = len(choices) - 1
    pairs = [(v, min(v + 1, last), float(w)) for v in range(last + 1) for w in np.linspace(1.0, 0.1, 10)]
    tested = [outcome_of(choices[a], choices[b], w, test.scores, test.costs_usd) for a, b, w in pairs]
    hindsight = frontier_ratio(levels, tested, test.scores, test.costs_usd)

    wanted = np.linspace(server.range[0], server.range[1], RESPONSE_TARGETS)
    achieved = [asked(float(v)) for v in wanted]
    gaps = np.array([item.accuracy for item in achieved]) - wanted
    test_se = np.array([item.accuracy_se for item in achieved])
    train_se = test_se * np.sqrt(test.n_queries / max(int(target_map.n[0]), 1))

    rng = np.random.default_rng(10_000 + seed)
    cells = []
    limits = target_map.certified_range
    if limits["max_target"] is not None:
        for target in np.linspace(limits["min_target"], limits["max_target"], FLOOR_TARGETS):
            certificate = target_map.certify(float(target))
            if not isinstance(certificate, Certificate):
                cells.append({"target": float(target), "certified": False})
                continue
            mix = target_map.mix(certificate)
            drawn = np.where(
                rng.random(test.n_queries) < mix.weight_upper, choices[mix.upper], choices[mix.lower]
            )
            right = round(float(test.scores[np.arange(test.n_queries), drawn].sum()))
            cells.append(
                {
                    "target": float(target),
                    "certified": True,
                    "achieved": outcome(mix).accuracy,
                    "below": bool(binom.cdf(right, test.n_queries, float(target)) < 0.05),
                }
            )
    cheapest = float(test.scores.mean(axis=0)[test.costs_usd.mean(axis=0).argmin()])
    binding = requested.ratios[levels > cheapest]
    return {
        "req": requested.mean,
        "req_levels": requested.ratios.tolist(),
        "req_binding": float(binding.mean()) if len(binding) else None,
        "hind": hindsight.mean,
        "oracle": requested.oracle_ratio,
        "gap_closed": requested.oracle_gap_closed,
        "correlation": tau_correlation(wanted, np.array([item.accuracy for item in achieved])),
        "response_range": float(np.ptp([item.accuracy for item in achieved])),
        "gap_abs": float(np.abs(gaps).mean()),
        "gap_expected_test_only": float((np.sqrt(2 / np.pi) * test_se).mean()),
        "gap_expected": float((np.sqrt(2 / np.pi) * np.hypot(test_se, train_se)).mean()),
        "cells": cells,
        "shipped": server.policy_report.get("shipped"),
    }


def summary(records: list[dict[str, Any]]) -> str:
    """Markdown tables; +- is the standard error over seeds, whose test rows overlap."""
    lines = [
        "| data | router | seeds | n train / test | REQ | binding | HIND | oracle | gap closed | worst level |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["data"], record["router"]), []).append(record)
    for (data, router), rows in sorted(groups.items()):
        level = np.array([row["req_levels"] for row in rows])
        worst = int(level.mean(axis=0).argmax())
        binding = [row["req_binding"] for row in rows if row["req_binding"] is not None]
        lines.append(
            f"| {data} | {router} | {len(rows)} | {rows[0]['n_train']} / {rows[0]['n_test']} | "
            f"{_pm([row['req'] for row in rows])} | {_pm(binding)} | {_pm([row['hind'] for row in rows])} | "
            f"{np.mean([row['oracle'] for row in rows]):.3f} | {np.mean([row['gap_closed'] for row in rows]):.0%} | "
            f"{_pm(level[:, worst].tolist())} |"
        )
    lines += [
        "",
        "| data | router | seeds | correlation (worst seed) | achieved range | mean abs gap | / sampling error |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for (data, router), rows in sorted(groups.items()):
        correlations = [row["correlation"] for row in rows]
        gap, expected = (
            np.mean([row["gap_abs"] for row in rows]),
            np.mean([row["gap_expected"] for row in rows]),
        )
        lines.append(
            f"| {data} | {router} | {len(rows)} | {np.mean(correlations):.4f} ({np.min(correlations):.4f}) | "
            f"{np.mean([row['response_range'] for row in rows]):.4f} | {gap:.4f} | {gap / expected:.2f} |"
        )
    lines += [
        "",
        "| data | router | splits | cells | significantly below | overshoot, points | median train s |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for (data, router), rows in sorted(groups.items()):
        certified = [[cell for cell in row["cells"] if cell["certified"]] for row in rows]
        flat = [cell for cells in certified for cell in cells]
        shares = [np.mean([cell["below"] for cell in cells]) for cells in certified if cells]
        over = [
            np.mean([cell["achieved"] - cell["target"] for cell in cells]) * 100
            for cells in certified
            if cells
        ]
        lines.append(
            f"| {data} | {router} | {len(rows)} | {len(flat)} | {_pm([float(share) for share in shares])} | "
            f"{_pm([float(value) for value in over], 2)} | {np.median([row['seconds'] for row in rows]):.0f} |"
        )
    return "\n".join(lines) + "\n"


def _pm(values: list[float], digits: int = 3) -> str:
    if not values:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.{digits}f} +- {error:.{digits}f}"


if __name__ == "__main__":
    main()
