"""Figures about targets that move, about predictions, about labels, and about the leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proteus_router.evaluation.experiments.dynamic import SCENARIOS, STEPS, WINDOW, best_effort, stream_of
from proteus_router.evaluation.harness.analysis import Analysis
from proteus_router.evaluation.metrics import reliability_bins
from proteus_router.evaluation.report.document import Figure
from proteus_router.evaluation.report.numbers import TIE, highlights, mean_and_error
from proteus_router.evaluation.report.style import INK, canvas, look_of, percent_axis, save

__all__ = [
    "LEAK_SOURCES",
    "PAPER_SHARE",
    "budget_figure",
    "leak_figure",
    "mix_figure",
    "reliability_figure",
    "stream_figure",
]

_FEWEST_IN_A_BIN = 30
PAPER_SHARE = (90.1 - 77.9) / (91.4 - 77.9)
"""Of the way from the best single model to the oracle, as the paper reports for RouterBench."""
LEAK_SOURCES = {
    "realised scores": "p is the realised score",
    "memorised": "trained on the test queries, memorising",
    "trained on test": "our heads, trained on the test queries",
    "best query-only": "best possible from the query (simulated)",
    "held out": "our heads, trained on other queries (honest)",
}


def stream_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """The mean of the last 100 scores beside the moving target, in the four scenarios, first seed."""
    cell, routers = analysis.shown[data]
    if analysis.ours not in routers or not cell.test.observed.all(axis=1).any():
        return None
    fitted = routers[analysis.ours]
    ways = (
        ("no margin", fitted.expected, "#0072b2", "-"),
        ("certified", best_effort(fitted), "#d55e00", "--"),
    )
    with canvas(height=2.6, panels=4, columns=2) as (figure, axes):
        for axis, scenario in zip(axes, SCENARIOS, strict=True):
            steps = np.arange(STEPS)
            for label, serve, colour, dash in ways:
                stream = stream_of(cell, scenario, serve)
                axis.plot(
                    steps[WINDOW:],
                    stream.window_mean()[WINDOW:],
                    color=colour,
                    linestyle=dash,
                    linewidth=1.4,
                    label=label,
                )
            axis.plot(steps, stream.target, color=INK, linewidth=1.6, linestyle=":", label="target")
            axis.set_title(scenario)
        for axis in axes[2:]:
            axis.set_xlabel("request")
        for axis in axes[::2]:
            axis.set_ylabel("mean of last 100")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        path = save(figure, folder / f"streams-{data}")
    return Figure(
        path,
        f"{data}: {analysis.title(analysis.ours)} under moving targets, mean of the last {WINDOW} scores, first seed.",
        f"Four panels of accuracy over time against a moving target on {data}.",
    )


def reliability_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Predicted against observed score over all (query, model) pairs of the held-out rows, in ten equal bins."""
    cell, routers = analysis.shown[data]
    names = [name for name in highlights(analysis) if name in routers and routers[name].predicted is not None]
    if not names:
        return None
    with canvas(height=4.2) as (figure, (axes,)):
        for name in names:
            predicted = routers[name].predicted
            assert predicted is not None
            bins = [
                item
                for item in reliability_bins(predicted.scores, cell.test.scores, 10)
                if item.n >= _FEWEST_IN_A_BIN
            ]
            look = look_of(name, analysis.ours, names)
            axes.plot(
                [item.predicted for item in bins],
                [item.observed for item in bins],
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                linewidth=look.width,
                label=analysis.title(name),
            )
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1.2)
        axes.set_xlabel("predicted score")
        axes.set_ylabel("observed mean score, held out")
        axes.set_title(data)
        axes.legend(frameon=False, loc="upper left")
        path = save(figure, folder / f"reliability-{data}")
    return Figure(
        path,
        f"{data}: predicted against observed score, ten bins, {cell.test.n_queries} held-out queries, first seed.",
        f"Predicted against observed score on {data}.",
    )


