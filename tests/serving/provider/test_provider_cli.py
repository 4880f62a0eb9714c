"""`proteus provider` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from proteus_router.cli import main
from proteus_router.data.synthetic import make_world
from proteus_router.serving.settings import load_configuration


def test_it_serves_until_interrupted() -> None:
    command = [
        sys.executable,
        "-m",
        "proteus_router",
        "provider",
        "--port",
        "0",
        "--models",
        "2",
        "--sample",
        "5",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("2 simulated models at http://127.0.0.1:")
            assert "5 known questions" in line
            address = line.split()[4].rstrip(",")
            with urllib.request.urlopen(f"{address}/models", timeout=10) as answer:
                assert len(json.load(answer)["data"]) == 2
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 130)
        assert "Traceback" not in process.stderr.read()


def test_it_writes_the_questions_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    with pytest.raises(SystemExit) as exited:
        main(["provider", "--sample", "20:3", "--write-prompts", str(path), "--limit", "7", "--models", "2"])
    assert exited.value.code == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 7
    assert list(lines[0]) == ["query_id", "query", "task", "reference"]
    assert lines[0]["query_id"] == "sim0.3.000000"


@pytest.mark.parametrize(
    "arguments", [["--sample", "many"], ["--order", '{"fault": "x"}'], ["--models", "99"]]
)
def test_wrong_usage_is_exit_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["provider", "--models", "2", "--sample", "5", *arguments])
    assert exited.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_port_in_use_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit) as exited:
            main(["provider", "--models", "2", "--sample", "5", "--port", str(taken.getsockname()[1])])
    assert exited.value.code == 10
    assert "Address already in use" in capsys.readouterr().err


def test_it_writes_a_configuration_of_its_pool(tmp_path: Path) -> None:
    path = tmp_path / "proteus.yaml"
    with pytest.raises(SystemExit) as exited:
        main(["provider", "--sample", "5", "--models", "3", "--port", "9123", "--write-config", str(path)])
    assert exited.value.code == 0
    pool = load_configuration(path).pool
    cards = make_world(0, n_models=3).models
    assert {model.api_base for model in pool} == {"http://127.0.0.1:9123/v1"}
    assert {model.api for model in pool} == {"chat", "responses", "messages"}
    prices = {model.name: model.output_usd_per_token for model in pool}
    assert prices == {card.name: pytest.approx(card.output_price_usd_per_mtok / 1e6) for card in cards}
