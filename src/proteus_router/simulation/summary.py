"""From a stream, request by request, to the few numbers and lines that tables and figures show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from proteus_router.evaluation import metrics
from proteus_router.evaluation.metrics import STREAM_WINDOW
from proteus_router.simulation.scenario import BEST
from proteus_router.simulation.stream import LOOK_EVERY, StreamResult
from proteus_router.simulation.world import Universe
from proteus_router.types import BoolArray, FloatArray

__all__ = ["record_of", "table"]


def record_of(result: StreamResult, universe: Universe) -> dict[str, Any]:
    """Everything about a stream that is kept; JSON-able."""
    scenario = result.scenario
    n, moment = scenario.requests, scenario.moment
    before, tail = np.arange(n) < moment, np.arange(n) >= n - scenario.tail
    tiers = {}
    for index, (name, floor) in enumerate(scenario.floors.items()):
        mine, trace = result.tier == index, result.traces[name]
        tiers[name] = {
            "floor": floor,
            "requests": int(mine.sum()),
            "gap_before": _gap(result, floor, mine & before),
            "gap_tail": _gap(result, floor, mine & tail),
            "gap_all": _gap(result, floor, mine),
            "usd_before": _usd(result, mine & before),
            "usd_tail": _usd(result, mine & tail),
            "state": trace.state[-1],
            "recent_state": trace.recent_state[-1],
            "violated_at": _first(trace.requests, trace.state, "violated"),
            "recent_violated_at": _first(trace.requests, trace.recent_state, "violated"),
            "violated_wrongly": sum(
                state == "violated" and accuracy >= floor
                for state, accuracy in zip(trace.state, trace.accuracy, strict=True)
            ),
            "need": result.needs.get(name),
        }
    window = metrics.floor_satisfaction(result.target, result.expected)
    return {
        "scenario": scenario.model_dump(mode="json"),
        **asdict(result.setting),
        "tiers": tiers,
        "stream": {
            "window_satisfaction": window,
            "running_satisfaction": metrics.running_floor_satisfaction(result.target, result.expected),
            "overshoot": metrics.overshoot(result.target, result.expected),
            "usd_per_1000": 1000.0 * float(result.cost_usd.mean()),
            "usd_always_best": _always_best(result, universe),
            "best_model_accuracy": _single_models(result, universe),
            "audits": int(result.audited.sum()),
        },
        "alarm": _alarm(result),
        "other_alarms": _other_alarms(result),
        "changes": result.changes,
        "traces": {name: asdict(trace) for name, trace in result.traces.items()},
        "moving": _moving(result) if scenario.targets is not None else None,
    }


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """A line a tier, means over the seeds; of a scenario whose targets move, a line for the stream."""
    groups: dict[tuple[str, float, bool], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["scenario"]["name"], record["audit_share"], record["tracked"]].append(record)
    lines = [_HEAD]
    for (name, share, tracked), found in groups.items():
        what = f"{name:9s} {share:6.0%} {'tracked' if tracked else 'fixed':8s} {len(found):5d}"
        if found[0]["moving"] is not None:
            lines.append(f"{what} {_stream_line([record['stream'] for record in found])}")
            lines += _needs(found)
            continue
        by_tier = {tier: [record["tiers"][tier] for record in found] for tier in found[0]["tiers"]}
        lines += [f"{what} {tier:9s} {_tier_line(kept)}" for tier, kept in by_tier.items()]
        lines.append(f"{what} {_alarm_line(found)}")
        lines += _needs(found)
    return "\n".join(lines)


_HEAD = (
    "scenario  audits loop     seeds tier      gap before, after (worst) in points; USD per 1,000 before, after; state "
    "(recent) at the end; seeds ever violated (recent)"
)


def _tier_line(tiers: Sequence[Mapping[str, Any]]) -> str:
    def mean(key: str) -> float:
        return float(np.nanmean([tier[key] for tier in tiers]))

    worst = min(tier["gap_tail"] for tier in tiers)
    states, recent = (_counts(tier[key] for tier in tiers) for key in ("state", "recent_state"))
    ever = sum(tier["violated_at"] is not None for tier in tiers)
    lately = sum(tier["recent_violated_at"] is not None for tier in tiers)
    return (
        f"{mean('gap_before'):+6.2f} {mean('gap_tail'):+6.2f} ({worst:+6.2f})  {mean('usd_before'):7.3f} "
        f"{mean('usd_tail'):7.3f}  {states} ({recent})  {ever} ({lately})"
    )


def _stream_line(streams: Sequence[Mapping[str, Any]]) -> str:
    def mean(key: str) -> float:
        return float(np.mean([stream[key] for stream in streams]))

    return (
        f"windows at the floor {mean('window_satisfaction'):.0%}, running mean {mean('running_satisfaction'):.0%}, "
        f"overshoot {100 * mean('overshoot'):+.2f} points, {mean('usd_per_1000'):.3f} USD per 1,000 (always best "
        f"{mean('usd_always_best'):.3f})"
    )


def _alarm_line(records: Sequence[Mapping[str, Any]]) -> str:
    delays = [record["alarm"] for record in records if record["alarm"] is not None]
    found = f"after {float(np.median(delays)):.0f} audits of it (median)" if delays else ""
    other = float(np.mean([record["other_alarms"] for record in records]))
    best = float(np.mean([record["stream"]["usd_always_best"] for record in records]))
    reach = float(np.mean([record["stream"]["best_model_accuracy"] for record in records]))
    return (
        f"best model's fall found in {len(delays)} of {len(records)} {found}; {other:.1f} other alarms a stream; after: "
        f"always the best of before {best:.3f} USD per 1,000, best single model scores {reach:.3f}"
    )


def _needs(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the gateway said of the share of audits, where a tier was tracked; each sentence once."""
    said = {tier["need"] for record in records for tier in record["tiers"].values() if tier["need"]}
    return [f"          it says: {sentence}" for sentence in sorted(said)]


