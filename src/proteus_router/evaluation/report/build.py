"""The report of a run: what stands in it, in which order."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from proteus_router.evaluation.harness.analysis import Analysis
from proteus_router.evaluation.harness.manifest import Manifest
from proteus_router.evaluation.report import (
    cost_figures,
    experiment_tables,
    other_figures,
    router_tables,
    target_figures,
    target_tables,
)
from proteus_router.evaluation.report.document import (
    Block,
    Document,
    Figure,
    Figures,
    Note,
    Paragraph,
    Section,
    Table,
)
from proteus_router.evaluation.report.headline import headline, headline_table
from proteus_router.evaluation.report.html import render_html
from proteus_router.evaluation.report.markdown import render_markdown

__all__ = ["build_document", "write_report"]

Draw = Callable[[Analysis, str, Path], Figure | None]


def write_report(analysis: Analysis, manifest: Manifest, folder: Path) -> list[Path]:
    """Write report.html, report.md and figures/ into `folder`."""
    pictures = folder / "figures"
    if pictures.exists():
        shutil.rmtree(pictures)  # pictures of routers or data that are no longer in the run
    document = build_document(analysis, manifest, pictures)
    page, text = folder / "report.html", folder / "report.md"
    page.write_text(render_html(document), encoding="utf-8")
    text.write_text(render_markdown(document, folder=folder), encoding="utf-8")
    return [page, text]


def build_document(analysis: Analysis, manifest: Manifest, pictures: Path) -> Document:
    """All blocks; draws the figures into `pictures`."""
    names = [data.name for data in analysis.data_sets]

    def drawn(draw: Draw, caption: str = "") -> list[Block]:
        found = [draw(analysis, name, pictures) for name in names]
        kept = tuple(figure for figure in found if figure is not None)
        return [Figures(kept, caption)] if kept else []

    def tables(make: Callable[[Analysis, str], Table | None]) -> list[Block]:
        return [table for name in names for table in [make(analysis, name)] if table is not None]

    def optional(*blocks: Block | None) -> list[Block]:
        return [block for block in blocks if block is not None]

    lead: list[Block] = [headline(analysis), headline_table(analysis), Paragraph(_origin(analysis, manifest))]
    sections = [
        Section(
            "Cost at equal accuracy",
            [
                *drawn(cost_figures.ratio_figure),
                *tables(router_tables.cost_table),
                *drawn(cost_figures.frontier_figure),
                *drawn(cost_figures.saved_figure),
            ],
        ),
        Section(
            "Target and outcome",
            [
                *tables(target_tables.adaptability_table),
                *optional(target_tables.tolerance_table(analysis)),
                *drawn(target_figures.response_figure),
                *tables(target_tables.tier_table),
            ],
        ),
        Section(
            "Certificates",
            [
                *tables(router_tables.promise_table),
                *drawn(target_figures.promise_figure),
                *drawn(target_figures.confidence_figure),
            ],
        ),
        Section(
            "Targets that move",
            [*tables(experiment_tables.dynamic_table), *drawn(other_figures.stream_figure)],
        ),
        Section(
            "The leak",
            [
                *optional(experiment_tables.leak_story(analysis)),
                *drawn(other_figures.leak_figure),
                *tables(experiment_tables.leak_table),
                *optional(experiment_tables.reach_table(analysis)),
            ],
        ),
        Section("Ablations", tables(router_tables.ablation_table)),
        Section(
            "Labels and shift",
            [
                *drawn(other_figures.budget_figure),
                *tables(experiment_tables.budget_table),
                *tables(experiment_tables.shift_table),
            ],
        ),
        Section("Pool change", tables(experiment_tables.pool_table)),
        Section("What the router predicts", _predictions(drawn)),
        Section(
            "The paper's own figures of merit, and speed",
            [*tables(router_tables.paper_table), *optional(experiment_tables.latency_table(analysis))],
        ),
        Section("Method", _method(analysis, manifest)),
    ]
    return Document("PROTEUS benchmark", lead, [section for section in sections if section.blocks])


def _predictions(drawn: Callable[[Draw], list[Block]]) -> list[Block]:
    return [*drawn(other_figures.reliability_figure), *drawn(other_figures.mix_figure)]


def _origin(analysis: Analysis, manifest: Manifest) -> str:
    """What is simulated, derived or measured."""
    parts = [f"**{name}**: {text}" for name, text in manifest.origins.items()]
    return "Where the numbers come from. " + " ".join(parts)


def _method(analysis: Analysis, manifest: Manifest) -> list[Block]:
    plan = analysis.plan
    sizes = "; ".join(
        f"{data.name}: {round((1 - data.test_share) * 100)}/{round(data.test_share * 100)}"
        for data in analysis.data_sets
    )
    lines = [
        f"Splits are random by near-text group, train/test in percent {sizes}; seeds "
        f"{', '.join(map(str, plan.seeds))}. All routers see the same rows, the same word features and the same folds.",
        "Every router is reduced to its settings; a setting's accuracy and cost are estimated out of fold on the "
        "training rows, the lower hull is taken, and a requested accuracy is served by a coin between two "
        "neighbours. A row counts with its expectation over the coin, so no result depends on a draw.",
        "Differences are paired: whole text groups are drawn with replacement, the same for all routers and all "
        "seeds; routers are not fitted again. ± is the standard error over seeds, which share rows.",
        "Missing outcomes are weighted by one over the model's observation rate, never counted as zero.",
        f"Run: {manifest.command}. Version {manifest.version}, commit {manifest.commit}, "
        f"{manifest.minutes:.0f} minutes with {manifest.jobs} processes of one thread on {manifest.machine}, "
        f"{manifest.date}.",
    ]
    blocks: list[Block] = [Note(tuple(lines))]
    rows = [
        (entry.title, entry.kind, entry.knob or "one setting", entry.source) for entry in analysis.entries
    ]
    blocks.append(
        Table("Routers of this run", ("router", "kind", "what the sweep turns", "after"), tuple(rows))
    )
    if analysis.skipped:
        blocks.append(
            Table(
                "Left out",
                ("data, router", "why"),
                tuple(
                    (f"{data}, {analysis.title(router)}", reason)
                    for (data, router), reason in analysis.skipped.items()
                ),
            )
        )
    return blocks
