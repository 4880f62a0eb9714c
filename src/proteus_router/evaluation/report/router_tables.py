"""All routers: cost at equal accuracy, the paper's Table 2, equal promise, ablations."""

from __future__ import annotations

import numpy as np

from proteus_router.baselines.registry import Entry
from proteus_router.evaluation import metrics
from proteus_router.evaluation.harness.analysis import Analysis, is_ablation
from proteus_router.evaluation.harness.results import Results
from proteus_router.evaluation.report.document import Table
from proteus_router.evaluation.report.numbers import (
    DASH,
    deaf_to_targets,
    difference,
    mean_and_error,
    percent,
    plain,
    plus_minus,
    usd,
)

__all__ = ["ablation_table", "cost_table", "paper_table", "promise_table"]


_SHORTEST_MS = 0.05
"""A router that takes less does nothing, and a division by its time says nothing."""


def _main(analysis: Analysis, data: str, router: str, metric: str, guarantee: str = "expected") -> Results:
    return analysis.results.where(
        experiment="main", data=data, router=router, metric=metric, guarantee=guarantee
    )


def _yardstick(analysis: Analysis, data: str, name: str, metric: str) -> float | None:
    return mean_and_error(
        analysis.results.where(experiment="yardstick", data=data, router=name, metric=metric)
    )[0]


def _shown(analysis: Analysis, data: str, *, ablations: bool) -> list[Entry]:
    """Entries fitted on the data, ours first, then by cost ratio, those with one setting last."""
    fitted = [
        entry
        for entry in analysis.entries
        if (data, entry.name) not in analysis.skipped and is_ablation(entry.name) == ablations
    ]

    def order(entry: Entry) -> tuple[int, float]:
        ratio = mean_and_error(_main(analysis, data, entry.name, "req"))[0]
        asked = entry.knob and not deaf_to_targets(analysis, data, entry.name)
        group = 0 if entry.kind == "ours" else 1 if asked else 2
        return group, ratio if ratio is not None else np.inf

    return sorted(fitted, key=order)


def cost_table(analysis: Analysis, data: str) -> Table:
    """Cost ratios of every router, and ours against each."""
    bound = _yardstick(analysis, data, "oracle", "req")
    entries = _shown(analysis, data, ablations=False)
    rows = []
    for entry in entries:
        ways = [("expected", entry.title)]
        if entry.name in analysis.shown[data][1] and analysis.shown[data][1][entry.name].is_native:
            ways = [("native", f"{entry.title}, its own mapping"), ("expected", f"{entry.title}, calibrated")]
        deaf = deaf_to_targets(analysis, data, entry.name)
        for way, title in ways:
            ratio = mean_and_error(_main(analysis, data, entry.name, "req", way))[0]
            closed = None
            if ratio is not None and bound is not None and entry.knob and not deaf:
                closed = metrics.oracle_gap_closed(ratio, bound)
            hind = mean_and_error(_main(analysis, data, entry.name, "hind"))[0]
            against = analysis.versus.get((data, entry.name, way))
            rows.append(
                (
                    title + (" (*)" if deaf and entry.knob and ratio is not None else ""),
                    plus_minus(_main(analysis, data, entry.name, "req", way)),
                    plus_minus(_main(analysis, data, entry.name, "req_binding", way)),
                    plain(hind) if way == "expected" else DASH,
                    percent(closed),
                    DASH if entry.name == analysis.ours else difference(against),
                )
            )
    rows.append(
        ("oracle (labels known)", plain(bound), DASH, plain(bound), percent(1.0 if bound else None), DASH)
    )
    return Table(
        caption=f"{data}: cost / static mix at equal accuracy",
        columns=("router", "REQ", "REQ, binding", "HIND", "oracle gap closed", "ours - theirs in REQ [95%]"),
        rows=tuple(rows),
        strong=_strong(entries, analysis),
        note="REQ: 12 requested accuracies, settings chosen without test labels. Binding: only those above the cheapest "
        "model's accuracy. HIND: the best tested setting with hindsight. Routers with a single setting can't be "
        "asked for an accuracy: their REQ is that setting's own, and ours is asked for the same accuracy. (*): asked for "
        "any accuracy it gives the same one, within a point.",
    )