def mix_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Share of the queries each model takes, by target."""
    import matplotlib

    cell, routers = analysis.shown[data]
    if analysis.ours not in routers:
        return None
    fitted, targets, k = routers[analysis.ours], cell.grids.response, cell.test.n_models
    if targets.size < 2:
        return None
    shares = np.zeros((k, targets.size))
    for column, target in enumerate(targets.tolist()):
        served = fitted.expected(target)
        for choice, weight in (
            (served.upper, served.weight_upper),
            (served.lower, 1.0 - served.weight_upper),
        ):
            shares[:, column] += weight * np.bincount(choice, minlength=k) / len(choice)
    used = np.flatnonzero(shares.max(axis=1) >= 0.03)
    other = shares[np.setdiff1d(np.arange(k), used)].sum(axis=0)
    colours = [matplotlib.colormaps["cividis"](value) for value in np.linspace(0.97, 0.05, len(used))]
    hatches = ["", "//", "", "..", "", "\\\\", "", "xx"]
    with canvas(height=4.6) as (figure, (axes,)):
        stack = axes.stackplot(
            targets,
            *[shares[model] for model in used],
            other,
            colors=[*colours, "#d9e2ec"],
            labels=[*(cell.test.models[model].split("/")[-1] for model in used), "others"],
            edgecolor="white",
            linewidth=0.5,
        )
        for number, area in enumerate(stack[:-1]):
            area.set_hatch(hatches[number % len(hatches)])
        axes.set_ylim(0, 1)
        axes.set_xlim(targets[0], targets[-1])
        percent_axis(axes.yaxis)
        axes.grid(visible=False)
        axes.set_xlabel("accuracy target, no margin")
        axes.set_ylabel("share of queries")
        axes.set_title(data)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        path = save(figure, folder / f"mix-{data}")
    return Figure(
        path,
        f"{data}: which model answers, by target; models from the cheapest (bottom) to the dearest, first seed.",
        f"Stacked shares of models against the accuracy target on {data}.",
    )


def budget_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """Cost ratio and largest certified target by the number of labelled queries."""
    budget = analysis.results.where(experiment="budget", data=data)
    routers = budget.distinct("router")
    if not routers:
        return None
    n_all = analysis.shown[data][0].train.n_queries
    sizes = [int(size) for size in budget.distinct("variant")]
    with canvas(height=3.1, panels=2) as (figure, (top, bottom)):
        for name in routers:
            look = look_of(name, TIE, routers)
            for axes, metric, guarantee in (
                (top, "req", "expected"),
                (bottom, "max_certified", "certified"),
            ):
                points = []
                for size in [*sizes, n_all]:
                    columns = {"data": data, "router": name, "metric": metric, "guarantee": guarantee}
                    if size == n_all:
                        rows = analysis.results.where(experiment="main", variant="", **columns)
                    else:
                        rows = analysis.results.where(experiment="budget", variant=str(size), **columns)
                    mean, error = mean_and_error(rows)
                    if mean is not None:
                        points.append((size, mean, 1.96 * (error or 0.0)))
                if points:
                    x, y, bars = np.array(points).T
                    axes.errorbar(
                        x,
                        y,
                        yerr=bars,
                        color=look.colour,
                        linestyle=look.dash,
                        marker=look.marker,
                        linewidth=look.width,
                        capsize=2,
                        label=analysis.title(name),
                    )
        for axes in (top, bottom):
            axes.set_xscale("log")
            axes.set_xticks([*sizes, n_all], [f"{size:,}" for size in [*sizes, n_all]])
            axes.minorticks_off()
        top.axhline(1.0, color="#000000", linestyle="--", linewidth=1.2)
        top.set_ylabel("cost / static mix")
        top.set_title(data)
        top.legend(frameon=False)
        bottom.set_ylabel("largest certified target")
        bottom.set_xlabel("labelled training queries")
        path = save(figure, folder / f"budget-{data}")
    return Figure(
        path,
        f"{data}: what labels buy. Above, cost ratio to the static mix (dashed); below, the largest target that can be "
        "certified. Bars +- 1.96 standard errors of the seeds.",
        f"Cost ratio and largest certified target against the number of labels on {data}.",
    )


def leak_figure(analysis: Analysis, data: str, folder: Path) -> Figure | None:
    """How far from the best model to the oracle the same plug-in gets at a tenth of the best model's cost."""
    bars = []
    for source, label in LEAK_SOURCES.items():
        mean, error = mean_and_error(
            analysis.results.where(experiment="leak", data=data, router=source, metric="tenth_share")
        )
        if mean is not None:
            bars.append((label, mean, 1.96 * (error or 0.0)))
    if not bars:
        return None
    with canvas(height=1.4 + 0.5 * len(bars)) as (figure, (axes,)):
        for place, (_, mean, error) in enumerate(reversed(bars)):
            honest = place == 0
            axes.barh(
                place,
                mean,
                xerr=error,
                height=0.6,
                color="#0072b2" if honest else "#c9d3dc",
                edgecolor=INK,
                linewidth=0.6,
                ecolor=INK,
            )
        axes.set_yticks(range(len(bars)), [_wrapped(label) for label, _, _ in reversed(bars)])
        axes.axvline(PAPER_SHARE, color="#d55e00", linestyle="--", linewidth=1.6)
        axes.axvline(0.0, color=INK, linewidth=1.0)
        axes.annotate(
            "the paper's 90.1%",
            (PAPER_SHARE, len(bars) - 0.45),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            fontsize=9.5,
            color="#a34400",
        )
        axes.set_ylim(-0.6, len(bars) - 0.15)
        axes.set_xlabel("0: best single model, 1: oracle")
        axes.set_title(data)
        path = save(figure, folder / f"leak-{data}")
    return Figure(
        path,
        f"{data}: the same plug-in with each source of p, at a tenth of the best model's cost: its accuracy as a share of "
        "the way from the best single model to the oracle. Dashed: where the paper's 90.1% on RouterBench stands.",
        f"Bars of the share of the oracle gap reached with leaked and honest predictions on {data}.",
    )


def _wrapped(label: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label, 26))
