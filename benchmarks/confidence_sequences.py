"""How wide the live certificate's interval is, and what holds when the mean drifts, beside two known constructions.

    python benchmarks/confidence_sequences.py

Width: mean distance of the lower bound from the mean, in standard errors sqrt(a (1 - a) / n), for coins. Misses: share
of streams in which the lower bound was above the running mean at any of the looks, one every 100 requests.
"""

from __future__ import annotations

import json
import time

import numpy as np

from proteus_router.control.confidence_sequence import bounds_from_capital, stakes
from proteus_router.types import FloatArray

CONFIDENCE, FLOOR = 0.95, 0.8
GOAL = np.log(2.0 / (1.0 - CONFIDENCE))


def ours(scores: FloatArray, requests: int, rate: float) -> FloatArray:
    """(S,) lower bounds; NaN marks a request without audit."""
    above, below = stakes(FLOOR)
    surplus = np.nan_to_num(scores - FLOOR)
    log_above, log_below = (
        np.stack([np.log1p(s * surplus).sum(axis=1) for s in side], axis=1) for side in (above, below)
    )
    return bounds_from_capital(
        log_above, log_below, requests, centre=FLOOR, rate_floor=rate, confidence=CONFIDENCE
    )[0]


def empirical_bernstein(scores: FloatArray, requests: int, rate: float) -> FloatArray:
    """Fan's inequality with the same stakes, the same centre and the same mixture (Howard et al. 2021)."""
    above, _ = stakes(FLOOR)
    surplus = np.nan_to_num(scores - FLOOR)
    total, squares = surplus.sum(axis=1), (surplus**2).sum(axis=1)
    price = (-np.log1p(-above * FLOOR) - above * FLOOR) / FLOOR**2
    logs = above * total[:, None] - price * squares[:, None]
    low, high = np.zeros(len(scores)), np.ones(len(scores))
    for _ in range(30):
        m = 0.5 * (low + high)
        left = logs - above * rate * requests * (m[:, None] - FLOOR)
        excluded = np.log(np.exp(left - left.max(axis=1)[:, None]).mean(axis=1)) + left.max(axis=1) >= GOAL
        low, high = np.where(excluded, m, low), np.where(excluded, high, m)
    return low


def predictable(scores: FloatArray) -> FloatArray:
    """Lower bounds of betting with stakes that learn (Waudby-Smith and Ramdas 2024, predictable plug-in)."""
    n = scores.shape[1]
    t = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(scores, axis=1)) / (t + 1)
    spread = (0.25 + np.cumsum((scores - mean) ** 2, axis=1)) / (t + 1)
    before = np.hstack([np.full((len(scores), 1), 0.25), spread[:, :-1]])
    stake = np.minimum(np.sqrt(2.0 * GOAL / (before * t * np.log(t + 1))), 0.75)
    low, high = np.zeros(len(scores)), np.ones(len(scores))
    for _ in range(20):
        m = 0.5 * (low + high)
        excluded = np.log1p(stake * (scores - m[:, None])).sum(axis=1) >= GOAL
        low, high = np.where(excluded, m, low), np.where(excluded, high, m)
    return low


def widths(rng: np.random.Generator, streams: int = 100) -> None:
    for rate in (1.0, 0.05):
        for audits in (100, 1000, 10_000):
            mean, requests = 0.82, round(audits / rate)
            drawn = np.full((streams, round(audits * 1.5)), np.nan)  # the audited ones, and room
            for stream, count in enumerate(rng.binomial(requests, rate, streams)):
                drawn[stream, :count] = rng.random(count) < mean
            error = np.sqrt(mean * (1.0 - mean) / audits)
            row: dict[str, float] = {
                "rate": rate,
                "audits": audits,
                "ours": (mean - ours(drawn, requests, rate).mean()) / error,
                "empirical_bernstein": (mean - empirical_bernstein(drawn, requests, rate).mean()) / error,
            }
            if rate == 1.0:
                coins = (rng.random((streams, audits)) < mean).astype(float)
                row["predictable_stakes"] = (mean - predictable(coins).mean()) / error
            print(json.dumps({name: round(float(value), 2) for name, value in row.items()}), flush=True)


def misses(rng: np.random.Generator, streams: int = 500, requests: int = 3000) -> None:
    t = np.arange(requests)
    paths = {
        "constant": np.full(requests, 0.8),
        "falls": np.where(t < 300, 0.95, 0.7),
        "rises": np.where(t < 300, 0.6, 0.9),
        "wave": 0.8 + 0.15 * np.sin(t / 60.0),
    }
    for name, path in paths.items():
        scores = (rng.random((streams, requests)) < path).astype(float)
        running = np.cumsum(path) / (t + 1)
        missed = np.zeros((2, streams), dtype=bool)
        for look in range(100, requests + 1, 100):
            seen = scores[:, :look]
            missed[0] |= ours(seen, look, 1.0) > running[look - 1]
            missed[1] |= predictable(seen) > running[look - 1]
        print(
            json.dumps(
                {
                    "path": name,
                    "streams": streams,
                    "ours_missed": missed[0].mean(),
                    "predictable_missed": missed[1].mean(),
                }
            ),
            flush=True,
        )


def main() -> None:
    started, rng = time.process_time(), np.random.default_rng(0)
    widths(rng)
    misses(rng)
    print(json.dumps({"cpu_seconds": round(time.process_time() - started)}))


if __name__ == "__main__":
    main()
