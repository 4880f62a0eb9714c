"""Tables of the experiments: moving targets, the leak, labels, shift, pool change, latency."""

from __future__ import annotations

import numpy as np

from proteus_router.evaluation.experiments.dynamic import SCENARIOS
from proteus_router.evaluation.experiments.latency import BATCH_SIZES
from proteus_router.evaluation.experiments.leak import BLENDS
from proteus_router.evaluation.harness.analysis import Analysis
from proteus_router.evaluation.harness.results import Results
from proteus_router.evaluation.report.document import Paragraph, Table
from proteus_router.evaluation.report.numbers import (
    DASH,
    TIE,
    highlights,
    mean_and_error,
    percent,
    plain,
    plus_minus,
    requested_ratio,
    usd,
)
from proteus_router.evaluation.report.other_figures import LEAK_SOURCES, PAPER_SHARE

__all__ = [
    "budget_table",
    "dynamic_table",
    "latency_table",
    "leak_story",
    "leak_table",
    "pool_table",
    "reach_table",
    "shift_table",
]

_FEWEST_FOR_PACE = 300
"""Below that a router hardly beats the static mix, and its curve is another."""


def dynamic_table(analysis: Analysis, data: str) -> Table | None:
    """Floor satisfaction and overshoot, mean over the four scenarios and over seeds."""
    rows = []
    for name in highlights(analysis):
        for guarantee, label in (("certified", "certified"), ("expected", "no margin")):
            found = analysis.results.where(experiment="dynamic", data=data, router=name, guarantee=guarantee)
            if not len(found) or (guarantee == "certified" and name != analysis.ours):
                continue
            window = [
                percent(
                    mean_and_error(_dynamic(analysis, data, name, "window_satisfaction", guarantee, one))[0]
                )
                for one in SCENARIOS
            ]
            over = mean_and_error(_dynamic(analysis, data, name, "overshoot", guarantee))[0]
            running = mean_and_error(_dynamic(analysis, data, name, "running_satisfaction", guarantee))[0]
            cost = mean_and_error(_dynamic(analysis, data, name, "mean_cost_usd", guarantee))[0]
            rows.append(
                (
                    f"{analysis.title(name)}, {label}",
                    *window,
                    percent(running),
                    DASH if over is None else f"{over * 100:+.1f}",
                    usd(cost),
                )
            )
    if not rows:
        return None
    rows.append(("the paper, RouterBench", *[DASH] * 4, "77%", "+1.6 to +2.3", DASH))
    rows.append(("the paper, SPROUT", *[DASH] * 4, "82 to 86%", "+4.3 to +5.2", DASH))
    return Table(
        caption=f"{data}: moving targets",
        columns=(
            "router",
            *(f"{scenario}, last 100" for scenario in SCENARIOS),
            "all: running mean",
            "overshoot, points",
            "USD / 1K",
        ),
        rows=tuple(rows),
        note=f"1,000 requests, one stream a seed, {len(analysis.plan.seeds)} seeds. Last 100: share of steps after "
        "the 100th at which the mean score of the last 100 is at or above the target. Running mean: of all scores so "
        "far against the mean target so far. No router looks at outcomes here. The mean of 100 scores of 0 or 1 has "
        "a standard error of 3 to 5 points, so a router that meets its target exactly satisfies about half of the "
        "steps. The paper does not say which of the two it reports.",
    )


def _dynamic(
    analysis: Analysis, data: str, router: str, metric: str, guarantee: str, scenario: str | None = None
) -> Results:
    found = analysis.results.where(
        experiment="dynamic", data=data, router=router, metric=metric, guarantee=guarantee
    )
    return found if scenario is None else found.where(variant=scenario)


def _leak(analysis: Analysis, data: str, source: str, metric: str) -> Results:
    return analysis.results.where(experiment="leak", data=data, router=source, metric=metric)


