"""`proteus inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from proteus_router.cli.targets import parse_targets
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import Certificate

__all__ = ["describe", "document", "inspect_router"]


@click.command("inspect", epilog="Example: proteus inspect router/ --targets 0.70,0.80,0.85 --simultaneous")
@click.argument("router", type=click.Path(path_type=Path))
@click.option("--targets", help="Targets to certify: A:B:N or a comma-separated list.")
@click.option("--simultaneous", is_flag=True, help="Certify the whole list of --targets together.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def inspect_router(router: Path, targets: str | None, simultaneous: bool, as_json: bool) -> None:
    """Show what ROUTER holds: models and prices, encoder, operating points, what it can certify."""
    loaded = Router.load(router)
    requested = [] if targets is None else parse_targets(targets)
    if as_json:
        click.echo(json.dumps(document(loaded, requested, simultaneous), indent=2, ensure_ascii=False))
    else:
        click.echo(describe(loaded, requested, simultaneous))


def document(
    router: Router, targets: list[float] | None = None, simultaneous: bool = False
) -> dict[str, Any]:
    """What `proteus inspect --json` prints."""
    manifest = router.manifest
    together = len(targets) if targets and simultaneous else 1
    return {
        "proteus_version": manifest["proteus_version"],
        "mode": manifest["mode"],
        "simulated": manifest["simulated"],
        "encoder": manifest["encoder"],
        "models": manifest["models"],
        "data": manifest["data"],
        "confidence": manifest["confidence"],
        "scheme": manifest["scheme"],
        "operating_points": router.target_map.points(),
        "certified_range": router.target_map.certified_range,
        "shortage": router.target_map.shortage,
        "certificates_void": router.void_reason or None,
        "policy": manifest["policy"]["report"],
        "heads": manifest["heads_report"],
        "targets": [router.target_map.certify(t, n_simultaneous=together).to_dict() for t in targets or []],
        "config": manifest["config"],
    }


def describe(router: Router, targets: list[float] | None = None, simultaneous: bool = False) -> str:
    """The same for a person."""
    manifest, limits = router.manifest, router.target_map.certified_range
    data = manifest["data"]
    lines = [
        f"PROTEUS router, mode {manifest['mode']}, encoder {manifest['encoder']['name']}"
        + (" (trained on simulated data)" if manifest["simulated"] else ""),
        f"data      {data['name']}: {data['n_queries']} queries, {data['missing_share']:.1%} of outcomes missing",
        f"evidence  {manifest['scheme']}, {data['n_evidence']} rows, confidence {manifest['confidence']:g}",
    ]
    shortage = router.target_map.shortage
    if shortage is not None:
        lines.append(f"certified {shortage}")
    else:
        lines.append(f"certified accuracy targets up to {limits['max_target']:.4f}")
    if router.void_reason:
        lines.append(f"WARNING   certificates are void: {router.void_reason}")
    report = manifest["policy"]["report"]
    lines.append(f"policy    {report.get('shipped', manifest['mode'])}: {report.get('reason', '')}")
    lines += ["", f"{'model':34s} {'score':>7s} {'USD/1K queries':>15s} {'outcomes':>9s}"]
    lines += [
        f"{entry['name'][:34]:34s} {entry['mean_score']:7.3f} {entry['mean_cost_usd'] * 1000:15.4f} "
        f"{entry['n_outcomes']:9d}"
        for entry in manifest["models"]
    ]
    lines += ["", f"{'internal target':>15s} {'lower bound':>12s} {'USD/1K queries':>15s}   operating points"]
    points = router.target_map.points()
    lines += _points([point for point in points if point["on_frontier"]])
    cautious = [point for point in points if not point["on_frontier"]]
    if cautious:
        lines += [f"{'':44s}   the same without models of few outcomes", *_points(cautious)]
    if targets:
        together = len(targets) if simultaneous else 1
        lines += [
            "",
            f"{'target':>8s}  certificate" + (f" (all {together} together)" if together > 1 else ""),
        ]
        for target in targets:
            outcome = router.target_map.certify(target, n_simultaneous=together)
            if isinstance(outcome, Certificate):
                price = outcome.expected_cost_usd * 1000
                text = f"certified, lower bound {outcome.lower_bound:.4f}, {price:.4f} USD/1K"
            else:
                text = f"not certified: {outcome.reason}"
            lines.append(f"{target:8.4f}  {text}")
    return "\n".join(lines)


def _points(points: list[dict[str, Any]]) -> list[str]:
    """About fifteen of them."""
    step = max(1, len(points) // 15)
    shown = [*points[::step], points[-1]] if (len(points) - 1) % step else points[::step]
    return [
        f"{point['internal_target']:15.4f} {point['accuracy_lower']:12.4f} {(point['cost_usd'] or 0.0) * 1000:15.4f}"
        for point in shown
    ]
