"""Figures about promises: target against outcome, cost against target, confidence against margin and cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proteus_router.evaluation.harness.analysis import PAPER, Analysis
from proteus_router.evaluation.report.document import Figure
from proteus_router.evaluation.report.numbers import highlights
from proteus_router.evaluation.report.style import INK, canvas, look_of, percent_axis, save, usd_axis
from proteus_router.types import FloatArray

__all__ = ["confidence_figure", "promise_figure", "response_figure"]


def response_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Achieved accuracy against the target, one line a router."""
    fitted = analysis.shown[data][1]
    names = [name for name in [*highlights(analysis), PAPER] if name in fitted]
    if not names:
        return None
    with canvas(height=4.4) as (figure, (axes,)):
        ends = []
        for name in names:
            way = "native" if name == PAPER else "expected"
            found = _by_target(analysis, data, name, "accuracy", way)
            if found is None:
                continue
            look = look_of(name, analysis.ours, names)
            ends += [found[0][0], found[0][-1]]
            axes.plot(
                found[0],
                found[1].mean(axis=0),
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markersize=4,
                linewidth=look.width,
                label=analysis.title(name),
                zorder=3 if name == analysis.ours else 2,
            )
        if ends:
            axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=INK, linestyle=":", linewidth=1.2)
        axes.set_xlabel("accuracy target, no margin (dotted: achieved = target)")
        axes.set_ylabel("achieved accuracy, held out")
        axes.set_title(data)
        axes.legend(frameon=False, loc="upper left")
        path = save(figure, folder / f"response-{data}")
    return Figure(
        path,
        f"{data}: achieved against requested accuracy, mean over {len(analysis.plan.seeds)} seeds.",
        f"Achieved accuracy against target on {data} for {', '.join(analysis.title(name) for name in names)}.",
    )


def promise_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Ours with and without a certificate: what was achieved, and what it cost, with the band of its uncertainty."""
    if analysis.ours is None:
        return None
    ways = (("expected", "#0072b2", "-", "o", "no margin"), ("certified", "#d55e00", "--", "s", "certified"))
    drawn = False
    with canvas(height=3.3, panels=2) as (figure, (top, bottom)):
        for guarantee, colour, dash, marker, label in ways:
            accuracy = _by_target(analysis, data, analysis.ours, "accuracy", guarantee)
            cost = _by_target(analysis, data, analysis.ours, "cost_usd", guarantee)
            if accuracy is None or cost is None:
                continue
            drawn = True
            for axes, (targets, values), scale in ((top, accuracy, 1.0), (bottom, cost, 1000.0)):
                low, high = _band(values * scale)
                axes.fill_between(targets, low, high, color=colour, alpha=0.18, linewidth=0)
                axes.plot(
                    targets,
                    values.mean(axis=0) * scale,
                    color=colour,
                    linestyle=dash,
                    marker=marker,
                    markersize=4,
                    linewidth=1.8,
                    label=label,
                )
        if not drawn:
            return None
        limits = top.get_xlim()
        top.plot(limits, limits, color=INK, linestyle=":", linewidth=1.2, label="the floor")
        top.set_xlim(limits)
        top.set_ylabel("achieved accuracy")
        top.set_title(data)
        top.legend(frameon=False, loc="upper left")
        if bottom.get_ylim()[0] > 0 or all(line.get_ydata().min() > 0 for line in bottom.lines):
            bottom.set_yscale("log")
            usd_axis(bottom.yaxis)
        bottom.set_ylabel("USD per 1,000 queries")
        bottom.set_xlabel("accuracy target")
        path = save(figure, folder / f"promise-{data}")
    return Figure(
        path,
        f"{data}: {analysis.title(analysis.ours)}, mean over {len(analysis.plan.seeds)} seeds; the band is two standard "
        "deviations of the seeds to either side. Targets that can't be certified at every seed are left out of that line.",
        f"Achieved accuracy and cost against target on {data}, with and without a certificate.",
    )


def confidence_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """What confidence costs: margin and extra cost at rising confidence, over the same targets."""
    rows = analysis.results.where(
        experiment="confidence", data=data, router=analysis.ours or "", metric="mean_margin"
    )
    levels = rows.distinct("variant")
    if not levels:
        return None
    with canvas(height=2.9, panels=2) as (figure, axes):
        for axis, metric, label, scale in (
            (axes[0], "mean_margin", "achieved - target, points", 100.0),
            (axes[1], "extra_cost", "extra cost", 1.0),
        ):
            values = [
                analysis.results.where(
                    experiment="confidence",
                    data=data,
                    router=analysis.ours or "",
                    metric=metric,
                    variant=level,
                ).by_seed()
                for level in levels
            ]
            means = [value.mean() * scale for value in values]
            errors = [
                1.96 * scale * (value.std(ddof=1) / np.sqrt(value.size) if value.size > 1 else 0.0)
                for value in values
            ]
            axis.errorbar(
                range(len(levels)), means, yerr=errors, fmt="o-", color="#0072b2", linewidth=2, capsize=3
            )
            axis.axhline(0.0, color=INK, linewidth=0.9, linestyle=":")
            axis.set_xticks(range(len(levels)), levels)
            axis.set_ylabel(label)
        percent_axis(axes[1].yaxis)
        axes[0].set_title(data)
        axes[1].set_xlabel("confidence of the certificate")
        path = save(figure, folder / f"confidence-{data}")
    return Figure(
        path,
        f"{data}: the price of confidence, over the targets certified at every confidence. Bars +- 1.96 standard errors.",
        f"Margin and extra cost against confidence on {data}.",
    )


def _by_target(
    analysis: Analysis, data: str, router: str, metric: str, guarantee: str
) -> tuple[FloatArray, FloatArray] | None:
    """Targets (T,), mean over seeds, and values (seeds, T) where every seed has one."""
    rows = analysis.results.where(
        experiment="main", data=data, router=router, metric=metric, guarantee=guarantee
    )
    seeds = rows.distinct("seed")
    lines = [
        [(row.target, row.value) for row in rows if row.seed == seed and row.value is not None]
        for seed in seeds
    ]
    n = min(map(len, lines), default=0)  # certified targets are the lower ones, so a prefix is common
    if n == 0:
        return None
    table = np.array([line[:n] for line in lines], dtype=np.float64)
    return table[:, :, 0].mean(axis=0), table[:, :, 1]


def _band(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    spread = 2.0 * values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    mean = values.mean(axis=0)
    return np.maximum(mean - spread, mean.min() * 0.2), mean + spread
