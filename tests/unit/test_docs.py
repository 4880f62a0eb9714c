"""The docs name what exists: docs/cli.md is the commands' own help, every relative link leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from proteus_router.baselines import registry
from proteus_router.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands(group: click.Group, path: str = "proteus") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "proteus_router.cli.reference"]  # alone: click remembers earlier calls
    said = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout
    assert written == said, "run: python -m proteus_router.cli.reference > docs/cli.md"


def test_every_router_of_the_benchmark_is_in_the_docs() -> None:
    written = (ROOT / "docs" / "baselines.md").read_text(encoding="utf-8")
    assert registry.reference() in written, "put baselines.registry.reference() into docs/baselines.md"


@pytest.mark.parametrize(("name", "command"), list(_commands(cli)), ids=lambda value: str(value)[:40])
def test_every_command_has_help_and_an_example(name: str, command: click.Command) -> None:
    assert command.help, name
    if not isinstance(command, click.Group):
        assert "Example" in f"{command.help}{command.epilog}", name
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link
