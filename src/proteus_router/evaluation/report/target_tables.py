"""The paper's Table 1: does the router do what it is asked? And the tolerance that noise allows."""

from __future__ import annotations

import numpy as np

from proteus_router.evaluation.harness.analysis import Analysis, is_ablation
from proteus_router.evaluation.harness.results import Results
from proteus_router.evaluation.report.document import Table
from proteus_router.evaluation.report.numbers import DASH, highlights, mean_and_error, percent, plain, usd

__all__ = ["adaptability_table", "tier_table", "tolerance_table"]

TIERS = ("economy", "standard", "premium")


def _main(analysis: Analysis, data: str, router: str, metric: str, guarantee: str) -> Results:
    return analysis.results.where(
        experiment="main", data=data, router=router, metric=metric, guarantee=guarantee
    )


def _ways(analysis: Analysis, data: str) -> list[tuple[str, str, str]]:
    """Router, guarantee and label of the lines: ours both ways, others without margin or by their own mapping."""
    lines = []
    fitted = analysis.shown[data][1]
    for name in highlights(analysis):
        if name not in fitted:
            continue
        if name == analysis.ours:
            lines.append((name, "certified", f"{analysis.title(name)}, certified"))
        lines.append((name, "expected", f"{analysis.title(name)}, no margin"))
    for name, router in fitted.items():
        if router.is_native and not is_ablation(name):
            lines.append((name, "native", f"{analysis.title(name)}, its own mapping"))
    return lines


def adaptability_table(analysis: Analysis, data: str) -> Table:
    """Correlation, floors, tolerance and cost range over 16 targets."""
    rows = []
    for name, guarantee, label in _ways(analysis, data):

        def mean(metric: str, name: str = name, guarantee: str = guarantee) -> float | None:
            return mean_and_error(_main(analysis, data, name, metric, guarantee))[0]

        spread = mean("accuracy_range")
        margin, span, short = mean("mean_margin"), mean("cost_range"), mean("worst_shortfall")
        rows.append(
            (
                label,
                plain(mean("target_accuracy_correlation")),
                plain(spread),
                percent(mean("floor_compliance")),
                DASH if short is None else f"{short * 100:.1f}",
                percent(mean("within_5")),
                percent(mean("within_2")),
                DASH if margin is None else f"{margin * 100:+.1f}",
                DASH if span is None else f"{span:.1f}x",
            )
        )
    rows.append(
        ("the paper, RouterBench", "0.973 (with mu)", DASH, "100%", DASH, "100%", "44%", DASH, "3.7x")
    )
    rows.append(("the paper, SPROUT", "0.981 (with mu)", DASH, "100%", DASH, "67%", "11%", DASH, "9.5x"))
    return Table(
        caption=f"{data}: target and outcome (the paper's Table 1)",
        columns=(
            "router",
            "correlation",
            "range of accuracy",
            "floors held",
            "worst shortfall, points",
            "within ±5%",
            "within ±2%",
            "mean margin, points",
            "cost range",
        ),
        rows=tuple(rows),
        note=f"16 targets x {len(analysis.plan.seeds)} seeds. Correlation of the target with the ACHIEVED accuracy; "
        "the paper correlates it with its own knob mu, which moves even where accuracy does not. The paper's lines "
        "are of other data, for orientation only.",
    )


def tolerance_table(analysis: Analysis) -> Table | None:
    """Within +-2% and +-5%, beside the share that sampling noise allows an unbiased router."""
    rows = []
    for data in analysis.data_sets:
        for name in highlights(analysis):
            found = analysis.tolerance.get((data.name, name))
            if not found:
                continue
            cells: list[str] = [f"{data.name}, {analysis.title(name)}"]
            for item in found:
                cells += [percent(item.observed), percent(item.allowed), f"{item.p_value:.2f}"]
            rows.append(tuple(cells))
    if not rows:
        return None
    return Table(
        caption="How often the target is met, no margin",
        columns=(
            "data, router",
            "within ±2%",
            "noise allows",
            "p",
            "within ±5%",
            "noise allows ",
            "p ",
        ),
        rows=tuple(rows),
        strong=frozenset(
            place for place, row in enumerate(rows) if row[0].endswith(analysis.title(analysis.ours or ""))
        ),
        note="Noise allows: the share that a router without any bias would show, given the sampling noise of the "
        "training rows that chose its setting and of the test rows (bootstrap over texts, targets and seeds "
        "together). p: chance of a share as low as observed; below 0.05 the router misses by more than noise.",
    )


def tier_table(analysis: Analysis, data: str) -> Table | None:
    """The paper's service tiers: thirds of the range of targets."""
    if analysis.ours is None:
        return None
    rows = []
    for guarantee in ("certified", "expected"):
        found = []
        for metric in ("accuracy", "cost_usd"):
            values: dict[float, list[float]] = {}
            for row in _main(analysis, data, analysis.ours, metric, guarantee):
                if row.target is not None and row.value is not None:
                    values.setdefault(row.target, []).append(row.value)
            found.append(values)
        accuracy, cost = found
        targets = sorted(accuracy)
        everything = sorted(
            {
                row.target
                for row in _main(analysis, data, analysis.ours, "accuracy", "expected")
                if row.target is not None
            }
        )
        if not targets:
            continue
        edges = np.linspace(everything[0], everything[-1], len(TIERS) + 1)
        for tier, low, high in zip(TIERS, edges, edges[1:], strict=False):
            inside = [t for t in targets if low <= t <= high]
            if not inside:
                continue
            reached = np.concatenate([accuracy[t] for t in inside])
            asked = np.concatenate([[t] * len(accuracy[t]) for t in inside])
            paid = np.concatenate([cost[t] for t in inside])
            rows.append(
                (
                    f"{tier}, {'certified' if guarantee == 'certified' else 'no margin'}",
                    f"{low:.2f} to {high:.2f}",
                    f"{reached.mean() * 100:.1f}% ({(reached - asked).mean() * 100:+.1f})",
                    usd(float(paid.mean())),
                    str(reached.size),
                )
            )
    if not rows:
        return None
    return Table(
        caption=f"{data}: service tiers of {analysis.title(analysis.ours)}",
        columns=("tier", "targets", "accuracy (margin, points)", "USD / 1K", "cells"),
        rows=tuple(rows),
        note="Tiers are thirds of the range of targets, which ends half a point under the best model.",
    )