def paper_table(analysis: Analysis, data: str) -> Table:
    """The paper's Table 2 (accuracy, cost, RE, RPI) and the field's figures beside it."""
    chance = _yardstick(analysis, data, "random model", "mean_accuracy")
    ceiling = _yardstick(analysis, data, "oracle", "mean_accuracy")
    dearest = _yardstick(analysis, data, "dearest model", "mean_cost_usd")
    entries = _shown(analysis, data, ablations=False)
    two = analysis.shown[data][0].test.n_models == 2
    rows = []
    for entry in entries:
        accuracy, _ = mean_and_error(_main(analysis, data, entry.name, "mean_accuracy"))
        cost, _ = mean_and_error(_main(analysis, data, entry.name, "mean_cost_usd"))
        latency, aiq, error = (
            mean_and_error(_main(analysis, data, entry.name, metric, ""))[0]
            for metric in ("latency_ms", "aiq", "calibration_error")
        )
        cells = [
            entry.title,
            plus_minus(_main(analysis, data, entry.name, "mean_accuracy"), 1, scale=100.0),
            usd(cost),
            plain(latency, 2),
            plain(_efficiency(accuracy, chance, latency), 1),
            plain(_performance(accuracy, cost, ceiling, dearest), 1),
            plain(aiq),
            plain(error),
        ]
        if two:
            cells += [
                plain(mean_and_error(_main(analysis, data, entry.name, metric, ""))[0], 2)
                for metric in ("apgr", "cpt_50%", "cpt_80%")
            ]
        rows.append(tuple(cells))
    cost = _yardstick(analysis, data, "oracle", "mean_cost_usd")
    best = plain(None if ceiling is None else ceiling * 100, 1)
    index = plain(_performance(ceiling, cost, ceiling, dearest), 1)
    blank = [DASH] * (5 if two else 2)
    rows.append(("oracle (labels known)", best, usd(cost), DASH, DASH, index, *blank))
    return Table(
        caption=f"{data}: the paper's Table 2, and the field's figures",
        columns=(
            "router",
            "accuracy, %",
            "USD / 1K",
            "router ms",
            "RE",
            "RPI*",
            "AIQ",
            "ECE",
            *(("APGR", "CPT 50%", "CPT 80%") if two else ()),
        ),
        rows=tuple(rows),
        strong=_strong(entries, analysis),
        note="Routers that take targets: mean over 16 targets up to half a point under the best model. ms: one query, one "
        "thread, median. RE: points above random choice a ms. RPI*: with the time factor set to 1, since the models' "
        "latency is not known. AIQ: mean accuracy over all budgets from the cheapest to the dearest model. ECE: "
        "calibration error of the predicted scores. They do not say what a given accuracy costs: compare by REQ.",
    )


def promise_table(analysis: Analysis, data: str) -> Table:
    """Every router at equal promise: the same certifier, the same confidence, the same evidence."""
    ours = analysis.ours or ""
    simulated = analysis.shown[data][0].expected_scores is not None
    entries = [entry for entry in _shown(analysis, data, ablations=False) if entry.knob]
    rows = []
    for entry in entries:
        below, _ = mean_and_error(_main(analysis, data, entry.name, "significantly_below", "certified"))
        held, _ = mean_and_error(_main(analysis, data, entry.name, "floor_compliance", "certified"))
        margin, _ = mean_and_error(_main(analysis, data, entry.name, "mean_margin", "certified"))
        share, _ = mean_and_error(_main(analysis, data, entry.name, "served_share", "certified"))
        relative = None if entry.name == ours else _relative_cost(analysis, data, entry.name, ours)
        truly, _ = mean_and_error(_main(analysis, data, entry.name, "truly_below", "certified"))
        known = (percent(truly, 1),) if simulated else ()
        rows.append(
            (
                entry.title,
                percent(share),
                plus_minus(
                    analysis.results.where(
                        experiment="main", data=data, router=entry.name, metric="max_certified"
                    )
                ),
                percent(held),
                percent(below, 1),
                *known,
                DASH if margin is None else f"{margin * 100:+.1f}",
                DASH if relative is None else f"{relative:.2f}x",
            )
        )
    return Table(
        caption=f"{data}: at equal promise, {analysis.plan.confidence:.0%} confidence",
        columns=(
            "router, calibrated",
            "targets certified",
            "largest certified target",
            "floors held",
            "missed significantly",
            *(("truly below",) if simulated else ()),
            "overshoot, points",
            "cost against ours",
        ),
        rows=tuple(rows),
        strong=_strong(entries, analysis),
        note=f"16 targets x {len(analysis.plan.seeds)} seeds. Every router's settings go through the same certifier "
        "on its own out-of-fold outcomes. Held: held-out accuracy at or above the target; missed significantly: "
        "below at one-sided 5%. Cost: geometric mean over the targets that both certify."
        + (" Truly below: the mean of the known expected scores is below the target." if simulated else ""),
    )


