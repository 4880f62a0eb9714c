"""`proteus replay` and `proteus learn`: recorded traffic, looked at again and learned from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proteus_router.cli.extras import extra
from proteus_router.cli.progress import ProgressBars
from proteus_router.cli.stores import Place, store_options, with_store
from proteus_router.errors import SchemaError, TrainingError

if TYPE_CHECKING:
    from proteus_router.learning.replay import Replay
    from proteus_router.learning.traffic import Traffic

__all__ = ["learn", "replay"]

_WHAT = (
    "Counts graded audits whose text was kept: switch audits.share and audits.keep_text of the tier on, and "
    "exploration.share, or nothing but what was served can be judged."
)


@click.command(
    epilog=f"Example: proteus replay --router new-router/ --config proteus.yaml --tier standard\n\n{_WHAT}"
)
@click.option("--router", "folder", required=True, type=click.Path(path_type=Path), help="Router to try.")
@store_options
@click.option("--tier", help="Tier whose traffic counts; needed where there are several.")
@click.option(
    "--target", type=float, help="Accuracy target [default: the one that the traffic was served at]."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def replay(
    folder: Path,
    config_file: Path | None,
    store_url: str | None,
    tier: str | None,
    target: float | None,
    as_json: bool,
) -> None:
    """What another router, or another target, would have done on recorded traffic, with intervals."""
    from proteus_router.learning.replay import replay as tried
    from proteus_router.routing.router import Router

    router = Router.load(folder)
    recorded = _recorded(config_file, store_url, tier, router.models)
    found = tried(router, recorded.traffic, recorded.target if target is None else target)
    click.echo(json.dumps(found.to_dict()) if as_json else _table(found))


@click.command(
    epilog="Example: proteus learn outcomes/ --router router/ --config proteus.yaml --tier standard -o learned/\n\n"
    f"{_WHAT}\n\nThe later 30% of the traffic judges what the earlier 70% taught. Nothing is written unless the "
    "candidate is certified, shown to score within a point of the target or above, and shown to be cheaper than what "
    "was served; exit code 9 says that it was not."
)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--router", "folder", required=True, type=click.Path(path_type=Path), help="Router that serves."
)
@store_options
@click.option("--tier", help="Tier whose traffic counts; needed where there are several.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Router folder to make.")
@click.option("--force", is_flag=True, help="Replace a router that stands at --output.")
def learn(
    dataset: Path,
    folder: Path,
    config_file: Path | None,
    store_url: str | None,
    tier: str | None,
    output: Path,
    force: bool,
) -> None:
    """Learn heads and certificates from graded traffic, and write the router only if later traffic speaks for it.

    DATASET holds the outcomes that ROUTER was trained on: it keeps them without their texts.
    """
    from proteus_router.data.sources import read_outcomes
    from proteus_router.learning.learn import learn as learned
    from proteus_router.routing.artifact import load_artifact, publish_folder, write_artifact
    from proteus_router.training.workspace import beside, refuse_to_overwrite

    refuse_to_overwrite(output, force=force)
    artifact = load_artifact(folder)
    queries = read_outcomes(dataset, max_query_chars=int(artifact.manifest["max_query_chars"])).queries
    models = tuple(entry["name"] for entry in artifact.manifest["models"])
    recorded = _recorded(config_file, store_url, tier, models)
    with ProgressBars() as progress:
        found = learned(artifact, queries, recorded.traffic, recorded.target, progress=progress)
    click.echo(_table(found.record))
    what = "heads and certificates" if found.new_heads else "certificates; the heads are as they were"
    click.echo(_line("learned", f"{what}, from {found.n_learned} decisions"))
    if not found.verdict.promoted:
        raise TrainingError(f"Not promoted: {found.verdict.reason}")
    partial = beside(output, ".partial")
    write_artifact(partial / "artifact", found.artifact)
    publish_folder(partial / "artifact", output, discard=partial / "previous")
    partial.rmdir()
    click.echo(f"promoted: {found.verdict.reason}\nwrote {output}")


@dataclass(frozen=True)
class _Recorded:
    traffic: Traffic
    target: float


def _recorded(
    config_file: Path | None, store_url: str | None, tier: str | None, models: tuple[str, ...]
) -> _Recorded:
    place = Place.of(config_file, store_url)
    with extra("serve"):
        from proteus_router.learning.traffic import Traffic

    found = with_store(place.url, lambda store: store.graded(tier=tier))
    tiers = sorted({one.tier for one in found})
    if len(tiers) > 1:
        raise click.UsageError(f"graded traffic of several tiers: give --tier, one of {', '.join(tiers)}.")
    if not found:
        raise SchemaError("no graded decisions with text in the store.", hint=_WHAT)
    target = found[-1].accuracy_target  # a floor that was moved since belongs to another time
    same = [one for one in found if one.accuracy_target == target]
    return _Recorded(Traffic.of(same, models, place.aliases), target)


def _line(name: str, one: object) -> str:
    return f"{name:<22}{one}"


def _table(found: Replay) -> str:
    def span(estimate: object, digits: int = 4, scale: float = 1.0) -> str:
        from proteus_router.learning.estimators import Estimate

        assert isinstance(estimate, Estimate)
        value, low, high = (scale * number for number in (estimate.value, estimate.low, estimate.high))
        return f"{value:.{digits}f}  [{low:.{digits}f}, {high:.{digits}f}]"

    return "\n".join(
        (
            _line("graded decisions", f"{found.n}, worth {found.effective_n:.0f} for this router"),
            _line(
                "accuracy target",
                f"{found.accuracy_target:g}" + ("" if found.certified else ", not certified"),
            ),
            _line("score, served", span(found.served_score)),
            _line("score, this router", span(found.score)),
            _line("  self-normalised", span(found.score_snips)),
            _line("USD per 1,000, served", span(found.served_cost_usd, scale=1000.0)),
            _line("  this router", span(found.cost_usd, scale=1000.0)),
            _line("  saved", span(found.cost_saved_usd, scale=1000.0)),
            _line("same model", f"{found.same_model:.0%} of the decisions; overlap {found.overlap:.0%}"),
        )
    )
