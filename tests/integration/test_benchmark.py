"""`proteus benchmark` from data to report, on good data and bad; killed and gone on with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from proteus_router.cli import main
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import write_outcomes
from proteus_router.data.synthetic import make_world

ROUTERS = "always-cheapest,always-best,static-mix,plugin-ridge"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def proteus(*arguments: str | Path) -> Result:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def bench(folder: Path, output: Path, *more: str, routers: str = ROUTERS, seeds: int = 2) -> Result:
    fixed = ("--routers", routers, "--seeds", str(seeds), "--jobs", "1", "--experiments", "none")
    return proteus("benchmark", folder, "-o", output, *fixed, *more)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return replace(make_world(0, n_models=4).sample(260, 1).table, name="little")


@pytest.fixture(scope="module")
def data(table: OutcomeTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "little"
    write_outcomes(table, folder)
    return folder


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    result = bench(data, output)
    assert result.code == 0, result.err
    assert re.search(r"\[8/8\] .*little seed \d \S+: fitted, .* left", result.err)
    return output


def _numbers(output: Path) -> list[tuple[object, ...]]:
    """All rows of a run but those that measure time."""
    columns = pq.read_table(output / "results.parquet").to_pylist()
    timed = ("seconds", "latency_ms")
    return sorted(tuple(map(repr, row.values())) for row in columns if row["metric"] not in timed)


def test_a_run_leaves_what_it_says(done: Path) -> None:
    for name in ("report.html", "report.md", "results.parquet", "manifest.json"):
        assert (done / name).stat().st_size > 0
    pictures = {path.suffix for path in (done / "figures").iterdir()}
    assert pictures == {".png", ".svg"}
    manifest = json.loads((done / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seeds"] == [0, 1]
    assert manifest["routers"] == ROUTERS.split(",")
    assert manifest["data"][0]["name"] == "little"
    assert manifest["data"][0]["simulated"] is True
    assert manifest["failures"] == []
    assert {"commit", "version", "packages", "code_fingerprint"} <= manifest.keys()
    seen = {(row["router"], row["seed"]) for row in pq.read_table(done / "results.parquet").to_pylist()}
    assert {(router, seed) for router in ROUTERS.split(",") for seed in (0, 1)} <= seen


def test_the_report_says_that_the_data_are_simulated(done: Path) -> None:
    assert "made-up models" in (done / "report.md").read_text(encoding="utf-8")


def test_a_second_run_does_nothing_again_and_says_the_same(data: Path, done: Path) -> None:
    before, page = _numbers(done), (done / "report.md").read_text(encoding="utf-8")
    result = bench(data, done)
    assert result.code == 0
    assert "8 of 8 steps are done already" in result.err
    assert "fitted" not in result.err
    assert _numbers(done) == before
    after = (done / "report.md").read_text(encoding="utf-8")
    assert after.partition("## Method")[0] == page.partition("## Method")[0]


def test_a_killed_run_goes_on_to_the_same_result(data: Path, done: Path, tmp_path: Path) -> None:
    fixed = ["--routers", ROUTERS, "--seeds", "2", "--jobs", "1", "--experiments", "none"]
    command = [sys.executable, "-m", "proteus_router", "benchmark", str(data), "-o", str(tmp_path), *fixed]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "[2/8]" in line:
                os.kill(run.pid, signal.SIGKILL)
                break
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "report.html").exists()
    result = bench(data, tmp_path)
    assert result.code == 0, result.err
    kept = re.search(r"(\d) of 8 steps are done already", result.err)
    assert kept is not None
    assert 2 <= int(kept[1]) < 8
    assert _numbers(tmp_path) == _numbers(done)


def test_an_interrupted_run_says_so_and_leaves_nobody_behind(data: Path, tmp_path: Path) -> None:
    fixed = ["--routers", ROUTERS, "--seeds", "2", "--jobs", "2", "--experiments", "none"]
    command = [sys.executable, "-m", "proteus_router", "benchmark", str(data), "-o", str(tmp_path), *fixed]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = ""
        for line in run.stderr:
            said += line
            if "[1/8]" in line:
                os.kill(run.pid, signal.SIGINT)
                break
        said += run.stderr.read()  # to the end: every process that held it is gone
    assert run.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said


def test_a_worker_that_dies_fails_the_run_and_not_the_others(
    table: OutcomeTable, data: Path, tmp_path: Path
) -> None:
    from proteus_router.evaluation.harness.datasets import BenchData, load_data
    from proteus_router.evaluation.harness.plan import Plan
    from proteus_router.evaluation.harness.schedule import run_plan

    gone = BenchData(str(tmp_path / "gone"), replace(table, name="gone"), 0.3)
    whole = load_data(str(data))
    plan = Plan(tmp_path, (gone.spec, whole.spec), (0,), ("static-mix",), experiments=())
    lines: list[str] = []
    failures = run_plan(plan, [gone, whole], jobs=1, say=lines.append)
    assert len(failures) == 1
    assert "the process ended with code 1" in failures[0]
    assert "no such file" in failures[0]
    assert any("little" in line and "fitted" in line for line in lines)


def test_a_worker_ends_when_its_parent_is_gone(data: Path, tmp_path: Path) -> None:
    from proteus_router.evaluation.harness.plan import Plan

    Plan(tmp_path, (str(data),), (0,), ("static-mix",), experiments=()).save(tmp_path / "plan.json")
    arguments = [str(tmp_path / "plan.json"), str(data), "0", str(tmp_path / "cell")]
    with subprocess.Popen(
        [sys.executable, "-m", "proteus_router.evaluation.harness.worker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.wait(timeout=60) == 1


@pytest.mark.parametrize("kind", ["missing", "few", "equal", "free", "free model", "graded"])
def test_odd_data_give_a_correct_table(table: OutcomeTable, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    scores, costs = table.scores.copy(), table.costs_usd.copy()
    if kind == "missing":
        gone = rng.random(scores.shape) < 0.3
        gone[gone.all(axis=1), 0] = False
        scores[gone] = costs[gone] = np.nan
    elif kind == "equal":
        scores[:] = 1.0
    elif kind == "free":
        costs[:] = 0.0
    elif kind == "free model":
        costs[:, 0] = 0.0
    elif kind == "graded":
        scores = np.clip(scores * 0.7 + 0.3 * rng.random(scores.shape), 0, 1)
    odd = replace(table, scores=scores, costs_usd=costs, extras={})
    write_outcomes(odd.take(range(50)) if kind == "few" else odd, tmp_path / "odd")
    result = bench(tmp_path / "odd", tmp_path / "run", seeds=1)
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"\bnan\b|\binf\b|None", text, re.IGNORECASE)
    values = pq.read_table(tmp_path / "run" / "results.parquet")["value"].to_pylist()
    assert all(value is None or np.isfinite(value) for value in values)
    line = next(line for line in text.splitlines() if line.startswith("| static mix |"))
    ratio = line.split("|")[2].strip()
    if kind == "free":
        assert ratio == "–"
    elif kind == "equal":
        assert float(ratio) == pytest.approx(1.0)
    else:
        assert 0.8 < float(ratio) < 1.3


def test_unusable_data_are_refused_in_a_sentence(table: OutcomeTable, tmp_path: Path) -> None:
    write_outcomes(table.with_models(table.models[:1]), tmp_path / "one")
    write_outcomes(table.take(range(30)), tmp_path / "thirty")
    for name, said in (("one", "1 model"), ("thirty", "30 queries"), ("none", "no such file")):
        result = bench(tmp_path / name, tmp_path / "run")
        assert result.code == 3
        assert said in result.err
        assert "Traceback" not in result.err
        assert not (tmp_path / "run").exists()


def test_wrong_names_are_refused_with_the_nearest(data: Path, tmp_path: Path) -> None:
    result = bench(data, tmp_path / "run", routers="static-mixx")
    assert result.code == 2
    assert "static-mix" in result.err
    fixed = ("--routers", "static-mix", "--experiments", "leek")
    result = proteus("benchmark", data, "-o", tmp_path / "run", *fixed)
    assert result.code == 2
    assert "leak" in result.err
    result = proteus("benchmark", data, data, "-o", tmp_path / "run", "--routers", "static-mix")
    assert result.code == 2
    assert "two data sets" in result.err
