"""`proteus config`: look at a gateway's configuration before it serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proteus_router.cli.extras import extra
from proteus_router.errors import InfeasibleTargetError
from proteus_router.routing.router import Router

if TYPE_CHECKING:
    from proteus_router.serving.app.live import Live
    from proteus_router.serving.settings import Configuration

__all__ = ["config_group"]


@click.group("config")
def config_group() -> None:
    """Check a gateway's configuration."""


@config_group.command(
    epilog="Example: proteus config check proteus.yaml --router router/\n\n"
    "Exit code 0: it would be served as it stands. 2: the configuration is wrong. 7: a tier can't be certified, so "
    "that its requests would be refused."
)
@click.argument("config_file", type=click.Path(path_type=Path))
@click.option("--router", type=click.Path(path_type=Path), help="Also check it against this router.")
def check(config_file: Path, router: Path | None) -> None:
    """Read CONFIG_FILE as the gateway would; print the pool, the tiers, and whatever deserves a warning."""
    with extra("serve"):
        from proteus_router.serving.app.live import make_live
        from proteus_router.serving.settings import load_configuration

    configuration = load_configuration(config_file)
    if router is None:
        _print_pool(configuration)
        for name, tier in configuration.settings.tiers.items():
            click.echo(f"tier {name}: accuracy target {tier.accuracy_target:g}")
        _warn(configuration.warnings)
        click.echo("With --router, mapping and tiers are checked too.")
        return
    live = make_live(configuration, Router.load(router))
    _print_pool(configuration)
    _print_tiers(live)
    _warn(live.warnings)
    refused = [name for name in live.tiers if _state(live, name).startswith("refused")]
    if refused:
        raise InfeasibleTargetError(
            f"requests of {', '.join(refused)} would be refused: no certificate.",
            best_certified=live.router.target_map.certified_range["max_target"],
            hint="Lower the target, or set on_infeasible: best_effort.",
        )
    click.echo("ok")


def _print_pool(configuration: Configuration) -> None:
    click.echo(f"{'pool':28s} {'runs':28s} {'speaks':10s} {'USD/Mtok in':>12s} {'out':>9s}")
    for model in configuration.pool:
        click.echo(
            f"{model.name[:28]:28s} {model.proteus_model[:28]:28s} {model.api:10s} "
            f"{model.input_usd_per_token * 1e6:12.4g} {model.output_usd_per_token * 1e6:9.4g}"
        )


def _print_tiers(live: Live) -> None:
    for name, tier in live.tiers.items():
        default = ", default" if name == live.settings.server_tier else ""
        click.echo(f"tier {name}{default}: accuracy target {tier.accuracy_target:g}: {_state(live, name)}")


def _state(live: Live, name: str) -> str:
    tier = live.tiers[name]
    try:
        plan = live.router.plan(
            tier.accuracy_target, guarantee=tier.guarantee, on_infeasible=tier.on_infeasible
        )
    except InfeasibleTargetError:
        return "refused (422): it can't be certified"
    cost = f"about {plan.mix.expected_cost_usd:.3g} USD a request"
    return f"certified, {cost}" if plan.certificate is not None else f"not certified, {cost}"


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