def leak_table(analysis: Analysis, data: str) -> Table | None:
    """The same plug-in with honest and leaked predictions."""
    rows = []
    for source, label in LEAK_SOURCES.items():
        share = mean_and_error(_leak(analysis, data, source, "tenth_share"))[0]
        if share is None:
            continue
        rows.append(
            (
                label,
                plus_minus(_leak(analysis, data, source, "tenth_accuracy"), 1, scale=100.0),
                percent(share),
                plus_minus(_leak(analysis, data, source, "best_accuracy"), 1, scale=100.0),
                percent(mean_and_error(_leak(analysis, data, source, "best_share"))[0]),
                percent(mean_and_error(_leak(analysis, data, source, "best_relative_cost"))[0]),
            )
        )
    if not rows:
        return None
    best = mean_and_error(_yardstick(analysis, data, "best model", "mean_accuracy"))[0]
    bound = mean_and_error(_yardstick(analysis, data, "oracle", "mean_accuracy"))[0]
    rows.append(
        ("the paper, RouterBench: best 77.9, oracle 91.4", "90.1", percent(PAPER_SHARE), DASH, DASH, DASH)
    )
    return Table(
        caption=f"{data}: best single model {plain(_scaled(best), 1)}, oracle {plain(_scaled(bound), 1)}",
        columns=(
            "what p has seen",
            "accuracy at a tenth of the best model's cost, %",
            "of the way to the oracle",
            "highest accuracy, %",
            "of the way ",
            "at its cost",
        ),
        rows=tuple(rows),
        note="The same plug-in, settings chosen with hindsight in every line. Of the way: 0 is the best single "
        "model, 100% the oracle; below 0 is worse than the best model. The paper's router costs a tenth of its best "
        "model (0.33 against 3.3 USD).",
    )


def leak_story(analysis: Analysis) -> Paragraph | None:
    """Three numbers that explain the paper's, in a paragraph."""
    shares: dict[str, list[float]] = {}
    for data in analysis.data_sets:
        if data.table.simulated:
            continue
        for source in LEAK_SOURCES:
            share = mean_and_error(_leak(analysis, data.name, source, "tenth_share"))[0]
            if share is not None:
                shares.setdefault(source, []).append(share)
    if not {"realised scores", "memorised", "held out"} <= shares.keys():
        return None

    def span(source: str) -> str:
        low, high = min(shares[source]), max(shares[source])
        return percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"

    weights = [
        weight for data in analysis.data_sets if (weight := _weight_needed(analysis, data.name)) is not None
    ]
    text = (
        f"At a tenth of the best model's cost the paper's router stands {percent(PAPER_SHARE)} of the way from the "
        f"best single model to the oracle. On the real data sets here the same rule stands at {span('held out')} "
        f"when its predictions were trained on other queries, at {span('memorised')} when they were trained on "
        f"the test queries, and at {span('realised scores')} when they are the realised scores."
    )
    if weights:
        low, high = min(weights), max(weights)
        needed = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        text += (
            f" Realised scores mixed into honest predictions with a weight of {needed} pass the paper's mark."
        )
    return Paragraph(text)


def reach_table(analysis: Analysis) -> Table | None:
    """How far a router that sees the query alone could get: known in a simulated world, extrapolated elsewhere."""
    rows = []
    for data in (item.name for item in analysis.data_sets):
        honest, best = (
            mean_and_error(_leak(analysis, data, source, "hind"))[0]
            for source in ("held out", "best query-only")
        )
        pace = _pace(analysis, data)
        bound = mean_and_error(_yardstick(analysis, data, "oracle", "req"))[0]
        if honest is None:
            continue
        rows.append(
            (
                data,
                plain(honest),
                DASH if pace is None else f"{pace[0]:+.3f}",
                DASH if pace is None else plain(pace[1] + np.log2(10.0) * pace[0]),
                "unknown" if best is None else plain(best),
                plain(bound),
            )
        )
    if not rows:
        return None
    return Table(
        caption="What could be reached from the query alone: cost / static mix",
        columns=(
            "data",
            "our heads, hindsight",
            "REQ a doubling of labels",
            "REQ with ten times the labels, if that pace held",
            "best possible from the query, hindsight",
            "oracle",
        ),
        rows=tuple(rows),
        note="Best possible: the known expected scores given the text, in the simulated world. On real data nothing "
        "bounds it but the oracle, which knows the answers; the pace (least squares on the logarithm of the labels, "
        "from 300 on) is an extrapolation and no bound.",
    )


