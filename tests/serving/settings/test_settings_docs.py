"""docs/configuration.md says what the settings say, and its example is a configuration."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from proteus_router.serving.settings import make_configuration
from proteus_router.serving.settings.reference import END, START, reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_tables_are_the_settings() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = text[text.index(START) + len(START) : text.index(END)].strip()
    assert written == reference().strip(), "run: python -m proteus_router.serving.settings.reference"


def test_the_example_is_read() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    environ = {"OPENAI_API_KEY": "sk-proj-8d1f"}
    configuration = make_configuration(yaml.safe_load(found[1]), source="docs", environ=environ)
    assert [(model.name, model.api) for model in configuration.pool] == [
        ("small", "chat"),
        ("small", "responses"),
        ("large", "chat"),
    ]
    assert configuration.settings.server_tier == "standard"
    assert configuration.warnings == ()
