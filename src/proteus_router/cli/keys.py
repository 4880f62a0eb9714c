"""`proteus keys`: who may use a gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proteus_router.cli.extras import extra
from proteus_router.cli.stores import Place, store_options, with_store
from proteus_router.errors import InvalidKeyError

if TYPE_CHECKING:
    from proteus_router.serving.records import ApiKey

__all__ = ["keys_group"]

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group("keys")
def keys_group() -> None:
    """Make, list and revoke the API keys of a gateway.

    They take effect in a running gateway within seconds (auth.refresh_s), on every machine that shares its
    database.
    """


def _limit_options(command: _F) -> _F:
    options = (
        click.option("--tier", help="Its default tier [default: the server's]."),
        click.option("--allow-tier", "tiers", multiple=True, help="Tier it may use; repeat [default: all]."),
        click.option(
            "--allow-model", "models", multiple=True, help="Model it may use; repeat [default: all]."
        ),
        click.option(
            "--target-range", metavar="LOW:HIGH", help="Accuracy targets it may ask for [default: any]."
        ),
        click.option("--requests-per-minute", type=int, help="Per gateway process [default: no limit]."),
        click.option("--tokens-per-minute", type=int, help="Per gateway process [default: no limit]."),
        click.option("--budget-usd", type=float, help="Over all gateways [default: no limit]."),
        click.option(
            "--budget-period", type=click.Choice(["hour", "day", "month"]), help="Of --budget-usd; UTC."
        ),
        click.option(
            "--budget-paced",
            is_flag=True,
            help="Spread the budget evenly over its period; what gives way is the tier's precedence's to say.",
        ),
        click.option("--admin", is_flag=True, help="For the admin API instead; such a key calls no model."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@keys_group.command(
    "create",
    epilog="Example: proteus keys create search-team --config proteus.yaml --tier standard --allow-tier standard "
    "--requests-per-minute 600 --budget-usd 50 --budget-period month",
)
@click.argument("name")
@_limit_options
@store_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, the key as `token`.")
def create(
    name: str,
    tier: str | None,
    tiers: tuple[str, ...],
    models: tuple[str, ...],
    target_range: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    budget_usd: float | None,
    budget_period: Any,
    budget_paced: bool,
    admin: bool,
    config_file: Path | None,
    store_url: str | None,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it: the only time that it can be seen."""
    with extra("serve"):
        from proteus_router.serving.records import ApiKey
        from proteus_router.serving.tenants import issue_key

    place = Place.of(config_file, store_url)
    _require_known("tier", [*([tier] if tier else []), *tiers], place.tiers)
    _require_known("model", models, place.models)
    wanted = ApiKey(
        id="",
        name=name,
        tier=tier,
        tiers=tiers or None,
        models=models or None,
        target_range=None if target_range is None else _range(target_range),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget_usd=budget_usd,
        budget_period=budget_period,
        budget_paced=budget_paced,
        admin=admin,
    )
    key, token = with_store(place.url, lambda store: issue_key(store, wanted))
    if as_json:
        click.echo(json.dumps({**asdict(key), "token": token}))
        return
    click.echo(token)
    click.echo(f"{key.id}: shown once; only its hash is stored.", err=True)


@keys_group.command("list", epilog="Example: proteus keys list --config proteus.yaml")
@store_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_keys(config_file: Path | None, store_url: str | None, as_json: bool) -> None:
    """Show every key, revoked ones too, and what it may do; never the key itself."""
    keys = with_store(Place.of(config_file, store_url).url, lambda store: store.list_keys())
    if as_json:
        click.echo(json.dumps([asdict(key) for key in keys]))
        return
    if not keys:
        click.echo("no keys; try: proteus keys create NAME")
    for key in keys:
        state = "active" if key.revoked_at is None else f"revoked {_date(key.revoked_at)}"
        click.echo(f"{key.id}  {key.name}  made {_date(key.created_at)}, {state}; {_may(key)}")


@keys_group.command(
    "revoke", epilog="Example: proteus keys revoke key_0f3a9c1b2d4e5f60 --config proteus.yaml"
)
@click.argument("key_id")
@store_options
def revoke(key_id: str, config_file: Path | None, store_url: str | None) -> None:
    """Revoke the key KEY_ID (`proteus keys list` shows it) for good."""
    key = with_store(Place.of(config_file, store_url).url, lambda store: store.revoke_key(key_id))
    click.echo(f"{key.id} ({key.name}) is revoked.")


def _require_known(what: str, given: Iterable[str], known: tuple[str, ...] | None) -> None:
    for name in given:
        if known is not None and name not in known:
            raise InvalidKeyError(f"no {what} {name!r} in the configuration; there are {', '.join(known)}.")


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not LOW:HIGH, such as 0.7:0.9.", param_hint="--target-range"
        ) from None
    return low, high


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _may(key: ApiKey) -> str:
    if key.admin:
        return "admin"
    parts = [
        f"tier {key.tier}" if key.tier else "",
        f"tiers {', '.join(key.tiers)}" if key.tiers else "",
        f"models {', '.join(key.models)}" if key.models else "",
        f"targets {key.target_range[0]:g} to {key.target_range[1]:g}" if key.target_range else "",
        f"{key.requests_per_minute} requests/min" if key.requests_per_minute else "",
        f"{key.tokens_per_minute} tokens/min" if key.tokens_per_minute else "",
        f"{key.budget_usd:g} USD/{key.budget_period}{', paced' if key.budget_paced else ''}"
        if key.budget_usd
        else "",
    ]
    return "; ".join(part for part in parts if part) or "no limits"
