"""The two pictures of an evaluation: the cost frontier, and target against achieved accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.evaluation.evaluate import Evaluation, drop_trained_rows
from proteus_router.evaluation.yardsticks import outcome_of, static_cost_at
from proteus_router.routing.router import Router

__all__ = ["draw_figures"]

_INK, _OURS, _STATIC, _BAND = "#1f2933", "#0b6e4f", "#b4532a", "#0b6e4f33"


def draw_figures(router: Router, table: OutcomeTable, report: Evaluation, folder: Path) -> list[Path]:
    """Write ``frontier.png`` and ``targets.png`` into `folder` and return their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    table = drop_trained_rows(router, table)[0].with_models(router.models)
    paths = []
    for name, draw in (("frontier", _frontier), ("targets", _targets)):
        figure, axes = plt.subplots(figsize=(7.2, 4.6), dpi=150, layout="constrained")
        draw(axes, router, table, report)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        path = folder / f"{name}.png"
        figure.savefig(path)
        plt.close(figure)
        paths.append(path)
    return paths


def _title(report: Evaluation) -> str:
    return f"{report.data}, {report.n_queries} held-out queries" + (
        " (simulated)" if report.simulated else ""
    )


def _frontier(axes: Any, router: Router, table: OutcomeTable, report: Evaluation) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scores, costs = table.scores, table.costs_usd
    means, prices = np.nanmean(scores, axis=0), np.nanmean(costs, axis=0) * 1000
    predictions = router.predict(table.queries)
    choices = [router.choose(predictions, point) for point in range(router.policy.n_points)]
    points = [outcome_of(choice, choice, 1.0, scores, costs) for choice in choices]
    cheapest = float(means[int(np.argmin(prices))])
    levels = np.linspace(cheapest, float(means.max()), 60)
    axes.plot(
        [static_cost_at(scores, costs, float(level)) * 1000 for level in levels],
        levels,
        color=_STATIC,
        linewidth=1.6,
        linestyle="--",
        label="static mix of fixed models",
    )
    axes.plot(
        [point.cost_usd * 1000 for point in points],
        [point.accuracy for point in points],
        color=_OURS,
        marker="o",
        markersize=3,
        linewidth=1.8,
        label="PROTEUS operating points",
    )
    axes.scatter(prices, means, color=_INK, s=18, zorder=3, label="fixed models")
    for name, price, mean in _labelled(router.models, prices, means):
        right = price > 0.5 * prices.max()  # a name beside the dearest model would leave the picture
        axes.annotate(
            name,
            (price, mean),
            xytext=(-4 if right else 4, -9),
            ha="right" if right else "left",
            textcoords="offset points",
            fontsize=6.5,
            color=_INK,
        )
    axes.plot(
        [report.oracle_cost_usd * 1000], [report.oracle_accuracy], "*", color="#8d6a00", ms=11, label="oracle"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("cost, USD per 1,000 queries (log scale)")
    axes.set_ylabel("mean score")
    axes.set_title(f"Cost frontier: {_title(report)}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _labelled(names: tuple[str, ...], prices: Any, means: Any) -> list[tuple[str, float, float]]:
    """Only models no other one beats in both score and cost: the rest would print over each other."""
    kept = []
    for name, price, mean in zip(names, prices, means, strict=True):
        if not any(p < price and m >= mean for p, m in zip(prices, means, strict=True)):
            kept.append((name.split("/")[-1], float(price), float(mean)))
    return kept


def _targets(axes: Any, router: Router, table: OutcomeTable, report: Evaluation) -> None:
    served = [r for r in report.targets if r.accuracy is not None and r.accuracy_interval is not None]
    targets = [r.accuracy_target for r in served]
    axes.plot(targets, targets, color=_INK, linewidth=1, linestyle=":", label="target (the floor)")
    if served:
        axes.fill_between(
            targets,
            [r.accuracy_interval[0] for r in served if r.accuracy_interval],
            [r.accuracy_interval[1] for r in served if r.accuracy_interval],
            color=_BAND,
            linewidth=0,
            label="95% interval",
        )
        axes.plot(
            targets,
            [r.accuracy for r in served],
            color=_OURS,
            marker="o",
            markersize=4,
            linewidth=1.6,
            label=f"achieved, {report.guarantee}",
        )
    refused = [r.accuracy_target for r in report.targets if r.accuracy is None]
    if refused:
        axes.plot(refused, refused, "x", color=_STATIC, label="refused: can't be certified")
    axes.set_xlabel("accuracy target")
    axes.set_ylabel("achieved mean score")
    axes.set_title(f"Target and achieved accuracy: {_title(report)}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
