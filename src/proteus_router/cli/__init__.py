"""The `proteus` command. Each group of commands is a file; it is imported when it is called.

Exit codes: 0 done; 1 unexpected; 2 usage or configuration; 3 data; 4 encoder; 5 artifact; 6 target not a
fraction; 7 target can't be certified; 8 query or routing; 9 training; 10 the system refused (disk full,
permission); 11 upstream; 12 store; 13 access; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from proteus_router._version import __version__
from proteus_router.errors import ProteusError

__all__ = ["cli", "main"]

_COMMANDS = {
    "train": ("proteus_router.cli.train", "train"),
    "route": ("proteus_router.cli.route", "route"),
    "inspect": ("proteus_router.cli.inspect", "inspect_router"),
    "evaluate": ("proteus_router.cli.evaluate", "evaluate_router"),
    "benchmark": ("proteus_router.cli.benchmark", "benchmark"),
    "arena": ("proteus_router.cli.arena", "arena"),
    "pool": ("proteus_router.cli.pool", "pool_group"),
    "data": ("proteus_router.cli.data", "data_group"),
    "encoder": ("proteus_router.cli.encoder", "encoder_group"),
    "demo": ("proteus_router.cli.demo", "demo"),
    "serve": ("proteus_router.cli.serve", "serve"),
    "config": ("proteus_router.cli.config", "config_group"),
    "keys": ("proteus_router.cli.keys", "keys_group"),
    "store": ("proteus_router.cli.store", "store_group"),
    "provider": ("proteus_router.cli.provider", "provider"),
    "judge": ("proteus_router.cli.judge", "judge"),
    "simulate": ("proteus_router.cli.simulate", "simulate"),
    "replay": ("proteus_router.cli.learn", "replay"),
    "learn": ("proteus_router.cli.learn", "learn"),
}
SYSTEM_REFUSED, INTERRUPTED = 10, 130


class _LazyGroup(click.Group):
    """Imports a command's file when the command is named, so that `proteus route` loads no training code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=__doc__)
@click.version_option(__version__, prog_name="proteus")
def cli() -> None:
    """PROTEUS: meet a stated accuracy floor over several language models at the lowest cost, and certify it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every deliberate error becomes one line on stderr and its family's exit code."""
    try:
        code = cli.main(arguments, prog_name="proteus", standalone_mode=False)
    except ProteusError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted.", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away: `proteus route ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SYSTEM_REFUSED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(
            f"{place}{error.strerror or error}. Nothing that was there before has been changed.",
            SYSTEM_REFUSED,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    click.echo(f"proteus: {message}", err=True)
    sys.exit(code)