def _pace(analysis: Analysis, data: str) -> tuple[float, float] | None:
    """Change of REQ a doubling of labels, and REQ with all of them; None for fewer than two sizes."""
    points = []
    for size in analysis.results.where(experiment="budget", data=data).distinct("variant"):
        here = analysis.results.where(experiment="budget", data=data, router=TIE, metric="req", variant=size)
        mean = mean_and_error(here)[0]
        if mean is not None and int(size) >= _FEWEST_FOR_PACE:
            points.append((np.log2(int(size)), mean))
    everything = requested_ratio(analysis, data, TIE)
    if everything is None or not points:
        return None
    points.append((np.log2(analysis.shown[data][0].train.n_queries), everything))
    doublings, ratios = np.array(points).T
    spread = doublings - doublings.mean()
    return float(spread @ ratios / (spread @ spread)), everything


def _weight_needed(analysis: Analysis, data: str) -> float | None:
    """The least weight of the realised score at which the blend passes the paper's share."""
    rows = _leak(analysis, data, "blend", "tenth_share")
    for weight in BLENDS:
        mean = mean_and_error(rows.where(variant=f"{weight:g}"))[0]
        if mean is not None and mean >= PAPER_SHARE:
            return weight
    return None


def budget_table(analysis: Analysis, data: str) -> Table | None:
    """Cost ratio and certified range by labels."""
    found = analysis.results.where(experiment="budget", data=data)
    sizes = [int(size) for size in found.distinct("variant")]
    if not sizes:
        return None
    n_all = analysis.shown[data][0].train.n_queries
    rows = []
    for name in found.distinct("router"):
        for size in (*sizes, n_all):
            columns = {"data": data, "router": name}
            source = (
                {"experiment": "main"} if size == n_all else {"experiment": "budget", "variant": str(size)}
            )
            limits = analysis.results.where(
                **source, **columns, metric="max_certified", guarantee="certified"
            )
            rows.append(
                (
                    f"{analysis.title(name)}, {size:,} labels",
                    plus_minus(
                        analysis.results.where(**source, **columns, metric="req", guarantee="expected")
                    ),
                    plus_minus(limits),
                    percent(
                        mean_and_error(
                            analysis.results.where(
                                **source, **columns, metric="served_share", guarantee="certified"
                            )
                        )[0]
                    ),
                )
            )
    return Table(
        caption=f"{data}: label budget",
        columns=("router, labelled queries", "REQ", "largest certified target", "targets certified"),
        rows=tuple(rows),
        note="Random subsets of the training queries, nested; the last of each router is all of them, on all seeds.",
    )


