"""The README's example, run as it stands but for the address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.serving.clients.helpers import Served

README = Path(__file__).parents[3] / "README.md"


def test_the_readmes_example_runs(gateway: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(
        r"```python\n(from openai import .*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found
    code = found[1].replace("http://127.0.0.1:8080", gateway.address)
    assert code != found[1]
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    model, _, text = capsys.readouterr().out.partition(" ")
    gateway.check_answer(text, model, names["question"][0]["content"])  # type: ignore[index]
    names["client"].close()  # type: ignore[attr-defined]
