"""`proteus data collect` from end to end."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proteus_router.cli import main
from proteus_router.data.sources import read_outcomes
from proteus_router.serving.provider import Order, Provider, files

Collect = Callable[..., list[str]]


@pytest.fixture
def arguments(provider: Provider, pool_served: tuple[Provider, str], tmp_path: Path) -> Collect:
    files.write_config(provider.truth, tmp_path / "proteus.yaml", pool_served[1])
    files.write_prompts(provider.truth, tmp_path / "prompts.jsonl", 60)

    def make(*more: str, grader: str = "regex") -> list[str]:
        pattern = ["--pattern", "Answer: (.+)"] if grader == "regex" else []
        config, prompts = str(tmp_path / "proteus.yaml"), str(tmp_path / "prompts.jsonl")
        start = ["data", "collect", "--config", config, "--prompts", prompts, "--grader", grader]
        return [*start, *pattern, "-o", str(tmp_path / "out"), *more]

    return make


def _run(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    return exited.value.code


def test_it_writes_a_data_set_that_can_be_trained_on(
    arguments: Collect, provider: Provider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(arguments("--yes", "--simulated")) == 0
    said = capsys.readouterr().err
    assert "about" in said
    assert "180 of 180 outcomes" in said
    table = read_outcomes(tmp_path / "out")
    assert (table.n_queries, table.models, table.simulated) == (60, provider.truth.models, True)
    assert _run(arguments("--yes")) == 0  # nothing is missing: nothing is asked, nothing is spent
    assert "0.0000 USD in this run" in capsys.readouterr().err
    assert provider.seen.requests.total() == 180


def test_it_does_not_spend_without_being_told(
    arguments: Collect,
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert _run(arguments()) == 2
    assert "add --yes" in capsys.readouterr().err
    assert not provider.seen.requests


def test_the_limit_is_an_exit_code_of_its_own_and_the_data_is_there(
    arguments: Collect, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(arguments("--yes", "--max-usd", "0.03", "--expect-tokens", "60")) == 3
    assert "stopped at the limit of 0.03 USD. Run the same command again" in capsys.readouterr().err
    table = read_outcomes(tmp_path / "out", for_training=False)
    assert 0 < table.n_queries < 60


def test_failures_are_named(
    arguments: Collect, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.orders.set(provider.truth.models[0], Order(fault="status", status=400))
    assert _run(arguments("--yes", "--limit", "5")) == 3
    said = capsys.readouterr().err
    assert f"warning: {provider.truth.models[0]}: 5 x" in said
    assert "10 of 15 outcomes are there: some answers failed" in said


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        (["--body", "{"], 2, "--body"),
        (["--body", '{"model": "x"}'], 2, "--body"),
        (["--models", "gpt"], 2, "no model named 'gpt'"),
        (["--pattern", "("], 3, "not a regular expression"),
        (["--judge", "dunlin-ultra"], 2, "judge"),
        (["--prompts", "nowhere.jsonl"], 3, "no such file"),
        (["--config", "nowhere.yaml"], 2, "cannot be read"),
    ],
)
def test_mistakes_are_said_before_anything_is_asked(
    more: list[str],
    code: int,
    what: str,
    arguments: Collect,
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(arguments("--yes", *more)) == code
    assert what in capsys.readouterr().err
    assert not provider.seen.requests


def test_a_run_that_is_killed_goes_on_where_it_ended(
    arguments: Collect, provider: Provider, tmp_path: Path
) -> None:
    provider.orders.set("*", Order(latency_s=0.03))
    command = [sys.executable, "-m", "proteus_router", *arguments("--yes", "--concurrency", "4")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        journal = tmp_path / "out" / "collect.journal"
        deadline = time.monotonic() + 30
        while not journal.exists() or journal.read_bytes().count(b"\n") < 30:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    provider.orders.clear()
    time.sleep(0.1)  # requests of the killed process are answered to nobody
    kept, asked = journal.read_bytes().count(b"\n") - 1, provider.seen.requests.total()
    assert 29 <= kept < 180
    assert _run(arguments("--yes")) == 0
    assert provider.seen.requests.total() - asked == 180 - kept
    assert read_outcomes(tmp_path / "out").observed.all()