def _gap(result: StreamResult, floor: float, rows: BoolArray) -> float:
    """Points of true mean score above the floor."""
    return 100.0 * float(result.expected[rows].mean() - floor) if rows.any() else float("nan")


def _usd(result: StreamResult, rows: BoolArray) -> float:
    return 1000.0 * float(result.cost_usd[rows].mean()) if rows.any() else float("nan")


def _first(requests: Sequence[int], states: Sequence[str], wanted: str) -> int | None:
    return next((at for at, state in zip(requests, states, strict=True) if state == wanted), None)


def _always_best(result: StreamResult, universe: Universe) -> float:
    """USD per 1,000 of the tail's requests, had the best model answered them all, at the prices of the end."""
    factor = 1.0
    for found in result.scenario.happenings:
        if found.price_factor is not None and found.model in (BEST, result.models[result.best]):
            factor *= found.price_factor
    price = universe.usd_per_token[result.best] * factor
    bank, rows = universe.bank, result.row[-result.scenario.tail :]
    cost = bank.input_tokens[rows, result.best] * price[0] + bank.output_tokens[rows, result.best] * price[1]
    return 1000.0 * float(cost.mean())


def _single_models(result: StreamResult, universe: Universe) -> float:
    """Mean score of the model that is best over the tail's requests, had it answered them all."""
    bank = universe.bank
    for found in result.scenario.happenings:
        if found.skill_points is not None:
            column = result.best if found.model == BEST else result.models.index(found.model)
            bank = universe.shifted(column, found.skill_points)
    return float(bank.expected[result.row[-result.scenario.tail :]].mean(axis=0).max())


def _alarm(result: StreamResult) -> int | None:
    """Audits of the best model from the moment to the alarm that it fell; None where none was raised."""
    if not any(found.skill_points is not None for found in result.scenario.happenings):
        return None
    moment = result.scenario.moment
    falls = [change for change in result.changes if _is_fall(result, change, moment)]
    if not falls:
        return None
    until = falls[0]["at_request"]
    mine = (result.model == result.best) & (result.audited == 1)
    return int(mine[moment:until].sum())


def _other_alarms(result: StreamResult) -> int:
    fell = any(found.skill_points is not None for found in result.scenario.happenings)
    moment = result.scenario.moment
    return sum(not (fell and _is_fall(result, change, moment)) for change in result.changes)


def _is_fall(result: StreamResult, change: Mapping[str, Any], moment: int) -> bool:
    best = result.models[result.best]
    fell = change["model"] == best and change["after"] < change["before"]
    return bool(fell and change["at_request"] >= moment)


def _moving(result: StreamResult) -> dict[str, list[Any]]:
    """Target, mean score of the last 100 and of the last 500 requests, and cost, at each look."""
    at = np.arange(LOOK_EVERY, len(result.target) + 1, LOOK_EVERY)

    def last(values: FloatArray, window: int) -> list[float]:
        return [float(values[stop - window : stop].mean()) for stop in at]

    return {
        "requests": at.tolist(),
        "target": last(result.target, LOOK_EVERY),
        "accuracy": last(result.expected, LOOK_EVERY),
        "last_window": last(result.expected, STREAM_WINDOW),
        "usd_per_1000": [1000.0 * cost for cost in last(result.cost_usd, LOOK_EVERY)],
    }


def _counts(values: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(values).most_common())
