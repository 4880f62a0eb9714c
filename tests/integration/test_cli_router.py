"""The command line from outcomes to decisions, in one process where it can be and in real ones where it must."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proteus_router.cli import main
from proteus_router.data.sources import write_outcomes
from proteus_router.data.synthetic import make_world

N_TRAIN = 600


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def proteus(*arguments: str | Path, stdin: str | None = None) -> Result:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        old = sys.stdin
        if stdin is not None:
            sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8")))
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stdin = old
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    table = make_world(0, n_models=8).sample(N_TRAIN + 400, 1).table
    write_outcomes(table.take(range(N_TRAIN)), folder / "train")
    write_outcomes(table.take(range(N_TRAIN, N_TRAIN + 400)), folder / "test")
    (folder / "fast.yaml").write_text(
        "heads: {estimators: [kernel]}\npolicy: {steps: 20}\n", encoding="utf-8"
    )
    (folder / "short.yaml").write_text("policy: {steps: 100}\n", encoding="utf-8")
    result = proteus("train", folder / "train", "-o", folder / "router", "--config", folder / "fast.yaml")
    assert result.code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def target(place: Path) -> float:
    """A target that certifies."""
    limits = json.loads(proteus("inspect", place / "router", "--json").out)["certified_range"]
    assert limits["max_target"] is not None
    return float(limits["max_target"]) - 0.005


def _query_lines(count: int, **extra: Any) -> str:
    return "".join(
        json.dumps({"query_id": f"q{i}", "query": f"What is {i} times {i + 1}?", **extra}) + "\n"
        for i in range(count)
    )


def test_training_leaves_the_router_and_the_log_and_nothing_else(place: Path) -> None:
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("router")) == [
        "router",
        "router.train.jsonl",
    ]
    listed = json.loads((place / "router" / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert {path.name for path in (place / "router").iterdir()} == {"manifest.json", *listed}
    lines = (place / "router.train.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_inspect_shows_models_points_and_range(place: Path) -> None:
    shown = json.loads(proteus("inspect", place / "router", "--json").out)
    assert shown["simulated"] is True
    assert len(shown["models"]) == 8
    point = shown["operating_points"][0]
    assert {"internal_target", "accuracy", "accuracy_lower", "cost_usd"} <= set(point)
    accuracies = [p["internal_target"] for p in shown["operating_points"]]
    assert accuracies == sorted(accuracies, reverse=True)
    text = proteus("inspect", place / "router").out
    assert "simulated" in text
    assert shown["models"][0]["name"] in text


def test_route_explains_one_decision(place: Path, target: float) -> None:
    result = proteus(
        "route", place / "router", "--accuracy-target", str(target), "--json", "What is 3 plus 4?"
    )
    decision = json.loads(result.out)
    assert result.code == 0
    assert decision["certified"] is True
    assert decision["model"] in [candidate["model"] for candidate in decision["candidates"]]
    text = proteus("route", place / "router", "--accuracy-target", str(target), "What is 3 plus 4?").out
    assert "Certified" in text


@pytest.mark.parametrize("from_stdin", [True, False])
def test_route_lines_in_lines_out(place: Path, target: float, tmp_path: Path, from_stdin: bool) -> None:
    lines = _query_lines(50)
    (tmp_path / "in.jsonl").write_text(lines, encoding="utf-8")
    source, stdin = ("-", lines) if from_stdin else (str(tmp_path / "in.jsonl"), None)
    arguments = (
        "route",
        place / "router",
        "--input",
        source,
        "--accuracy-target",
        str(target),
        "--seed",
        "7",
    )
    first, second = proteus(*arguments, stdin=stdin), proteus(*arguments, stdin=stdin)
    decisions = [json.loads(line) for line in first.out.splitlines()]
    assert [decision["query_id"] for decision in decisions] == [f"q{i}" for i in range(50)]
    fields = {
        "query_id",
        "model",
        "accuracy_target",
        "predicted_score",
        "predicted_cost_usd",
        "certified",
        "propensity",
    }
    assert all(set(decision) == fields and decision["certified"] is True for decision in decisions)
    assert first.out == second.out


def test_the_line_wins_over_the_option(place: Path, target: float) -> None:
    result = proteus(
        "route",
        place / "router",
        "--input",
        "-",
        "--accuracy-target",
        "0.99",
        stdin=_query_lines(2, accuracy_target=target),
    )
    assert [json.loads(line)["accuracy_target"] for line in result.out.splitlines()] == [target, target]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ('{"query_id": "a", "query": ""}', 8, "empty"),
        ('{"query_id": "a"}', 3, "query_id"),
        ("not json", 3, "line 2"),
        ('{"query_id": "a", "query": "x", "accuracy_target": 95}', 6, "0.95"),
        ('{"query_id": "a", "query": "x", "accuracy_target": 0.999}', 7, "certified"),
        ('{"query_id": "a", "query": 7}', 8, "text"),
    ],
)
def test_a_bad_line_stops_everything_before_the_first_decision(
    place: Path, target: float, line: str, code: int, says: str
) -> None:
    result = proteus(
        "route",
        place / "router",
        "--input",
        "-",
        "--accuracy-target",
        str(target),
        stdin=_query_lines(1) + line + "\n",
    )
    assert (result.code, result.out) == (code, "")
    assert says in result.err


@pytest.mark.parametrize(
    ("given", "says"), [("0", "between"), ("1", "between"), ("95", "0.95"), ("nan", "0"), ("high", "number")]
)
def test_targets_that_are_no_fraction(place: Path, given: str, says: str) -> None:
    result = proteus("route", place / "router", "--accuracy-target", given, "hello there")
    assert (result.code, result.out) == (6, "")
    assert says in result.err


def test_an_infeasible_target_is_rejected_or_served_as_best_effort(place: Path) -> None:
    arguments = ("route", place / "router", "--accuracy-target", "0.995", "--json", "hello there")
    rejected = proteus(*arguments)
    assert (rejected.code, rejected.out) == (7, "")
    served = proteus(*arguments, "--on-infeasible", "best_effort")
    assert served.code == 0
    assert json.loads(served.out)["certified"] is False


@pytest.mark.parametrize(
    "arguments", [("--accuracy-target", "0.7"), ("some text",), ("text", "--input", "x.jsonl")]
)
def test_usage_errors_are_exit_code_2(place: Path, arguments: tuple[str, ...]) -> None:
    result = proteus("route", place / "router", *arguments)
    assert (result.code, result.out) == (2, "")


def test_evaluate_reports_every_target(place: Path) -> None:
    result = proteus("evaluate", place / "router", place / "test", "--json", "--targets", "0.55:0.99:5")
    report = json.loads(result.out)
    assert result.code == 0
    assert [line["accuracy_target"] for line in report["targets"]] == pytest.approx(
        [0.55, 0.66, 0.77, 0.88, 0.99]
    )
    assert report["targets"][-1]["certified"] is False
    assert report["simulated"] is True
    assert 0.2 < report["cost_ratio_to_static_mix"] < 1.3
    low, high = report["targets"][0]["accuracy_interval"]
    assert low < report["targets"][0]["accuracy"] < high


def test_evaluate_expected_serves_every_level_and_certifies_none(place: Path) -> None:
    report = json.loads(
        proteus(
            "evaluate",
            place / "router",
            place / "test",
            "--json",
            "--guarantee",
            "expected",
            "--targets",
            "0.6,0.7",
        ).out
    )
    assert [line["certified"] for line in report["targets"]] == [False, False]
    assert len(report["cost_ratio_levels"]) == 12


def test_evaluate_simultaneous_asks_for_more(place: Path) -> None:
    def internal(*flags: str) -> list[float]:
        out = proteus(
            "evaluate", place / "router", place / "test", "--json", "--targets", "0.55:0.65:9", *flags
        ).out
        return [line["internal_target"] for line in json.loads(out)["targets"]]

    assert all(a >= b for a, b in zip(internal("--simultaneous"), internal(), strict=True))
    assert internal("--simultaneous") != internal()


def test_evaluate_refuses_the_training_rows(place: Path) -> None:
    result = proteus("evaluate", place / "router", place / "train")
    assert (result.code, result.out) == (3, "")
    assert "used to train" in result.err


def test_evaluate_draws_its_figures(place: Path, tmp_path: Path) -> None:
    assert proteus("evaluate", place / "router", place / "test", "--figures", tmp_path / "f").code == 0
    for name in ("frontier.png", "targets.png"):
        assert (tmp_path / "f" / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("given", ["0.7:0.8", "0.7:0.8:x", "0.7:8:3", "a,b"])
def test_unreadable_target_lists(place: Path, given: str) -> None:
    assert proteus("evaluate", place / "router", place / "test", "--targets", given).code in (3, 6)


@pytest.fixture
def damaged(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "router", tmp_path / "router")
    return tmp_path / "router"


def test_a_truncated_router_is_refused(damaged: Path) -> None:
    file = damaged / "predictor.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    result = proteus("inspect", damaged)
    assert (result.code, result.out) == (5, "")
    assert "predictor.safetensors" in result.err


def test_an_edited_certificate_is_refused(damaged: Path) -> None:
    manifest = damaged / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('"confidence": 0.95', '"confidence": 0.99'), encoding="utf-8")
    assert proteus("inspect", damaged).code == 5


def test_a_newer_router_is_refused(damaged: Path) -> None:
    manifest = damaged / "manifest.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 2')
    )
    result = proteus("inspect", damaged)
    assert result.code == 5
    assert "Upgrade" in result.err


def test_a_missing_router_is_refused(tmp_path: Path) -> None:
    assert proteus("inspect", tmp_path / "nothing").code == 5


def test_an_existing_router_is_kept_without_force(place: Path) -> None:
    before = (place / "router" / "manifest.json").read_bytes()
    result = proteus("train", place / "train", "-o", place / "router")
    assert result.code == 2
    assert "--force" in result.err
    assert (place / "router" / "manifest.json").read_bytes() == before


def test_training_twice_gives_the_same_bytes_and_force_replaces(damaged: Path, place: Path) -> None:
    before = {path.name: path.read_bytes() for path in damaged.iterdir()}
    result = proteus("train", place / "train", "-o", damaged, "--force", "--config", place / "fast.yaml")
    assert result.code == 0, result.err
    assert {path.name: path.read_bytes() for path in damaged.iterdir()} == before
    assert not damaged.with_name("router.partial").exists()


def test_a_refused_data_set_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = proteus("train", tmp_path / "data", "-o", tmp_path / "router")
    assert result.code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_unknown_setting_names_the_nearest(place: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("confidance: 0.9\n", encoding="utf-8")
    result = proteus("train", place / "train", "-o", tmp_path / "router", "--config", tmp_path / "c.yaml")
    assert result.code == 2
    assert "confidence" in result.err


def test_few_rows_train_and_refuse_with_the_number_of_rows(place: Path, tmp_path: Path) -> None:
    from proteus_router.data.sources import read_outcomes

    write_outcomes(read_outcomes(place / "train").take(range(60)), tmp_path / "few")
    result = proteus("train", tmp_path / "few", "-o", tmp_path / "router", "--config", place / "fast.yaml")
    assert result.code == 0, result.err
    served = proteus("route", tmp_path / "router", "--accuracy-target", "0.93", "hello there")
    assert (served.code, served.out) == (7, "")
    assert "n = 60" in served.err


def _train_process(place: Path, router: Path, *flags: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "proteus_router",
        "train",
        str(place / "train"),
        "-o",
        str(router),
        "--config",
        str(place / "short.yaml"),
        *flags,
    ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _stop_midway(process: subprocess.Popen[bytes], partial: Path, stages: int, sign: signal.Signals) -> str:
    """Send `sign` once so many stages are on disk; returns stderr."""
    deadline = time.monotonic() + 60
    while len(list(partial.glob("stages/*.safetensors"))) < stages and time.monotonic() < deadline:
        assert process.poll() is None, "training ended before it could be stopped"
        time.sleep(0.01)
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    return err.decode()


def test_training_killed_resumed_interrupted_and_resumed_equals_uninterrupted(
    place: Path, tmp_path: Path
) -> None:
    router, whole, partial = tmp_path / "router", tmp_path / "whole", tmp_path / "router.partial"
    _stop_midway(_train_process(place, router), partial, 3, signal.SIGKILL)  # in the heads
    assert not router.exists()
    resumed = _train_process(place, router, "--resume")
    assert "--resume" in _stop_midway(resumed, partial, 16, signal.SIGINT)  # in the policy
    assert not router.exists()
    for folder, flags in ((router, ["--resume"]), (whole, [])):
        process = _train_process(place, folder, *flags)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert not partial.exists()
    assert {p.name: p.read_bytes() for p in router.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


def test_resume_refuses_another_runs_leftovers(place: Path, tmp_path: Path) -> None:
    partial = tmp_path / "router.partial"
    partial.mkdir()
    (partial / "run.json").write_text('{"version": "0"}', encoding="utf-8")
    result = proteus("train", place / "train", "-o", tmp_path / "router", "--resume")
    assert result.code == 2
    assert "--resume" in result.err


def test_a_full_disk_keeps_the_old_router(
    damaged: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import proteus_router.routing.artifact as artifact

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(artifact, "_write_durably", full)
    before = {path.name: path.read_bytes() for path in damaged.iterdir()}
    result = proteus("train", place / "train", "-o", damaged, "--force", "--config", place / "fast.yaml")
    assert result.code == 10
    assert "No space left" in result.err
    assert {path.name: path.read_bytes() for path in damaged.iterdir()} == before
