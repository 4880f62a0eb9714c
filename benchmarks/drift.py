"""How often the drift watches alarm for nothing, and how long they take.

    python benchmarks/drift.py outcomes
    python benchmarks/drift.py inputs

`outcomes`: one model's 0/1 scores against its predictions (Beta, mean 0.9 or 0.75), as predicted or off by a constant;
and with a drop after 400 audits. `inputs`: windows of 200 simulated queries against 2,000 others of the same world.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from proteus_router.control import InputDrift, InputReference
from proteus_router.control.recalibration import ModelLevel
from proteus_router.data.synthetic import make_world
from proteus_router.encoders.lexical import LexicalEncoder


def alarms(level: ModelLevel, mean: float, off: float, audits: int, rng: np.random.Generator) -> list[int]:
    predicted = rng.beta(12.0 * mean, 12.0 * (1.0 - mean), audits)
    scores = rng.random(audits) < predicted + off
    rows = zip(scores.tolist(), predicted.tolist(), strict=True)
    found = (level.add(float(score), p, number=n) is not None for n, (score, p) in enumerate(rows))
    return [n for n, alarm in enumerate(found) if alarm]


def outcomes(streams: int = 60, length: int = 3000) -> None:
    rng = np.random.default_rng(0)
    for mean in (0.9, 0.75):
        for off in (0.0, -0.04):
            count = sum(len(alarms(ModelLevel(), mean, off, length, rng)) for _ in range(streams))
            row = {"mean": mean, "off": off, "audits": streams * length, "false_alarms": count}
            print(json.dumps(row), flush=True)
        for drop in (0.05, 0.10, 0.15, 0.25):
            delays = []
            for _ in range(streams):
                level = ModelLevel()
                alarms(level, mean, 0.0, 400, rng)
                found = alarms(level, mean, -drop, 1500, rng)
                delays.append(found[0] + 1 if found else 1501)
            print(
                json.dumps(
                    {
                        "mean": mean,
                        "drop": drop,
                        "streams": streams,
                        "median_audits": float(np.median(delays)),
                        "90%": float(np.quantile(delays, 0.9)),
                        "within_150": float(np.mean(np.array(delays) <= 150)),
                        "not_within_1500": float(np.mean(np.array(delays) > 1500)),
                    }
                ),
                flush=True,
            )


def inputs(references: int = 6) -> None:
    world, windows, false = make_world(0), 0, 0
    hits = {share: 0 for share in (0.25, 0.5, 0.75)}
    tried = 0
    bank = world.sample(12_000, seed=900)
    assert bank.table.tasks is not None
    hard = np.isin(np.array(bank.table.tasks), ("law", "medicine", "science"))
    rng = np.random.default_rng(1)
    for seed in range(references):
        known = world.sample(2000, seed=seed).table.queries
        encoder = LexicalEncoder.fit(known)
        reference = InputReference.fit(encoder.encode(known), seed=seed)
        embedded = encoder.encode(bank.table.queries)
        false += len(InputDrift(reference).add(embedded))
        windows += len(embedded) // reference.window
        for share in hits:
            chance = np.where(hard, share / hard.sum(), (1.0 - share) / (~hard).sum())
            shifted = embedded[rng.choice(len(embedded), 10 * reference.window, p=chance)]
            hits[share] += len(InputDrift(reference).add(shifted))
        tried += 10
        found = {f"seen_at_{share:g}": f"{hit}/{tried}" for share, hit in hits.items()}
        row = {"references": seed + 1, "windows": windows, "false": false, "hard_share": float(hard.mean())}
        print(json.dumps({**row, **found}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["outcomes", "inputs"])
    if parser.parse_args().what == "outcomes":
        outcomes()
    else:
        inputs()


if __name__ == "__main__":
    main()