def shift_table(analysis: Analysis, data: str) -> Table | None:
    """Trained without a task and tested on it, beside the same number of labels with it."""
    found = analysis.results.where(experiment="shift", data=data)
    variants = found.distinct("variant")
    if not variants:
        return None
    rows = []
    for task in dict.fromkeys(variant.rpartition("|")[0] for variant in variants):
        for name in found.distinct("router"):
            cells = [f"{task}, {analysis.title(name)}"]
            for label in ("seen", "unseen"):
                here = {
                    "experiment": "shift",
                    "data": data,
                    "router": name,
                    "variant": f"{task}|{label}",
                }
                cells.append(plus_minus(analysis.results.where(**here, metric="req", guarantee="expected")))
                gap = mean_and_error(
                    analysis.results.where(**here, metric="mean_margin", guarantee="expected")
                )[0]
                cells.append(DASH if gap is None else f"{gap * 100:+.1f}")
                below = analysis.results.where(**here, metric="significantly_below", guarantee="certified")
                cells.append(percent(mean_and_error(below)[0]))
            rows.append(tuple(cells))
    return Table(
        caption=f"{data}: one task left out of training and served",
        columns=(
            "task served, router",
            "REQ, task seen",
            "margin",
            "certified missed",
            "REQ, task unseen",
            "margin ",
            "certified missed ",
        ),
        rows=tuple(rows),
        note="The same number of training queries with and without the task. Margin: achieved - target in points, no "
        "margin asked for. A certificate speaks of traffic like its evidence: a task served alone is other traffic, "
        "seen or not, and its misses are no breach of the promise but the reason why the promise says so.",
    )


def pool_table(analysis: Analysis, data: str) -> Table | None:
    """A model goes, prices fall, a model gets worse."""
    found = analysis.results.where(experiment="pool", data=data, router="our heads", metric="req")
    rows = []
    for variant in found.distinct("variant"):
        change, _, answer = variant.partition("|")
        here = {"experiment": "pool", "data": data, "router": "our heads", "variant": variant}

        def points(metric: str, here: dict[str, str] = here) -> str:
            mean = mean_and_error(analysis.results.where(**here, metric=metric))[0]
            return DASH if mean is None else f"{mean * 100:.1f}"

        rows.append(
            (
                f"{change}, {answer}",
                plus_minus(analysis.results.where(**here, metric="req")),
                points("gap"),
                points("mean_margin"),
                percent(mean_and_error(analysis.results.where(**here, metric="significantly_below"))[0]),
            )
        )
    if not rows:
        return None
    return Table(
        caption=f"{data}: the pool changes",
        columns=(
            "change, answer to it",
            "REQ",
            "|achieved - target|, points",
            "margin, points",
            "floors missed",
        ),
        rows=tuple(rows),
        note="Plug-in with our heads, no margin asked for. As deployed: operating points as estimated before the change. "
        "Re-inverted: the frontier estimated again from the same predictions with the new pool, prices, or the mean of 200 "
        "audited answers; nothing is retrained. Missed: significantly below the target at one-sided 5%.",
    )


def latency_table(analysis: Analysis) -> Table | None:
    """The paper's Table 3."""
    rows = []
    for data in analysis.data_sets:
        for size in BATCH_SIZES:
            figures = [
                mean_and_error(
                    analysis.results.where(
                        experiment="latency",
                        data=data.name,
                        router="router",
                        metric=metric,
                        variant=str(size),
                    )
                )[0]
                for metric in ("p50_ms", "p95_ms", "p99_ms", "queries_per_s")
            ]
            if figures[0] is not None:
                rows.append(
                    (
                        f"{data.name}, batch {size}",
                        *(plain(value, 2) for value in figures[:3]),
                        plain(figures[3], 0),
                    )
                )
    if not rows:
        return None
    rows.append(("the paper, A100, batch 1", "8.70", DASH, "9.00", "115"))
    rows.append(("the paper, A100, batch 32 to 128", "2.60", DASH, "2.70", "385"))
    return Table(
        caption="Time of a whole decision, ms a query (the paper's Table 3)",
        columns=("data, batch size", "p50", "p95", "p99", "queries / s"),
        rows=tuple(rows),
        note="`Router.route_batch` from text to decision with the lexical encoder, one thread, nothing else of the "
        "benchmark running. Longer texts take longer.",
    )


def _yardstick(analysis: Analysis, data: str, name: str, metric: str) -> Results:
    return analysis.results.where(experiment="yardstick", data=data, router=name, metric=metric)


def _scaled(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value * 100.0
