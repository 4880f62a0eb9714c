"""The gateway under load, beside what one would put in its place.

    python benchmarks/gateway.py                               # every system, 1, 16 and 64 at once; about 8 minutes
    python benchmarks/gateway.py --seconds 1 --rounds 1 --without litellm          # does it run?
    python benchmarks/gateway.py --streams 500 --minutes 5     # a long siege: errors, memory minute by minute

Four systems answer from the same simulated provider on the same machine: the provider itself (`direct`), a bare
Starlette + aiohttp pass-through, the gateway (lexical encoder, a key, decisions in SQLite, metrics, request log), and
LiteLLM's proxy (its own virtual environment under --folder, made on first use). One worker each. Cells take turns in
rounds, so that whatever else the machine does hits all alike; the load generator shares its cores. "Added" is a
system's percentile less that of `direct` in the same cell. Give the machine nothing else to do.

Exit code 1: a target is missed, or an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gateway_load import Sample, drive, prepared
from gateway_systems import Questions, System, cpu_seconds, litellm_version, rss_mib, run_systems

_SYSTEMS = ("direct", "pass-through", "proteus", "litellm")
_MAX_ADDED_P50_MS = 1.5
_MIN_SHARE, _AIM_SHARE = 0.25, 0.40
_MIN_TIMES_LITELLM = 10.0
_MAX_P99_SHARE = 0.1
_FLAT = 1.10  # memory at the end over memory after the first minute
_PATH = "/v1/chat/completions"

T = TypeVar("T")
Cell = tuple[str, int, bool]
"""Name of a system, concurrency, whether answers are streamed."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of one cell in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--without", nargs="*", default=[], choices=["pass-through", "litellm"])
    parser.add_argument("--litellm", help="version to install; the newest otherwise")
    parser.add_argument("--folder", type=Path, default=Path("bench-results/gateway"))
    parser.add_argument("--streams", type=int, help="instead: so many streams at once, for --minutes")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--gap-s", type=float, default=0.25, help="pause between two events of a stream, with --streams"
    )
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {_cores()} cores, {platform.machine()}")
    if options.streams:
        good = siege(options.folder, options.streams, options.minutes * 60, options.gap_s)
    else:
        good = compare(options)
    sys.exit(0 if good else 1)


def compare(options: argparse.Namespace) -> bool:
    """Measure every cell in turns, print the tables; whether all targets are met."""
    wanted = [name for name in _SYSTEMS if name not in options.without]
    samples: dict[Cell, list[Sample]] = {}
    with run_systems(options.folder, wanted, litellm=options.litellm) as (systems, questions):
        if "litellm" in wanted:
            print(f"LiteLLM {litellm_version(options.folder)}")
        asked = {
            (system.name, stream): _requests(system, questions, stream)
            for system in systems
            for stream in (False, True)
        }
        for system in systems:
            for stream in (False, True):
                _run(system, asked[system.name, stream], 4, min(1.0, options.seconds), stream)  # warm up
        for turn in range(options.rounds):
            for concurrency in options.concurrency:
                for stream in (False, True):
                    for system in systems[turn % len(systems) :] + systems[: turn % len(systems)]:
                        found = _run(system, asked[system.name, stream], concurrency, options.seconds, stream)
                        samples.setdefault((system.name, concurrency, stream), []).append(found)
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
    rows = {cell: _row(found) for cell, found in samples.items()}
    _print_table(rows)
    return _print_targets(rows)


def siege(folder: Path, streams: int, seconds: float, gap_s: float) -> bool:
    """Many slow streams at once through the gateway: errors, and its memory every minute."""
    order = json.dumps({"gap_s": gap_s})
    with run_systems(folder, ["proteus"], order=order) as ((system,), questions):
        requests = _requests(system, questions, True)
        memory = [rss_mib(system.pid)]
        print(f"{streams} streams for {seconds:g} s, {gap_s:g} s between events")
        print(f"start: {memory[0]:.1f} MiB")
        seen = Sample()

        async def run() -> None:
            load = asyncio.ensure_future(
                drive(
                    system.address, requests, concurrency=streams, seconds=seconds, stream=True, sample=seen
                )
            )
            minute = 0
            while not load.done():
                await asyncio.wait({load}, timeout=60.0)
                minute += 1
                memory.append(rss_mib(system.pid))
                what = "end" if load.done() else f"minute {minute}"
                print(
                    f"{what}: {memory[-1]:.1f} MiB, {len(seen.latencies_s)} streams, {_total(seen)} errors",
                    flush=True,
                )
            await load

        _run_on_uvloop(run())
    growth = memory[-1] / memory[min(1, len(memory) - 1)]
    firsts = np.percentile(seen.first_byte_s, [50, 99]) * 1e3 if seen.first_byte_s else (np.nan, np.nan)
    print(f"{len(seen.latencies_s)} streams ended well, {_total(seen)} did not {seen.errors or ''}")
    print(f"first byte: p50 {firsts[0]:.1f} ms, p99 {firsts[1]:.1f} ms")
    print(f"memory at the end / after the first minute: {growth:.3f} (flat: at most {_FLAT:g})")
    return not seen.errors and growth <= _FLAT


