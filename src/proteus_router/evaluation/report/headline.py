"""What a busy reader sees: one sentence and one table."""

from __future__ import annotations

from dataclasses import dataclass

from proteus_router.evaluation.harness.analysis import Analysis
from proteus_router.evaluation.harness.compare import Interval
from proteus_router.evaluation.report.document import Paragraph, Table
from proteus_router.evaluation.report.numbers import (
    DASH,
    TIE,
    difference,
    mean_and_error,
    percent,
    plain,
    plus_minus,
    requested_ratio,
)

__all__ = ["Standing", "headline", "headline_table", "standings"]


@dataclass(frozen=True)
class Standing:
    """Ours on one data set against the best of the others."""

    data: str
    ours: float | None
    rival: str | None
    rival_ratio: float | None
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """better, level or worse at 95%."""
        if self.interval is None:
            return DASH
        if self.interval.high < 0:
            return "cheaper"
        return "dearer" if self.interval.low > 0 else "level"


def standings(analysis: Analysis) -> list[Standing]:
    """One a data set; the rival is the baseline of others with the lowest cost ratio."""
    found = []
    for data in (item.name for item in analysis.data_sets):
        ours = requested_ratio(analysis, data, analysis.ours)
        rivals = [
            (ratio, entry.name)
            for entry in analysis.entries
            if entry.kind == "baseline" and entry.knob and entry.name != TIE
            for ratio in [requested_ratio(analysis, data, entry.name)]
            if ratio is not None
        ]
        ratio, name = min(rivals, default=(None, None))
        interval = None if name is None else analysis.versus.get((data, name, "expected"))
        found.append(Standing(data, ours, name, ratio, interval))
    return found


def headline(analysis: Analysis) -> Paragraph:
    """The result in a sentence or two, from the numbers."""
    found = standings(analysis)
    defined = [item for item in found if item.ours is not None]
    if analysis.ours is None or not defined:
        return Paragraph(
            "No cost ratio is defined on these data: no router of ours was run, or the static mix is free at every level."
        )
    title = analysis.title(analysis.ours)
    low, high = (pick(item.ours for item in defined if item.ours is not None) for pick in (min, max))
    span = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
    text = (
        f"**At equal accuracy {title} costs {span} of the cheapest random mix of fixed models** on "
        f"{_counted(len(defined), 'data set')}, held out, at targets chosen without a test label."
    )
    against = [item for item in defined if item.interval is not None]
    if against:
        cheaper = sum(item.verdict == "cheaper" for item in against)
        dearer = [item.data for item in against if item.verdict == "dearer"]
        text += (
            f" It is cheaper than the best other router on {cheaper} of {len(against)} "
            f"(paired bootstrap over texts, 95%)"
        )
        text += f", and dearer on {', '.join(dearer)}." if dearer else ", dearer on none."
    return Paragraph(text)


def headline_table(analysis: Analysis) -> Table:
    """One line a data set."""
    rows = []
    for item, data in zip(standings(analysis), analysis.data_sets, strict=True):
        cell = analysis.shown[data.name][0]
        results, ours = analysis.results, analysis.ours or ""
        main = {"experiment": "main", "data": data.name, "router": ours}
        best = results.where(experiment="yardstick", data=data.name, router="oracle", metric="req")
        name = data.name + (" (simulated)" if data.table.simulated and "simulated" not in data.name else "")
        certified = results.where(**main, metric="significantly_below", guarantee="certified")
        rows.append(
            (
                f"{name}, {cell.test.n_models} models, n = {cell.train.n_queries:,} / {cell.test.n_queries:,}",
                plus_minus(results.where(**main, metric="req", guarantee="expected")),
                DASH if item.rival is None else f"{plain(item.rival_ratio)} ({analysis.title(item.rival)})",
                difference(item.interval),
                plain(mean_and_error(best)[0]),
                percent(
                    mean_and_error(results.where(**main, metric="saved_at_top", guarantee="expected"))[0]
                ),
                percent(mean_and_error(certified)[0], 1),
            )
        )
    title = analysis.title(analysis.ours) if analysis.ours else "ours"
    return Table(
        caption="",
        columns=(
            "data, n train / test",
            f"{title}: cost / static mix",
            "best other router",
            "ours - theirs [95%]",
            "oracle",
            "saved against the best model, half a point below it",
            "certified floors missed",
        ),
        rows=tuple(rows),
        note=_note(analysis),
    )


def _note(analysis: Analysis) -> str:
    seeds = len(analysis.plan.seeds)
    allowed = percent(1.0 - analysis.plan.confidence)
    return (
        f"Static mix: the cheapest random mix of fixed models with the same accuracy, 1.0, needs no router. "
        f"{_counted(seeds, 'seed')}; ± standard error over seeds, whose rows overlap. Certified floors missed: share of "
        f"certified targets whose held-out accuracy is significantly below (one-sided 5%); {allowed} allowed."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
