"""Times a user feels: a whole `proteus train`, one `route`, a `route_batch`, `import proteus_router`.

    PROTEUS_DATA=... python benchmarks/speed.py [--data cascades9 mmlupro13] [--queries 2000]

`train` is the command itself, in a process of its own, on 70% of the rows; `route` is timed on the other rows, one
call a query. A bare loop of the same length over `time.perf_counter` is timed beside it, to show how busy the
machine is. Prints one JSON line a data set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["cascades9", "mmlupro13"])
    parser.add_argument("--queries", type=int, default=2000, help="at most so many routed, per data set")
    options = parser.parse_args()
    print(json.dumps({"import_s": import_seconds()}), flush=True)
    for name in options.data:
        folder = Path(os.environ.get("PROTEUS_DATA", "../shared/data")) / name
        if not folder.is_dir():
            print(f"skipped: no {folder}")
            continue
        print(json.dumps({"data": name} | times(folder, options.queries)), flush=True)


def import_seconds(repeats: int = 7) -> dict[str, float]:
    """Least and median time of `import proteus_router` in a fresh interpreter, less an empty one's."""
    code = "import time; t = time.perf_counter(); import proteus_router; print(time.perf_counter() - t)"
    found = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    return {"least": round(min(found), 3), "median": round(float(np.median(found)), 3)}


def times(folder: Path, n_queries: int) -> dict[str, Any]:
    from proteus_router.data.sources import read_outcomes
    from proteus_router.routing.router import Router

    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        _proteus("data", "split", str(folder), "-o", str(work / "split"))
        started = time.perf_counter()
        _proteus("train", str(work / "split/train"), "-o", str(work / "router"))
        train_s = time.perf_counter() - started
        router = Router.load(work / "router")
        held_out = list(read_outcomes(work / "split/test").queries)[:n_queries]
    target = router.target_map.certified_range["max_target"] or 0.5
    rng = np.random.default_rng(0)
    for text in held_out[:50]:
        router.route(text, accuracy_target=target, rng=rng)
    single, bare = [], []
    for text in held_out:
        t0 = time.perf_counter()
        router.route(text, accuracy_target=target, rng=rng)
        t1 = time.perf_counter()
        single.append(t1 - t0)
        bare.append(time.perf_counter() - t1)
    started = time.perf_counter()
    router.route_batch(held_out, accuracy_target=target, rng=rng)
    batch_s = time.perf_counter() - started
    return {
        "train_s": round(train_s, 1),
        "n_routed": len(held_out),
        "median_words": int(np.median([len(text.split()) for text in held_out])),
        "route_p50_ms": round(1e3 * float(np.median(single)), 3),
        "route_p99_ms": round(1e3 * float(np.quantile(single, 0.99)), 3),
        "bare_loop_p50_ms": round(1e3 * float(np.median(bare)), 5),
        "route_batch_per_s": round(len(held_out) / batch_s),
        "load_average": os.getloadavg()[0],
    }


def _proteus(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "proteus_router", *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
