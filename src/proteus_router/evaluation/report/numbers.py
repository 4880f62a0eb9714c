"""Numbers as a report prints them: means with standard errors, intervals, a dash where there is none."""

from __future__ import annotations

import numpy as np

from proteus_router.evaluation.harness.analysis import Analysis
from proteus_router.evaluation.harness.compare import Interval
from proteus_router.evaluation.harness.results import Results

__all__ = [
    "DASH",
    "TIE",
    "deaf_to_targets",
    "difference",
    "highlights",
    "mean_and_error",
    "percent",
    "plain",
    "plus_minus",
    "requested_ratio",
    "usd",
]

DASH = "–"
TIE = "plugin-own-heads"
"""The plug-in given our own heads: what ours comes down to where training a policy does not pay."""
_MOST_LINES = 6
_DEAF = 0.01
"""Accuracies over all targets that lie closer together are one."""


def mean_and_error(results: Results) -> tuple[float | None, float | None]:
    """Mean over seeds, and its standard error; None where undefined, no error for a single seed."""
    values = results.by_seed()
    if not values.size:
        return None, None
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return float(values.mean()), error


def plus_minus(results: Results, digits: int = 3, *, scale: float = 1.0) -> str:
    """``0.694 ± 0.013``; a dash where undefined."""
    mean, error = mean_and_error(results)
    if mean is None:
        return DASH
    return plain(mean * scale, digits) + ("" if error is None else f" ± {error * scale:.{digits}f}")


def plain(value: float | None, digits: int = 3) -> str:
    """The number, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """A fraction in percent, or a dash."""
    return DASH if value is None else f"{value * 100:.{digits}f}%"


def usd(value: float | None) -> str:
    """USD per 1,000 queries with three significant digits, or a dash."""
    if value is None:
        return DASH
    shown = value * 1000.0
    if shown == 0.0:
        return "0"
    digits = max(0, 2 - int(np.floor(np.log10(abs(shown)))))
    return f"{shown:.{min(digits, 6)}f}"


def difference(interval: Interval | None, digits: int = 3) -> str:
    """``-0.051 [-0.080, -0.020]``, or a dash."""
    if interval is None:
        return DASH
    low, high = interval.low, interval.high
    return f"{interval.estimate:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def highlights(analysis: Analysis) -> list[str]:
    """Routers drawn as lines: ours, the static mix, the plain plug-in, and the others that cost least over all data.

    The plug-in on our own heads is left to the tables: its line would lie on ours.
    """
    ranked = []
    for entry in analysis.entries:
        if entry.kind != "baseline" or not entry.knob or entry.name in ("static-mix", TIE):
            continue
        ratios = [
            mean
            for data in analysis.data_sets
            if (mean := requested_ratio(analysis, data.name, entry.name)) is not None
        ]
        if ratios:
            ranked.append((float(np.mean(ratios)), entry.name))
    others = [name for _, name in sorted(ranked)]
    plain_plugin = next((name for name in others if name.startswith("plugin")), None)
    present = {entry.name for entry in analysis.entries}
    first = [
        name for name in (analysis.ours, "static-mix", plain_plugin) if name is not None and name in present
    ]
    return [*first, *(name for name in others if not name.startswith("plugin"))][:_MOST_LINES]


def requested_ratio(analysis: Analysis, data: str, router: str | None) -> float | None:
    """Mean REQ of a router on a data set; None where undefined."""
    if router is None:
        return None
    rows = analysis.results.where(
        experiment="main", data=data, router=router, metric="req", guarantee="expected"
    )
    return mean_and_error(rows)[0]


def deaf_to_targets(analysis: Analysis, data: str, router: str) -> bool:
    """Whether a router that has a knob answers targets that differ with one accuracy, within a point.

    Its cost ratio is then that of a single setting and says nothing of the accuracies that were asked for.
    """
    rows = analysis.results.where(
        experiment="main", data=data, router=router, metric="level_accuracy", guarantee="expected"
    )
    spans, asked = [], []
    for seed in rows.distinct("seed"):
        found = [(row.target, row.value) for row in rows.where(seed=seed) if row.target is not None]
        reached = [value for _, value in found if value is not None]
        if reached:
            spans.append(max(reached) - min(reached))
            asked.append(max(target for target, _ in found) - min(target for target, _ in found))
    return bool(spans) and float(np.mean(spans)) < _DEAF < float(np.mean(asked)) / 2.0
