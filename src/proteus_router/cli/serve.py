"""`proteus serve`: the gateway."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proteus_router.cli.extras import extra
from proteus_router.routing.router import Router

if TYPE_CHECKING:
    from proteus_router.serving.settings import Configuration

__all__ = ["serve"]


@click.command(
    epilog="Example: proteus serve router/ --config proteus.yaml --port 8080\n\n"
    "Example: proteus serve --demo\n\n"
    "Settings: docs/configuration.md. SIGTERM ends it without losing what was begun; SIGHUP reads ROUTER and "
    "--config anew."
)
@click.argument("router", required=False, type=click.Path(path_type=Path))
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file of the gateway.")
@click.option("--host", help="Address to listen on; over server.host (127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; over server.port (8080). 0 takes a free one."
)
@click.option(
    "--demo",
    is_flag=True,
    help="Serve a simulated world: tiers economy, standard and premium, no model is called, any key will do.",
)
def serve(
    router: Path | None, config_file: Path | None, host: str | None, port: int | None, demo: bool
) -> None:
    """Serve the models of a pool behind one OpenAI-compatible address, each tier at its accuracy floor."""
    if demo:
        if router is not None or config_file is not None or host is not None:
            raise click.UsageError("--demo brings its own router and configuration, on 127.0.0.1.")
        _serve_demo(8080 if port is None else port)
        return
    if router is None or config_file is None:
        raise click.UsageError("Give ROUTER and --config FILE, or --demo.")
    with extra("serve"):
        from proteus_router.serving.runtime import Files, run_gateway
    files = Files(router, config_file)

    def load() -> tuple[Configuration, Router]:
        configuration, loaded = files.load()
        return _listening_on(configuration, host, port), loaded

    configuration, loaded = load()
    run_gateway(configuration, loaded, load=load, ready=_ready)


def _serve_demo(port: int) -> None:
    with extra("serve"):
        from proteus_router.cli.gateway_demo import demo_gateway
        from proteus_router.serving.runtime import run_gateway

        with demo_gateway(port) as (configuration, router):
            run_gateway(configuration, router, ready=_demo_ready)


def _listening_on(configuration: Configuration, host: str | None, port: int | None) -> Configuration:
    """The configuration with the command line's address in it."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = configuration.settings
    server = settings.server.model_copy(update=given)
    return replace(configuration, settings=settings.model_copy(update={"server": server}))


def _ready(address: str) -> None:
    click.echo(f"proteus: serving at {address}/v1", err=True)


def _demo_ready(address: str) -> None:
    _ready(address)
    click.echo(
        f"  try: curl {address}/v1/chat/completions -H 'content-type: application/json' \\\n"
        '         -d \'{"model": "proteus/premium", "messages": [{"role": "user", "content": "What is 7 * 8?"}]}\'',
        err=True,
    )
