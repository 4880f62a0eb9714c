"""A figure a scenario and audit share: floor, true accuracy, live interval, state and cost over the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw"]

_INK, _TRACKED, _FIXED = "#1f2933", "#0b6e4f", "#b4532a"
_FEW = 3
_COLOURS = {True: _TRACKED, False: _FIXED}
_STATES = {
    "insufficient_evidence": "#d5dbe1",
    "holding": "#4c9f70",
    "at_risk": "#e3b505",
    "violated": "#b3261e",
    "stale": "#7d8aa0",
    "conflict": "#7b4fa3",
}


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the streams of one scenario and one audit share; tracked and fixed beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first = records[0]
    moving = first["moving"] is not None
    names = ["stream"] if moving else list(first["tiers"])
    figure, axes = plt.subplots(
        1, len(names) + 1, figsize=(4.1 * (len(names) + 1), 3.6), dpi=130, layout="constrained", squeeze=False
    )
    for place, name in zip(axes[0], names, strict=False):
        if moving:
            _targets(place, records)
        else:
            _tier(place, records, name)
    _cost(axes[0][-1], records, moving)
    for place in axes[0]:
        place.spines[["top", "right"]].set_visible(False)
        place.grid(alpha=0.25, linewidth=0.6)
        place.set_xlabel("requests")
        for found in first["scenario"]["happenings"]:
            place.axvline(found["at"], color=_INK, linewidth=0.8, linestyle=":")
    seeds = len({record["seed"] for record in records})
    figure.suptitle(
        f"{first['scenario']['name']}: {first['scenario']['description']} Simulated; {first['audit_share']:.0%} audited, "
        f"{first['scenario']['requests']:,} requests, {seeds} seed{'s' if seeds > 1 else ''}",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _tier(axes: Any, records: Sequence[Mapping[str, Any]], name: str) -> None:
    floor = records[0]["tiers"][name]["floor"]
    axes.axhline(floor, color=_INK, linewidth=1.2, linestyle="--", label="floor")
    for tracked, found in _by_loop(records):
        traces = [record["traces"][name] for record in found]
        requests, colour = traces[0]["requests"], _COLOURS[tracked]
        recent = np.array([trace["recent_accuracy"] for trace in traces])
        if len(traces) <= _FEW:
            for line in recent:
                axes.plot(requests, line, color=colour, linewidth=0.4, alpha=0.35)
        else:  # many lines hide each other: their middle 80%
            low, high = np.quantile(recent, (0.1, 0.9), axis=0)
            axes.fill_between(requests, low, high, color=colour, alpha=0.25, linewidth=0)
        mean = np.mean([trace["accuracy"] for trace in traces], axis=0)
        axes.plot(requests, mean, color=colour, linewidth=1.8, label=f"{_loop(tracked)}: true mean so far")
        if len(traces) <= _FEW:
            axes.fill_between(
                requests, traces[0]["lower"], traces[0]["upper"], color=colour, alpha=0.10, linewidth=0
            )
        else:
            for edge in ("lower", "upper"):  # live intervals: of the first seed
                axes.plot(requests, traces[0][edge], color=colour, linewidth=0.8, linestyle=":")
    axes.set_ylim(floor - 0.11, floor + 0.09)
    _state_strips(axes, records, name, floor)
    axes.set_title(f"{name}, floor {floor:g}", fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="upper right")


def _state_strips(axes: Any, records: Sequence[Mapping[str, Any]], name: str, floor: float) -> None:
    """What the live certificate said, since the reset and of late, in the first seed of either loop."""
    height = floor - 0.108
    for tracked, found in _by_loop(records):
        trace = found[0]["traces"][name]
        for key in ("state", "recent_state"):
            colours = [_STATES[state] for state in trace[key]]
            axes.scatter(trace["requests"], [height] * len(colours), c=colours, s=9, marker="s", linewidths=0)
            label = f"{_loop(tracked)}, {'since reset' if key == 'state' else 'recent'}"
            axes.text(trace["requests"][0], height + 0.002, label, fontsize=4.5, color=_COLOURS[tracked])
            height += 0.0085


def _targets(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    moving = records[0]["moving"]
    axes.plot(moving["requests"], moving["target"], color=_INK, linewidth=1.4, linestyle="--", label="target")
    for tracked, found in _by_loop(records):
        mean = np.mean([record["moving"]["accuracy"] for record in found], axis=0)
        axes.plot(
            moving["requests"],
            mean,
            color=_COLOURS[tracked],
            linewidth=1.6,
            label=f"{_loop(tracked)}: true mean of 500",
        )
    axes.set_title("target and true mean score", fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def _cost(axes: Any, records: Sequence[Mapping[str, Any]], moving: bool) -> None:
    for tracked, found in _by_loop(records):
        colour = _COLOURS[tracked]
        if moving:
            mean = np.mean([record["moving"]["usd_per_1000"] for record in found], axis=0)
            axes.plot(found[0]["moving"]["requests"], mean, color=colour, label=_loop(tracked))
            continue
        for style, name in zip((":", "--", "-"), found[0]["tiers"], strict=False):
            traces = [record["traces"][name] for record in found]
            mean = np.nanmean([trace["usd_per_1000"] for trace in traces], axis=0)
            axes.plot(
                traces[0]["requests"],
                mean,
                color=colour,
                linestyle=style,
                linewidth=1.2,
                label=f"{_loop(tracked)}, {name}",
            )
    best = float(np.mean([record["stream"]["usd_always_best"] for record in records]))
    axes.axhline(
        best, color=_INK, linewidth=1.0, linestyle="-.", label="always the best model of before, at the end"
    )
    axes.set_yscale("log")
    axes.set_title("USD per 1,000 requests, last 500", fontsize=9)
    axes.legend(frameon=False, fontsize=6)


def _by_loop(records: Sequence[Mapping[str, Any]]) -> list[tuple[bool, list[Mapping[str, Any]]]]:
    groups = [(tracked, [r for r in records if r["tracked"] is tracked]) for tracked in (False, True)]
    return [(tracked, found) for tracked, found in groups if found]


def _loop(tracked: bool) -> str:
    return "tracked" if tracked else "fixed"
