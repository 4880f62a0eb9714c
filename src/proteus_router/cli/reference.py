"""docs/cli.md, generated from the commands: ``python -m proteus_router.cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from proteus_router.cli import cli

__all__ = ["reference"]


def reference() -> str:
    """The command-line reference as Markdown: every command with its help text as a terminal shows it."""
    pages = [
        "# Command line",
        "Generated from the commands themselves by `python -m proteus_router.cli.reference`. Exit codes are listed at the "
        "end of `proteus --help`.",
    ]
    for path, command in [("proteus", cli), *_walk(cli, "proteus")]:
        # As when a command is called: click keeps the help option that it made first, whoever asked.
        context = click.Context(
            command,
            info_name=path,
            terminal_width=100,
            max_content_width=100,
            help_option_names=cli.context_settings["help_option_names"],
        )
        pages.append(f"## {path}\n\n```\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(pages) + "\n"


def _walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{path} {name}")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