def _run(system: System, requests: Sequence[bytes], concurrency: int, seconds: float, stream: bool) -> Sample:
    load = drive(system.address, requests, concurrency=concurrency, seconds=seconds, stream=stream)
    before_s = cpu_seconds(system.pid)
    sample = _run_on_uvloop(load)
    sample.cpu_s = cpu_seconds(system.pid) - before_s
    return sample


def _requests(system: System, questions: Questions, stream: bool) -> list[bytes]:
    return prepared(system.address, _PATH, questions.bodies(system, stream=stream), system.headers)


def _row(found: Sequence[Sample]) -> dict[str, Any]:
    """Percentiles over the answers of all rounds; throughput is the median round's."""
    latencies = np.concatenate([sample.latencies_s for sample in found]) * 1e3
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) if latencies.size else (np.nan,) * 3
    rates = [sample.per_second for sample in found]
    return {
        "n": int(latencies.size),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "per_s": float(np.median(rates)),
        "rates": (min(rates), max(rates)),
        "cpu_ms": sum(sample.cpu_s for sample in found) / max(1, latencies.size) * 1e3,
        "errors": sum(_total(sample) for sample in found),
    }


def _print_table(rows: Mapping[Cell, Mapping[str, Any]]) -> None:
    print(
        "\n| answers | at once | system | n | requests/s (least to most) | p50 ms "
        "| added p50 | added p95 | added p99 | CPU ms | errors |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (name, concurrency, stream), row in sorted(rows.items(), key=lambda item: _place(item[0])):
        direct = rows["direct", concurrency, stream]
        added = [
            f"{row[p] - direct[p]:+.2f}" if name != "direct" else f"{row[p]:.2f}"
            for p in ("p50", "p95", "p99")
        ]
        low, high = row["rates"]
        kind = "streamed" if stream else "whole"
        print(
            f"| {kind} | {concurrency} | {name} | {row['n']} | {row['per_s']:.0f} ({low:.0f} to {high:.0f}) "
            f"| {row['p50']:.2f} | {' | '.join(added)} | {row['cpu_ms']:.2f} | {row['errors']} |"
        )
    print(
        "\nPercentiles of `direct` are its own; those of the others are what they add. CPU: a request's, of the system.\n"
    )


def _print_targets(rows: Mapping[Cell, Mapping[str, Any]]) -> bool:
    """One line a target, with the ratio it is about."""
    met = []

    def say(what: str, value: float, good: bool, wanted: str) -> None:
        met.append(good)
        print(f"{'met   ' if good else 'MISSED'}  {what}: {value:.2f} ({wanted})")

    def added(name: str, cell: tuple[int, bool], percentile: str) -> float:
        return float(rows[name, *cell][percentile] - rows["direct", *cell][percentile])

    cells = sorted({(concurrency, stream) for _, concurrency, stream in rows})
    names = {name for name, _, _ in rows}
    for cell in cells:
        at = f"{'streamed' if cell[1] else 'whole'}, {cell[0]} at once"
        ours = rows["proteus", *cell]
        if cell[0] == 1:
            extra = added("proteus", cell, "p50")
            say(f"{at}: added p50, ms", extra, extra <= _MAX_ADDED_P50_MS, f"at most {_MAX_ADDED_P50_MS:g}")
        if "pass-through" in names:
            share = ours["per_s"] / rows["pass-through", *cell]["per_s"]
            say(
                f"{at}: share of the pass-through's throughput",
                share,
                share >= _MIN_SHARE,
                f"at least {_MIN_SHARE:g}, aim {_AIM_SHARE:g}",
            )
        if "litellm" in names:
            times = ours["per_s"] / rows["litellm", *cell]["per_s"]
            say(
                f"{at}: throughput / LiteLLM's",
                times,
                times >= _MIN_TIMES_LITELLM,
                f"at least {_MIN_TIMES_LITELLM:g}",
            )
            if cell[0] > 1:
                share = added("proteus", cell, "p99") / added("litellm", cell, "p99")
                say(
                    f"{at}: added p99 / LiteLLM's",
                    share,
                    share <= _MAX_P99_SHARE,
                    f"at most {_MAX_P99_SHARE:g}",
                )
    wrong = sum(row["errors"] for row in rows.values())
    say("wrong answers", wrong, wrong == 0, "none")
    return all(met)


def _place(cell: Cell) -> tuple[bool, int, int]:
    name, concurrency, stream = cell
    return stream, concurrency, _SYSTEMS.index(name)


def _total(sample: Sample) -> int:
    return sum(sample.errors.values())


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _run_on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


if __name__ == "__main__":
    main()
