"""Figures about cost: all routers in one picture, the frontier, what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proteus_router.baselines.static import oracle
from proteus_router.evaluation.harness.analysis import Analysis, is_ablation
from proteus_router.evaluation.report.document import Figure
from proteus_router.evaluation.report.numbers import deaf_to_targets, highlights, mean_and_error
from proteus_router.evaluation.report.style import INK, canvas, look_of, percent_axis, save, usd_axis
from proteus_router.evaluation.yardsticks import outcome_of

__all__ = ["frontier_figure", "ratio_figure", "saved_figure"]


def ratio_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Cost ratio of every router that can be asked for an accuracy, cheapest on top."""
    lines, deaf = [], []
    for entry in analysis.entries:
        if is_ablation(entry.name) or not entry.knob:
            continue
        if deaf_to_targets(analysis, data, entry.name):
            deaf.append(entry.title)
            continue
        mean, error = mean_and_error(
            analysis.results.where(
                experiment="main", data=data, router=entry.name, metric="req", guarantee="expected"
            )
        )
        if mean is not None:
            lines.append((mean, error or 0.0, entry))
    if not lines:
        return None
    lines.sort(key=lambda line: -line[0])
    bound, _ = mean_and_error(
        analysis.results.where(experiment="yardstick", data=data, router="oracle", metric="req")
    )
    with canvas(height=1.5 + 0.3 * len(lines)) as (figure, (axes,)):
        for place, (mean, error, entry) in enumerate(lines):
            ours = entry.kind == "ours"
            colour = "#0072b2" if ours else INK
            axes.errorbar(
                mean,
                place,
                xerr=1.96 * error,
                fmt="o" if ours else "s",
                markersize=8 if ours else 5,
                color=colour,
                ecolor=colour,
                elinewidth=2.2 if ours else 1.2,
            )
        axes.set_yticks(range(len(lines)), [entry.title for _, _, entry in lines])
        for label, (_, _, entry) in zip(axes.get_yticklabels(), lines, strict=True):
            if entry.kind == "ours":
                label.set_fontweight("bold")
        axes.axvline(1.0, color="#000000", linestyle="--", linewidth=1.2)
        if bound is not None:
            axes.plot([bound], [len(lines) - 0.45], "*", color="#8c6d1f", markersize=12, clip_on=False)
            axes.annotate(
                "oracle", (bound, len(lines) - 0.45), xytext=(8, -4), textcoords="offset points", fontsize=9.5
            )
        axes.set_ylim(-0.6, len(lines) - 0.2)
        axes.set_xlabel("cost / static mix, at equal accuracy")
        axes.set_title(data)
        path = save(figure, folder / f"ratio-{data}")
    return Figure(
        path,
        f"{data}: cost ratio to the static mix (dashed), mean over seeds, bars +- 1.96 standard errors of the seeds."
        + (f" Left out, one accuracy whatever is asked for: {', '.join(deaf)}." if deaf else ""),
        f"Cost ratio of {len(lines)} routers on {data}; the lowest is {lines[-1][2].title} at {lines[-1][0]:.3f}.",
    )


def frontier_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Accuracy against cost of the settings of the main routers at the first seed."""
    cell, routers = analysis.shown[data]
    scores, costs = cell.test.scores, cell.test.costs_usd
    means, prices = cell.test_means
    if not (prices > 0).all():
        return None  # a free model has no place on a logarithmic axis
    names = [name for name in highlights(analysis) if name in routers]
    with canvas(height=4.6) as (figure, (axes,)):
        for name in names:
            look = look_of(name, analysis.ours, names)
            choices = routers[name].test_choices
            points = [outcome_of(choice, choice, 1.0, scores, costs) for choice in choices]
            if name == "static-mix":
                levels = np.linspace(float(means[prices.argmin()]), float(means.max()), 60)
                x, y = [cell.static_cost(float(level)) * 1000 for level in levels], list(levels)
            else:
                x, y = [point.cost_usd * 1000 for point in points], [point.accuracy for point in points]
            axes.plot(
                x,
                y,
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markersize=3.2,
                linewidth=look.width,
                label=analysis.title(name),
                zorder=3 if name == analysis.ours else 2,
            )
        axes.scatter(prices * 1000, means, color=INK, s=20, zorder=4, label="fixed models")
        accuracy, cost = oracle(scores, costs)
        axes.plot(
            [cost * 1000], [accuracy], "*", color="#8c6d1f", markersize=13, label="oracle", linestyle=""
        )
        axes.set_xscale("log")
        usd_axis(axes.xaxis)
        axes.set_xlabel("USD per 1,000 queries (logarithmic)")
        axes.set_ylabel("mean score, held out")
        axes.set_title(f"{data}, seed {cell.seed}")
        axes.legend(frameon=False, loc="lower right")
        path = save(figure, folder / f"frontier-{data}")
    return Figure(
        path,
        f"{data}: every setting on {cell.test.n_queries} held-out queries, first seed. The static mix is drawn with the "
        "held-out rows' own means, so a router's dearest setting can lie under it.",
        f"Accuracy against cost on {data}: {', '.join(map(analysis.title, names))}, fixed models, oracle.",
    )


def saved_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Cost saved against the best fixed model, by the accuracy asked for."""
    best = analysis.results.where(
        experiment="yardstick", data=data, router="best model", metric="mean_cost_usd"
    ).by_seed()
    if not best.size or best.mean() <= 0:
        return None
    names = [name for name in highlights(analysis)[:4] if name in analysis.shown[data][1]]
    with canvas(height=3.8) as (figure, (axes,)):
        for name in names:
            look = look_of(name, analysis.ours, names)
            rows = analysis.results.where(
                experiment="main", data=data, router=name, metric="level_cost_usd", guarantee="expected"
            )
            lines = [
                [(row.target, row.value) for row in rows if row.seed == seed]
                for seed in rows.distinct("seed")
            ]
            n = min(map(len, lines), default=0)
            if not n:
                continue
            table = np.array([line[:n] for line in lines], dtype=np.float64)  # (seeds, levels, 2)
            axes.plot(
                table[:, :, 0].mean(axis=0),
                1.0 - table[:, :, 1].mean(axis=0) / best.mean(),
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markersize=4,
                linewidth=look.width,
                label=analysis.title(name),
            )
        percent_axis(axes.yaxis)
        axes.set_xlabel("accuracy asked for")
        axes.set_ylabel("saved against the best fixed model")
        axes.set_title(data)
        axes.legend(frameon=False, loc="lower left")
        path = save(figure, folder / f"saved-{data}")
    return Figure(
        path,
        f"{data}: share of the best fixed model's cost that is saved, mean over {best.size} seeds. The last point asks for "
        "half a point less than that model scores.",
        f"Cost saved against the best fixed model by accuracy asked for on {data}.",
    )