def ablation_table(analysis: Analysis, data: str) -> Table | None:
    """Ours with one part changed (the paper's Table 4 and further)."""
    entries = _shown(analysis, data, ablations=True)
    ours = analysis.ours
    if not entries or ours is None:
        return None
    base_accuracy, _ = mean_and_error(_main(analysis, data, ours, "mean_accuracy"))
    base_cost, _ = mean_and_error(_main(analysis, data, ours, "mean_cost_usd"))
    rows = [_ablation(analysis, data, ours, analysis.title(ours), None, None)]
    rows += [
        _ablation(analysis, data, entry.name, entry.title, base_accuracy, base_cost) for entry in entries
    ]
    return Table(
        caption=f"{data}: ablations",
        columns=(
            "router",
            "REQ",
            "ours - ablation [95%]",
            "HIND",
            "accuracy change, points",
            "cost change",
            "|achieved - target|, points",
        ),
        rows=tuple(rows),
        strong=frozenset({0}),
        note="Negative difference: the full router is cheaper. Accuracy and cost changes are means over 16 targets, "
        "at settings that aim at the same accuracy.",
    )


def _ablation(
    analysis: Analysis,
    data: str,
    router: str,
    title: str,
    base_accuracy: float | None,
    base_cost: float | None,
) -> tuple[str, ...]:
    fitted = analysis.shown[data][1].get(router)
    way = "native" if fitted is not None and fitted.is_native else "expected"
    accuracy, _ = mean_and_error(_main(analysis, data, router, "mean_accuracy", way))
    cost, _ = mean_and_error(_main(analysis, data, router, "mean_cost_usd", way))
    gap, _ = mean_and_error(_main(analysis, data, router, "gap", way))
    moved = None if accuracy is None or base_accuracy is None else (accuracy - base_accuracy) * 100
    dearer = None if cost is None or not base_cost else cost / base_cost - 1.0
    return (
        title,
        plus_minus(_main(analysis, data, router, "req", way)),
        difference(analysis.versus.get((data, router, way))),
        plain(mean_and_error(_main(analysis, data, router, "hind"))[0]),
        DASH if moved is None else f"{moved:+.2f}",
        DASH if dearer is None else f"{dearer * 100:+.0f}%",
        DASH if gap is None else f"{gap * 100:.2f}",
    )


def _relative_cost(analysis: Analysis, data: str, router: str, ours: str) -> float | None:
    """Geometric mean of theirs over ours, over (seed, target) that both certify."""
    costs = [
        {(row.seed, row.target): row.value for row in _main(analysis, data, name, "cost_usd", "certified")}
        for name in (router, ours)
    ]
    logs = []
    for key in costs[0].keys() & costs[1].keys():
        theirs, own = costs[0][key], costs[1][key]
        if theirs and own:
            logs.append(np.log(theirs / own))
    return float(np.exp(np.mean(logs))) if logs else None


def _efficiency(accuracy: float | None, chance: float | None, latency_ms: float | None) -> float | None:
    if accuracy is None or chance is None or latency_ms is None or latency_ms < _SHORTEST_MS:
        return None
    return metrics.routing_efficiency(accuracy, chance, latency_ms)


def _performance(
    accuracy: float | None, cost: float | None, ceiling: float | None, dearest: float | None
) -> float | None:
    if accuracy is None or cost is None or ceiling is None or dearest is None:
        return None
    index = metrics.routing_performance_index(accuracy, ceiling, cost, dearest)
    return None if index is None else index.value


def _strong(entries: list[Entry], analysis: Analysis) -> frozenset[int]:
    return frozenset(place for place, entry in enumerate(entries) if entry.name == analysis.ours)
